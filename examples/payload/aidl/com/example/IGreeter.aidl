package com.example;

/** Served by greeter.py on vsock port 5679. */
interface IGreeter {
    String greet(String name);

    /** Ends the payload. */
    oneway void quit();
}
