package org.avf.linux.control;

/** A part of a VM's start. */
parcelable StartPhase {
    @utf8InCpp String name;
    /** Told by the guest's agent, before the payload had the word; else seen by the host. */
    boolean inGuest;
    /** Since createVm was called, as all times of a timeline. */
    long beginNanos;
    long endNanos;
}
