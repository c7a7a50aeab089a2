/** What virtmgr asks of virtualizationservice. */
package android.system.virtualizationservice_internal;

import android.system.virtualizationservice.VirtualMachineDebugInfo;
import android.system.virtualizationservice_internal.AtomVmBooted;
import android.system.virtualizationservice_internal.AtomVmCreationRequested;
import android.system.virtualizationservice_internal.AtomVmExited;
import android.system.virtualizationservice_internal.IGlobalVmContext;

/** The root object of virtualizationservice. */
interface IVirtualizationServiceInternal {
    /** Lifts RLIMIT_MEMLOCK of the calling process. */
    void removeMemlockRlimit() = 0;

    /** Reserves a CID and makes a directory for a VM of the calling uid. */
    IGlobalVmContext allocateGlobalVmContext(int requesterDebugPid) = 1;

    /** Tells that a VM's payload was started. The service writes it to `atoms.jsonl`. */
    void atomVmBooted(in AtomVmBooted atom) = 2;

    /** Tells that a client asked for a VM, and whether it got one. */
    void atomVmCreationRequested(in AtomVmCreationRequested atom) = 3;

    /** Tells that a VM has ended, with its reason and how long it ran. */
    void atomVmExited(in AtomVmExited atom) = 4;

    /** The VMs of all clients on this host. SECURITY without the DEBUG permission. */
    VirtualMachineDebugInfo[] debugListVms() = 5;

    /**
     * Not in the original. The highest generation raised for an instance of the calling user, 0 if there was none.
     *
     * `instanceId`: 32 bytes. UNSUPPORTED_OPERATION if this service keeps no generations.
     */
    long getInstanceGeneration(in byte[] instanceId) = 0x00A00000;

    /** Not in the original. Remembers a generation (from 1 on), on disk, unless a higher one is remembered. */
    void raiseInstanceGeneration(in byte[] instanceId, long generation) = 0x00A00001;

    /** Not in the original. Forgets what is remembered of an instance of the calling user, if anything is. */
    void forgetInstanceGeneration(in byte[] instanceId) = 0x00A00002;

    /**
     * Not in the original. Whether the calling user has a permission, by its name: android.permission.DUMP.
     *
     * ILLEGAL_ARGUMENT for a name that is none.
     */
    boolean isGranted(String permission) = 0x00A00003;
}
