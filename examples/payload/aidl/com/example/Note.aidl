package com.example;

/** What a notebook keeps. */
parcelable Note {
    String title;
    byte[] body;
}
