package org.avf.linux.control;

/** A file that a VM was made of, as it was then. */
parcelable VmFile {
    /** kernel, initrd, bootloader, disk, or the label of a partition. */
    String label;
    /** Which disk it is a part of, from 0; -1: none. */
    int disk = -1;
    /** By which it was opened, as far as the kernel knows; not of a file in memory. */
    String path;
    long size;
    boolean isWritable;
    /** st_dev, st_ino and st_mtim: whether a file found at the path is the same, and as it was. */
    long device;
    long inode;
    long modifiedNanos;
}
