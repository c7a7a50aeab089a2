/* What a native payload is and may call (AVF's vm_payload API). Every function aborts the process when it fails. */
#ifndef AVF_VM_PAYLOAD_H
#define AVF_VM_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct AIBinder AIBinder;

/* Implemented by the payload; its value is the exit code the host hears. */
int AVmPayload_main(void);

/* Tells the host that the payload is ready. Only the first call counts. */
void AVmPayload_notifyPayloadReady(void);

/* Serves an Android binder object to the host. There is no libbinder_ndk in this guest: always aborts. */
void AVmPayload_runVsockRpcServer(AIBinder *service, uint32_t port, void (*on_ready)(void *param), void *param)
	__attribute__((noreturn));

/* Fills `secret` with `size` (at most 32) bytes that only this instance gets for this identifier. */
void AVmPayload_getVmInstanceSecret(const void *identifier, size_t identifier_size, void *secret, size_t size);

/* Where the contents of the APK are. */
const char *AVmPayload_getApkContentsPath(void);

/* Where the encrypted storage is mounted, NULL if this VM has none. */
const char *AVmPayload_getEncryptedStoragePath(void);

/* Restricted: copies at most `size` bytes, returns the whole length. */
size_t AVmPayload_getDiceAttestationChain(void *data, size_t size);
size_t AVmPayload_getDiceAttestationCdi(void *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
