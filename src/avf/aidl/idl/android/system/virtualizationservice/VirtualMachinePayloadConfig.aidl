package android.system.virtualizationservice;

/** A payload named without a configuration file in its APK. */
parcelable VirtualMachinePayloadConfig {
    @utf8InCpp String payloadBinaryName;
}
