package android.system.virtualizationservice;

/** Where a VM is in its life. 5 was never given out again. */
@Backing(type="int")
enum VirtualMachineState {
    NOT_STARTED = 0,
    STARTING = 1,
    STARTED = 2,
    READY = 3,
    FINISHED = 4,
    DEAD = 6,
}
