package org.avf.linux.control;

/** How a guest came up. */
@Backing(type="int")
enum StartKind {
    /** It has not, or the VMM does not tell. */
    UNKNOWN = 0,
    /** It booted by itself. */
    COLD = 1,
    /** It began as a clone of a template. */
    CLONE = 2,
    /** It is such a clone, and had waited for its owner. */
    WAITED = 3,
}
