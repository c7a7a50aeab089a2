/** What a guest tells its host. */
package android.system.virtualmachineservice;

import android.system.virtualizationcommon.ErrorCode;

/** Served by virtmgr on the host vsock port that equals the CID of the VM, for that VM alone. */
interface IVirtualMachineService {
    /** Host vsock port that takes tombstones of all guests. */
    const int VM_TOMBSTONES_SERVICE_PORT = 2000;

    /**
     * Not in the original. Guest vsock port of the shell service of debuggable guests. Only a process with
     * CAP_NET_BIND_SERVICE can listen below 1024, and the payload lacks it.
     */
    const int VM_SHELL_SERVICE_PORT = 22;

    /**
     * Not in the original. The guest's connection to host vsock port `VM_STDERR_PORT_BASE` + its CID carries the payload's
     * standard error, where that is kept apart. There is one such connection; the host closes it when it has read all.
     */
    const int VM_STDERR_PORT_BASE = 0x40000000;

    /** The agent is about to start the payload, which it has verified. */
    void notifyPayloadStarted() = 0;

    /** The payload has said that it is ready. */
    void notifyPayloadReady() = 1;

    /** The payload has ended with this exit code: 0 to 255. */
    void notifyPayloadFinished(int exitCode) = 2;

    /** The payload could not be run, or a signal ended it. Of `message`, 4096 characters are kept. */
    void notifyError(ErrorCode errorCode, in String message) = 3;

    /** Not in the original. The host's CLOCK_REALTIME, in nanoseconds since 1970. */
    long getTime() = 0x00A00000;

    /**
     * Not in the original. The highest generation that the host has seen of an instance, 0 if it has seen none: an image
     * of an earlier one is an old image that was put back.
     *
     * `instanceId`: 32 bytes, of one instance for each VM, and before notifyPayloadStarted only, else ILLEGAL_STATE.
     * UNSUPPORTED_OPERATION where the host keeps no generations.
     */
    long getInstanceGeneration(in byte[] instanceId) = 0x00A00001;

    /** Not in the original. Has the host remember a generation, which takes the place of lower ones alone. */
    void raiseInstanceGeneration(in byte[] instanceId, long generation) = 0x00A00002;

    /**
     * Not in the original. When the phases of the guest's start ended, by the guest's CLOCK_MONOTONIC, in nanoseconds;
     * each began where the one before it ended, the first one at `beganNanos`. Once, before notifyPayloadStarted, and
     * never refused: what cannot be is left out of the VM's timeline.
     *
     * `names`: lower case letters, digits, spaces and hyphens, 24 at most; 32 names at most. `answeredNanos`: when the
     * guest had the last answer to getTime, 0 if it has not asked; `sentNanos`: when it sent this. Between the two the
     * host can tell how the guest's clock stands to its own.
     */
    oneway void reportStartPhases(in @utf8InCpp String[] names, in long[] endNanos, long beganNanos,
            long answeredNanos, long sentNanos) = 0x00A00003;
}
