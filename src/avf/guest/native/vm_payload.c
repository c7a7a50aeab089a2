/*
 * libvm_payload.so: the functions native payloads link against. What they do is done by the launcher that loaded the
 * payload; it hands over function pointers before it calls AVmPayload_main.
 */
#include "vm_payload.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define STORAGE "/mnt/encryptedstore"

/* All return a negative number on failure. */
struct avf_payload_calls {
	int64_t (*notify_ready)(void);
	int64_t (*instance_secret)(const void *identifier, size_t identifier_size, void *secret, size_t size);
	int64_t (*attestation_chain)(void *data, size_t size);
	int64_t (*attestation_cdi)(void *data, size_t size);
};

static struct avf_payload_calls calls;
static atomic_bool ready_was_told;

API void avf_payload_set_calls(const struct avf_payload_calls *given)
{
	calls = *given;
}

static int64_t must(int64_t result, const char *function)
{
	if (result < 0) {
		fprintf(stderr, "%s failed\n", function);
		abort();
	}
	return result;
}

#define CALL(function, ...) must(calls.function ? calls.function(__VA_ARGS__) : -1, __func__)

API void AVmPayload_notifyPayloadReady(void)
{
	if (!atomic_exchange(&ready_was_told, 1))
		CALL(notify_ready);
}

API void AVmPayload_runVsockRpcServer(AIBinder *service, uint32_t port, void (*on_ready)(void *), void *param)
{
	(void)service, (void)port, (void)on_ready, (void)param;
	fprintf(stderr, "%s: this guest has no libbinder_ndk; serve over vsock yourself, or in Python\n", __func__);
	abort();
}

API void AVmPayload_getVmInstanceSecret(const void *identifier, size_t identifier_size, void *secret, size_t size)
{
	CALL(instance_secret, identifier, identifier_size, secret, size);
}

API const char *AVmPayload_getApkContentsPath(void)
{
	return "/mnt/apk";
}

API const char *AVmPayload_getEncryptedStoragePath(void)
{
	return access(STORAGE, F_OK) == 0 ? STORAGE : NULL;
}

API size_t AVmPayload_getDiceAttestationChain(void *data, size_t size)
{
	return CALL(attestation_chain, data, size);
}

API size_t AVmPayload_getDiceAttestationCdi(void *data, size_t size)
{
	return CALL(attestation_cdi, data, size);
}
