package avftest.other;

/** Needed by another package. */
enum Colour { RED, GREEN }
