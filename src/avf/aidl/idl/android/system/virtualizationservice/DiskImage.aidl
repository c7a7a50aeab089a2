package android.system.virtualizationservice;

import android.system.virtualizationservice.Partition;

/** A disk: an image, or partitions, never both. */
parcelable DiskImage {
    @nullable ParcelFileDescriptor image;
    boolean writable;
    Partition[] partitions;
}
