package org.avf.linux.control;

import org.avf.linux.control.VmFile;

/** What a VM was made of. */
parcelable VmParts {
    /** Of an app: the payload's file, or the path of its configuration in the APK; else empty. */
    String payload;
    boolean isApp;
    boolean isDebuggable;
    /** The payload's. */
    String[] arguments;
    /** The names of the payload's variables, whose values may be secret. */
    String[] variables;
    VmFile[] files;
}
