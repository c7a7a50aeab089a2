package android.system.virtualizationservice_internal;

/** createVm was called, whether it succeeded or not. */
parcelable AtomVmCreationRequested {
    int uid;
    String vmIdentifier;
    boolean isProtected;
    boolean creationSucceeded;
    int binderExceptionCode;
    int configType;
    int numCpus;
    int memoryMib;
    String apexes;
}
