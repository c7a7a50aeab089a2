package org.avf.linux.control;

/** What a VM uses. The present values are 0 unless it runs, the others are kept. */
parcelable VmMetrics {
    /** Of the VMM, its guest included. */
    long cpuTimeMillis;
    /** 0 under emulation. */
    long guestTimeMillis;
    long rssVmKb;
    /** Of the whole VMM, the guest's memory included. */
    long rssVmmKb;
    long peakRssVmKb;
    long peakRssVmmKb;
}
