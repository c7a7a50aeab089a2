package android.system.virtualizationservice;

/** A payload named without a configuration file in its APK. */
parcelable VirtualMachinePayloadConfig {
    @utf8InCpp String payloadBinaryName;
    /** As of 2024: APKs beside the main one, each with its idsig in VirtualMachineAppConfig's extraIdsigs. */
    List<ParcelFileDescriptor> extraApks;
}
