package org.avf.linux.control;

import org.avf.linux.control.LifecycleStep;

/** When a step was taken. */
parcelable LifecycleMoment {
    LifecycleStep step = LifecycleStep.CREATION_ASKED;
    /** Since createVm was called. */
    long nanos;
}
