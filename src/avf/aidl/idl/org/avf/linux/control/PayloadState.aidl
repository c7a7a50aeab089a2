package org.avf.linux.control;

/** How far a payload has come. */
@Backing(type="int")
enum PayloadState {
    STARTING = 0,
    STARTED = 1,
    READY = 2,
    FINISHED = 3,
    HANGUP = 4,
}
