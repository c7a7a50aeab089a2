package org.avf.linux.control;

/** Why a call was refused with a service-specific error: the code of the error. */
@Backing(type="int")
enum Refusal {
    /** Anything without a code of its own; the message tells. */
    FAILED = -1,
    /** The call needs a VM that runs. */
    NOT_RUNNING = -2,
    /** A VM can be started once. */
    STARTED_BEFORE = -3,
    /** The virtual machine monitor could not be started. */
    START_FAILED = -4,
    /** There is no guest image, or it cannot be used. */
    NO_IMAGE = -5,
    /** virtualizationservice cannot be reached. */
    NO_SERVICE = -6,
    /** A file that was given cannot be used; the message names its field. */
    FILE_UNUSABLE = -7,
}
