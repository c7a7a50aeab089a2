package org.avf.linux.control;

/** How many clones are to wait for VMs, and for which VMs at first. */
parcelable PoolRequest {
    /** 0: none. */
    int count;
    /** As of VirtualMachineAppConfig.DebugLevel. */
    int debugLevel;
    /** 0: what the guest image asks for. */
    int memoryMib;
    /** As of CpuTopology. */
    int cpuTopology;
}
