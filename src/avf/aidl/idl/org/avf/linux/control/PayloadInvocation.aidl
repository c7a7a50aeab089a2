package org.avf.linux.control;

/** How a payload is called. Nothing verifies it: it is not part of the payload's identity. */
parcelable PayloadInvocation {
    /** What follows the program's own name in argv. */
    @utf8InCpp String[] arguments;
    /** Variables of its environment beside the guest's own, each NAME=VALUE; no name comes twice. */
    @utf8InCpp String[] environment;
    /**
     * Where its standard error goes; null for where its standard output goes, which is the VM's log. Only for VMs that
     * are debuggable and not forkable.
     */
    @nullable ParcelFileDescriptor stderrFd;
}
