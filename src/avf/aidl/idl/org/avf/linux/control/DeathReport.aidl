package org.avf.linux.control;

import android.system.virtualizationcommon.DeathReason;
import org.avf.linux.control.Timeline;

/** How a VM died, for people. */
parcelable DeathReport {
    DeathReason reason = DeathReason.UNKNOWN;
    /** The last thing known to have happened in its life. */
    String lastStep;
    /** The VMM's exit status; negative: the signal that ended it. */
    int vmmStatus;
    String[] vmmEvents;
    /** The end of it. */
    String vmmStderr;
    /** What the guest wrote to its failure port, including what follows the reason's name. */
    String failure;
    /** The last lines. */
    String[] consoleTail;
    /** What of its output its owner did not get, and why: "console: No space left on device". */
    String[] lostOutput;
    /** As of getTimeline. */
    @nullable Timeline timeline;
}
