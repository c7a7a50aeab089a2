package android.system.virtualizationservice;

import android.system.virtualizationservice.VirtualMachineAppConfig;
import android.system.virtualizationservice.VirtualMachineRawConfig;

/** What createVm is asked to make. */
union VirtualMachineConfig {
    VirtualMachineAppConfig appConfig;
    VirtualMachineRawConfig rawConfig;
}
