package android.system.virtualizationservice;

import android.system.virtualizationservice.CpuTopology;
import android.system.virtualizationservice.DiskImage;

/** A VM described part by part. */
parcelable VirtualMachineRawConfig {
    String name;
    @nullable ParcelFileDescriptor kernel;
    @nullable ParcelFileDescriptor initrd;
    @nullable @utf8InCpp String params;
    @nullable ParcelFileDescriptor bootloader;
    DiskImage[] disks;
    boolean protectedVm;
    int memoryMib;
    CpuTopology cpuTopology = CpuTopology.ONE_CPU;
    @utf8InCpp String platformVersion;
    String[] taskProfiles;
    /** As of April 2023; 0 is off. */
    int gdbPort;
    /**
     * Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
     * with a gdbPort.
     */
    boolean waitForDebugger;
}
