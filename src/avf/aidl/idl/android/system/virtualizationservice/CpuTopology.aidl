package android.system.virtualizationservice;

/** How many CPUs a VM gets. */
@Backing(type="byte")
enum CpuTopology {
    ONE_CPU = 0,
    MATCH_HOST = 1,
}
