package android.system.virtualizationservice;

/** What initializeWritablePartition puts into a partition. */
@Backing(type="int")
enum PartitionType {
    RAW = 0,
    ANDROID_VM_INSTANCE = 1,
    ENCRYPTEDSTORE = 2,
}
