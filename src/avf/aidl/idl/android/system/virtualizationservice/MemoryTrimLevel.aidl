package android.system.virtualizationservice;

/** How short of memory the owner of a VM is. */
@Backing(type="int")
enum MemoryTrimLevel {
    TRIM_MEMORY_RUNNING_CRITICAL = 0,
    TRIM_MEMORY_RUNNING_LOW = 1,
    TRIM_MEMORY_RUNNING_MODERATE = 2,
}
