package com.example;

import com.example.Note;

/** Served by libnotebook.so, a payload in C, on vsock port 5680. */
interface INotebook {
    /** The error of `add` when the notebook is full. */
    const int ERROR_FULL = 1;

    /** Keeps a note; its number. Fails with the service specific error ERROR_FULL if there is no room. */
    int add(in Note note);

    /** The note with a number, null if there is none. */
    @nullable Note get(int number);

    /** The numbers of the notes whose title contains `text`. */
    int[] find(String text);

    /** Ends the payload. */
    oneway void quit();
}
