/*
 * What only a payload with a configuration file in its APK (`config_path`) may ask of its guest. In other VMs the
 * functions that get something abort.
 *
 * Source: vm_payload_restricted.h of AVF's libvm_payload.
 */
#ifndef AVF_VM_PAYLOAD_RESTRICTED_H
#define AVF_VM_PAYLOAD_RESTRICTED_H

#include "vm_payload.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The certificate chain of this payload: CBOR, an array of the agent's COSE_Key and a COSE_Sign1 certificate.
 *
 * Copies at most `size` bytes to `data`, which may be NULL if `size` is 0. Returns the length of the whole chain. API 34.
 */
size_t AVmPayload_getDiceAttestationChain(void *data, size_t size);

/* The secret behind the certificate (CDI_Attest, 32 bytes), copied and returned in the same way. API 34. */
size_t AVmPayload_getDiceAttestationCdi(void *data, size_t size);

/* As AVmPayload_requestAttestation: not supported here, for tests neither. API 35. */
AVmAttestationStatus AVmPayload_requestAttestationForTesting(const void *challenge, size_t challenge_size,
							     AVmAttestationResult **result);

#ifdef __cplusplus
}
#endif

#endif
