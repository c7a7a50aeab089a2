/*
 * What a native payload may ask of its guest: AVF's vm_payload API.
 *
 * A payload is a shared library that defines AVmPayload_main (vm_main.h). Nothing has to be linked against: the library
 * with these functions, libvm_payload.so, is there when the payload is loaded.
 *
 * All functions may be called from any thread. One that can neither do its work nor return an error writes the reason to
 * stderr and aborts the process, so the payload's owner hears of SIGABRT.
 *
 * Source: vm_payload.h of AVF's libvm_payload. API numbers are those of the Android release that introduced a function.
 */
#ifndef AVF_VM_PAYLOAD_H
#define AVF_VM_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "vm_main.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An object that can be served. AvfRpc_newBinder (avf_rpc.h) makes one. */
typedef struct AIBinder AIBinder;

/* Tells the payload's owner that the payload is ready. Only the first call counts. API 34. */
void AVmPayload_notifyPayloadReady(void);

/*
 * Serves `service` to the host, over RPC Binder on the vsock port `port`. Other peers than the host are turned away.
 *
 * Once the port is open, calls `on_ready` (may be NULL) with `param`. Serves for as long as the process lives, so it does
 * not return; `service` is not the caller's any more. Aborts if the port cannot be opened: one below 1024, or one that is
 * in use. API 34.
 */
void AVmPayload_runVsockRpcServer(AIBinder *service, uint32_t port, void (*on_ready)(void *param), void *param)
	__attribute__((noreturn));

/*
 * Fills `secret` with `size` bytes, at most 32, that this instance alone gets for this identifier, at every boot the same
 * and after every update of the payload; AvfPayload_getVmCodeSecret (avf_payload.h) gives others to each build. Aborts if
 * `size` is larger. API 34.
 */
void AVmPayload_getVmInstanceSecret(const void *identifier, size_t identifier_size, void *secret, size_t size);

/* The directory with the contents of the payload's APK: a constant that is not to be freed. API 34. */
const char *AVmPayload_getApkContentsPath(void);

/* The directory of the encrypted storage, a constant that is not to be freed. NULL if the VM has none. API 34. */
const char *AVmPayload_getEncryptedStoragePath(void);

/* A secret that notices when an older one is put in its place */

typedef enum AVmAccessRollbackProtectedSecretStatus {
	/* Nothing was ever written. */
	AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_ENTRY_NOT_FOUND = -1,
	AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_BAD_SIZE = -2,
	/* Nobody keeps such secrets. */
	AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_ACCESS_FAILED = -3
} AVmAccessRollbackProtectedSecretStatus;

/*
 * Keep up to `n` bytes, and get them back. Android has hardware that keeps them. Here nothing does, and the answer is
 * AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_ACCESS_FAILED. API 36.
 */
int32_t AVmPayload_writeRollbackProtectedSecret(const void *buf, size_t n);
int32_t AVmPayload_readRollbackProtectedSecret(void *buf, size_t n);

/* Remote attestation */

typedef enum AVmAttestationStatus {
	ATTESTATION_OK = 0,
	/* The challenge has more than 64 bytes. */
	ATTESTATION_ERROR_INVALID_CHALLENGE = -10001,
	/* It did not work now, but may later. */
	ATTESTATION_ERROR_ATTESTATION_FAILED = -10002,
	/* Nobody can attest this VM. */
	ATTESTATION_ERROR_UNSUPPORTED = -10003
} AVmAttestationStatus;

typedef struct AVmAttestationResult AVmAttestationResult;

/*
 * Asks for a certificate of this VM that others can check. No party that others trust vouches for a VM of this system, so
 * the answer is ATTESTATION_ERROR_UNSUPPORTED (or ATTESTATION_ERROR_INVALID_CHALLENGE), and `*result` is set to NULL.
 * API 35.
 */
AVmAttestationStatus AVmPayload_requestAttestation(const void *challenge, size_t challenge_size,
						   AVmAttestationResult **result);

/* The name of a status in words, a constant that is not to be freed. API 35. */
const char *AVmAttestationStatus_toString(AVmAttestationStatus status);

/* Does nothing with NULL, the only result there is. API 35. */
void AVmAttestationResult_free(AVmAttestationResult *result);

/* These abort, as there is no result to call them with. API 35. */
size_t AVmAttestationResult_getPrivateKey(const AVmAttestationResult *result, void *data, size_t size);
size_t AVmAttestationResult_sign(const AVmAttestationResult *result, const void *message, size_t message_size,
				 void *data, size_t size);
size_t AVmAttestationResult_getCertificateCount(const AVmAttestationResult *result);
size_t AVmAttestationResult_getCertificateAt(const AVmAttestationResult *result, size_t index, void *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
