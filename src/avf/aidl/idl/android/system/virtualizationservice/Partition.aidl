package android.system.virtualizationservice;

/** One partition of a disk put together from files. `image` is required. */
parcelable Partition {
    @utf8InCpp String label;
    @nullable ParcelFileDescriptor image;
    boolean writable;
}
