package org.avf.linux.control;

/** The clones that wait for VMs of one client. */
parcelable PoolStatus {
    /** How many are to wait. */
    int wanted;
    /** How many do. */
    int waiting;
    /** Whether no more will be made before another VM is created. */
    boolean isSettled;
    /** How many VMs were clones that had waited. */
    int taken;
    /** For how many VMs that can be clones none waited. */
    int missed;
    /** The processes of the virtual machine monitors that wait. */
    int[] vmmPids;
    /** Why there are not as many as there should be, for people; empty if nothing is known against it. */
    @utf8InCpp String problem;
}
