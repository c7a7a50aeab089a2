package org.avf.linux.control;

import org.avf.linux.control.LifecycleMoment;
import org.avf.linux.control.StartKind;
import org.avf.linux.control.StartPhase;

/** Where the time of a VM's start went, and when its life took which step. */
parcelable Timeline {
    StartKind kind = StartKind.UNKNOWN;
    /** When createVm was called: CLOCK_REALTIME, in nanoseconds since 1970. */
    long createdUnixNanos;
    /** The host's, then the guest's, each in the order of time. */
    StartPhase[] phases;
    LifecycleMoment[] moments;
    /** By how much the times of the guest's phases may be wrong, all in the same direction; -1: the guest has told none. */
    long guestErrorNanos = -1;
}
