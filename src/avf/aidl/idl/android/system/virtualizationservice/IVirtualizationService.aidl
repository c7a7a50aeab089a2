/** What a client asks of virtmgr. */
package android.system.virtualizationservice;

import android.system.virtualizationservice.IVirtualMachine;
import android.system.virtualizationservice.PartitionType;
import android.system.virtualizationservice.VirtualMachineConfig;
import android.system.virtualizationservice.VirtualMachineDebugInfo;
import org.avf.linux.control.PayloadInvocation;
import org.avf.linux.control.PoolRequest;
import org.avf.linux.control.PoolStatus;

/** The root object of virtmgr. */
interface IVirtualizationService {
    /** Makes a VM without starting it. */
    IVirtualMachine createVm(in VirtualMachineConfig config, in @nullable ParcelFileDescriptor consoleFd,
            in @nullable ParcelFileDescriptor osLogFd) = 0;

    /** Makes `imageFd` a partition image of at least `sizeBytes`. It must be empty, or such an image: that is gone then. */
    void initializeWritablePartition(in ParcelFileDescriptor imageFd, long sizeBytes, PartitionType type) = 1;

    /** Brings the idsig (APK Signature Scheme v4) of an APK up to date. `idsigFd` must be empty, or an idsig. */
    void createOrUpdateIdsigFile(in ParcelFileDescriptor inputFd, in ParcelFileDescriptor idsigFd) = 2;

    /** The VMs of all clients on this host. */
    VirtualMachineDebugInfo[] debugListVms() = 3;

    /**
     * Not in the original of 2023; createVm of 2024, under another code so that createVm keeps its form. What can be
     * read from `consoleInFd` is typed into the guest's console.
     */
    IVirtualMachine createVmWithInput(in VirtualMachineConfig config,
            in @nullable ParcelFileDescriptor consoleOutFd, in @nullable ParcelFileDescriptor consoleInFd,
            in @nullable ParcelFileDescriptor osLogFd) = 0x00A00000;

    /**
     * Not in the original. Has the host forget the instance whose image this is: an old copy of it is taken from then on.
     * For an instance that is deleted, or is meant to go back. Nothing if the host knows nothing of it.
     */
    void forgetInstance(in ParcelFileDescriptor instanceImage) = 0x00A00001;

    /**
     * Not in the original. As createVmWithInput, for an app config: the payload is called with these arguments and
     * variables. ILLEGAL_ARGUMENT for more than a payload gets, and for variables that only a debuggable VM takes.
     */
    IVirtualMachine createVmWithInvocation(in VirtualMachineConfig config,
            in @nullable ParcelFileDescriptor consoleOutFd, in @nullable ParcelFileDescriptor consoleInFd,
            in @nullable ParcelFileDescriptor osLogFd, in PayloadInvocation invocation) = 0x00A00002;

    /**
     * Not in the original. Keeps clones of booted guests waiting, which this client's next VMs begin as. Returns at once.
     * What the clones are like follows the VMs that are created. ILLEGAL_ARGUMENT for more than can wait.
     */
    void keepClonesWaiting(in PoolRequest request) = 0x00A00003;

    /** Not in the original. */
    PoolStatus getPoolStatus() = 0x00A00004;
}
