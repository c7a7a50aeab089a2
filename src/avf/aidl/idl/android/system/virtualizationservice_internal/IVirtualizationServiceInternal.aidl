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
    void removeMemlockRlimit();

    /** Reserves a CID and makes a directory for a VM of the calling uid. */
    IGlobalVmContext allocateGlobalVmContext(int requesterDebugPid);

    void atomVmBooted(in AtomVmBooted atom);
    void atomVmCreationRequested(in AtomVmCreationRequested atom);
    void atomVmExited(in AtomVmExited atom);

    VirtualMachineDebugInfo[] debugListVms();
}
