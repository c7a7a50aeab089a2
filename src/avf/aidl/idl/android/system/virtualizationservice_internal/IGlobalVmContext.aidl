package android.system.virtualizationservice_internal;

/** What one VM has that is unique on its host. The CID is reserved while the object lives. */
interface IGlobalVmContext {
    /** The VM's CID: from 2048 on, unique on the host. */
    int getCid();

    /** The absolute path of the VM's own directory, which goes when this object does. */
    String getTemporaryDirectory();
}
