package org.avf.linux.control;

/** What happens to a VM, in order. */
@Backing(type="int")
enum LifecycleStep {
    /** createVm was called. */
    CREATION_ASKED = 0,
    CREATED = 1,
    START_ASKED = 2,
    /** The VMM runs. */
    STARTED = 3,
    PAYLOAD_STARTED = 4,
    PAYLOAD_READY = 5,
    PAYLOAD_FINISHED = 6,
    /** The guest could not run its payload, or the payload was killed. */
    PAYLOAD_FAILED = 7,
    DIED = 8,
}
