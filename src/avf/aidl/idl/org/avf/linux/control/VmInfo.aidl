package org.avf.linux.control;

import android.system.virtualizationservice.VirtualMachineState;
import org.avf.linux.control.PayloadState;

/** What a VM is, and how far it has come. */
parcelable VmInfo {
    int cid;
    String name;
    VirtualMachineState state = VirtualMachineState.NOT_STARTED;
    PayloadState payloadState = PayloadState.STARTING;
    String vmm;
    /** 0 unless the VM runs. */
    int vmmPid;
    int requesterUid;
    int requesterPid;
    boolean isProtected;
    /** 0: whatever the VMM gives. */
    int memoryMib;
    /** 0: as many as the host has. */
    int numCpus;
    long createdMillisAgo;
    /** -1: never started. */
    long startedMillisAgo = -1;
    boolean hasConsole;
    boolean hasLog;
    boolean takesConsoleInput;
    /** The path of the socket at which the VM waits for a debugger; empty: it does not. */
    @utf8InCpp String debuggerSocket;
}
