/** What a client asks of virtmgr. */
package android.system.virtualizationservice;

import android.system.virtualizationservice.IVirtualMachine;
import android.system.virtualizationservice.PartitionType;
import android.system.virtualizationservice.VirtualMachineConfig;
import android.system.virtualizationservice.VirtualMachineDebugInfo;

/** The root object of virtmgr. */
interface IVirtualizationService {
    /** Makes a VM without starting it. */
    IVirtualMachine createVm(in VirtualMachineConfig config, in @nullable ParcelFileDescriptor consoleFd,
            in @nullable ParcelFileDescriptor osLogFd);

    /** Empties `imageFd` and makes it a partition image of at least `sizeBytes`. */
    void initializeWritablePartition(in ParcelFileDescriptor imageFd, long sizeBytes, PartitionType type);

    /** Brings the idsig (APK Signature Scheme v4) of an APK up to date. */
    void createOrUpdateIdsigFile(in ParcelFileDescriptor inputFd, in ParcelFileDescriptor idsigFd);

    /** The VMs of all clients on this host. */
    VirtualMachineDebugInfo[] debugListVms();
}
