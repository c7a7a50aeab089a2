/*
 * What a native payload may ask of its guest beyond AVF's vm_payload API. Guests of Android do not have these functions.
 */
#ifndef AVF_PAYLOAD_H
#define AVF_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * As AVmPayload_getVmInstanceSecret, but for exactly this code: another build of the APK or of an extra APK, another
 * signer, or another configuration gets other bytes. Aborts if `size` is larger than 32.
 */
void AvfPayload_getVmCodeSecret(const void *identifier, size_t identifier_size, void *secret, size_t size);

/*
 * What the payload was called with, as main() has it: sets `*argv` to the path of the payload, its arguments and a NULL,
 * and returns how many they are, the NULL not counted. The host gives them: they are not part of the verified code.
 */
int AvfPayload_getArguments(const char *const **argv);

/*
 * Has `callback` called with `param`, in a thread of its own, in every clone of this running VM, with the clone's number:
 * from 1, and no other clone of the same VM has it. By then the clone has random numbers, a boot ID, a clock and a CID of
 * its own; what the payload made of earlier ones it must make anew: seeds, keys, identifiers, nonces. Its connections over
 * vsock have ended, its listeners go on. Its other threads may run before the callback does.
 *
 * Does nothing in a VM that cannot be forked.
 */
void AvfPayload_onClone(void (*callback)(uint64_t number, void *param), void *param);

#ifdef __cplusplus
}
#endif

#endif
