package android.system.virtualizationservice;

import android.system.virtualizationservice.CpuTopology;
import android.system.virtualizationservice.VirtualMachinePayloadConfig;

/**
 * A VM that runs a payload from an APK. `apk`, `idsig` and, unless it is `forkable`, `instanceImage` are
 * required; they are nullable here so that who leaves one out is told which.
 */
parcelable VirtualMachineAppConfig {
    /** How much can be seen of the guest. */
    @Backing(type="byte")
    enum DebugLevel {
        NONE = 0,
        FULL = 1,
    }

    /** What is run. */
    union Payload {
        /** A configuration file in the APK. */
        @utf8InCpp String configPath;
        VirtualMachinePayloadConfig payloadConfig;
    }

    String name;
    @nullable ParcelFileDescriptor apk;
    @nullable ParcelFileDescriptor idsig;
    List<ParcelFileDescriptor> extraIdsigs;
    @nullable ParcelFileDescriptor instanceImage;
    @nullable ParcelFileDescriptor encryptedStorageImage;
    Payload payload;
    DebugLevel debugLevel = DebugLevel.NONE;
    boolean protectedVm;
    int memoryMib;
    CpuTopology cpuTopology = CpuTopology.ONE_CPU;
    String[] taskProfiles;
    /** Not in the original; 0 is off. */
    int gdbPort;
    /**
     * Not in the original: the guest waits for a debugger at the socket gdb.sock in the VM's directory. It also does
     * with a gdbPort.
     */
    boolean waitForDebugger;
    /** Not in the original: the guest boots by itself, and is no clone of a template. */
    boolean fresh;
    /**
     * Not in the original: the running VM may be copied, see IVmControl.fork. Such a VM keeps nothing:
     * instanceImage and encryptedStorageImage must be null.
     */
    boolean forkable;
}
