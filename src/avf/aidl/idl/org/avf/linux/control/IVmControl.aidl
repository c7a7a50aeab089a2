/** What the owner of a VM, and root, can ask of it from outside. Not in the original. */
package org.avf.linux.control;

import org.avf.linux.control.DeathReport;
import org.avf.linux.control.MetricsSample;
import org.avf.linux.control.Timeline;
import org.avf.linux.control.VmInfo;
import org.avf.linux.control.VmMetrics;
import org.avf.linux.control.VmParts;

/** One VM, seen from outside. Holding this is not holding the VM: it neither keeps it alive nor ends it. */
interface IVmControl {
    /** The unix socket in a VM's directory whose root object is the VM's IVmControl. */
    const String CONTROL_SOCKET_NAME = "control.sock";

    /** What the VM is: its configuration and its state. */
    VmInfo getInfo();

    /** What the VM has used up to now. After its death, what it had used when it was last measured. */
    VmMetrics getMetrics();

    /** Null while the VM has not died. */
    @nullable DeathReport getDeathReport();

    /** Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running. */
    void stop();

    /**
     * A stream socket: the last of what the console said, then, if `live`, what it goes on to say, until it ends.
     *
     * What is written to it goes to the console of a running guest that takes input. Service-specific error -1
     * if the VM has no console to show.
     */
    ParcelFileDescriptor attachConsole(boolean live);

    /** As attachConsole, for the log, which takes no input. */
    ParcelFileDescriptor followLog(boolean live);

    /**
     * A stream socket to vsock port `port` of the running guest, as IVirtualMachine.connectVsock gives one: unsigned,
     * from 1024 on. Service-specific error -1 if the VM does not run, or the guest refuses.
     */
    ParcelFileDescriptor connectVsock(int port);

    /** As connectVsock, to the guest's shell service. Only debuggable guests have one; others refuse. */
    ParcelFileDescriptor connectShell();

    /**
     * What the VM has used since its start, oldest first: the last 120 samples as they were taken, about one a second
     * or, of a large VM, one in a few seconds; what was before in at most 240 steps, of which each has the highest
     * memory in it and the CPU time at its end. Kept when the VM has died.
     *
     * `afterMillis`: only samples of a later uptime, -1 for all.
     */
    MetricsSample[] getMetricsHistory(long afterMillis);

    /** Where the time of the VM's start went, as far as it has come. Kept when the VM has died. */
    Timeline getTimeline();

    /** Kept when the VM has died. */
    VmParts getParts();

    /**
     * A new VM that goes on from where this one is now: the android.system.virtualizationservice.IVirtualMachine of a
     * clone that has not been started. Who lets go of it kills it, and it ends with the client of this VM.
     *
     * This VM stands still meanwhile, and all its vsock connections end. The clone has a CID, random numbers, a boot ID
     * and a clock of its own before its payload runs on, and its payload is told.
     *
     * `name`: of the clone; empty for one made of this VM's. SECURITY for a VM that was not made `forkable`;
     * ILLEGAL_STATE for one whose payload has not started or has asked for secrets; UNSUPPORTED_OPERATION for a clone.
     */
    IBinder fork(@utf8InCpp String name, in @nullable ParcelFileDescriptor consoleFd,
            in @nullable ParcelFileDescriptor logFd);
}
