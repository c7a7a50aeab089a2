package org.avf.linux.control;

/** What a VM used at one moment. */
parcelable MetricsSample {
    /** Milliseconds since the VM was started. */
    long uptimeMillis;
    /** CPU time since the start, of the VMM, its guest included. */
    long cpuTimeMillis;
    /** 0 under emulation. */
    long guestTimeMillis;
    long rssVmKb;
    /** Of the whole VMM, the guest's memory included. */
    long rssVmmKb;
}
