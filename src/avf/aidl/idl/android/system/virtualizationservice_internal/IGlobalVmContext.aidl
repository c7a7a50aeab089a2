package android.system.virtualizationservice_internal;

/** What one VM has that is unique on its host. The CID is reserved while the object lives. */
interface IGlobalVmContext {
    int getCid();
    String getTemporaryDirectory();
}
