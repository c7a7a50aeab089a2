package android.system.virtualizationservice;

import android.system.virtualizationservice.IVirtualMachineCallback;
import android.system.virtualizationservice.MemoryTrimLevel;
import android.system.virtualizationservice.VirtualMachineState;

/** One VM. Who holds the last reference and lets go of it kills the VM. */
interface IVirtualMachine {
    /** The CID under which the guest is reached over vsock. */
    int getCid() = 0;

    /** How far the VM's life has come. */
    VirtualMachineState getState() = 1;

    /** Adds to whom is told; past events are not told again. */
    void registerCallback(IVirtualMachineCallback callback) = 2;

    /** Starts the VM; returns when the VMM runs. Service-specific error -1 if it was started before. */
    void start() = 3;

    /** Kills the VM; returns when all of it is gone. Service-specific error -1 if it is not running. */
    void stop() = 4;

    /** Takes memory back from the guest by the balloon. */
    void onTrimMemory(MemoryTrimLevel level) = 5;

    /** A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest. */
    ParcelFileDescriptor connectVsock(int port) = 6;

    /** Not in the original: the org.avf.linux.control.IVmControl of this VM. */
    IBinder getControl() = 10485760;
}
