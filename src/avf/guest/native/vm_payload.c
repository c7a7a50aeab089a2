/*
 * libvm_payload.so: the functions native payloads link against. What they do is done by the launcher that loaded the
 * payload; it hands over function pointers before it calls AVmPayload_main.
 */
#include "avf_payload.h"
#include "avf_rpc.h"
#include "vm_payload_restricted.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define STORAGE "/mnt/encryptedstore"
#define MAX_CHALLENGE 64
/* The longest reply of any protocol version; the session may have a lower limit. */
#define MAX_REPLY (600u << 10)
#define FIRST_CAPACITY 256u

struct AIBinder {
	AvfRpc_transact transact;
	void *user;
	uint32_t flags;
	char descriptor[];
};

/* What the launcher serves. It calls `release` for every reply that it gave to `serve`. */
struct avf_server {
	const char *descriptor;
	uint32_t concurrent;
	uint32_t port;
	AIBinder *service;
	int32_t (*serve)(AIBinder *service, uint32_t code, const void *arguments, size_t size, AvfWriter *reply);
	void (*release)(AvfWriter *reply);
	void (*on_ready)(void *param);
	void *param;
};

/* All return a negative number on failure. */
struct avf_payload_calls {
	int64_t (*notify_ready)(void);
	int64_t (*instance_secret)(const void *identifier, size_t identifier_size, void *secret, size_t size);
	int64_t (*attestation_chain)(void *data, size_t size);
	int64_t (*attestation_cdi)(void *data, size_t size);
	int64_t (*run_server)(const struct avf_server *server);
	int64_t (*code_secret)(const void *identifier, size_t identifier_size, void *secret, size_t size);
	int64_t (*on_clone)(void (*callback)(uint64_t number, void *param), void *param);
};

static struct avf_payload_calls calls;
static atomic_bool ready_was_told;

void avf_payload_set_calls(const struct avf_payload_calls *given);

void avf_payload_set_calls(const struct avf_payload_calls *given)
{
	calls = *given;
}

static int argument_count;
static const char *const *argument_values;

void avf_payload_set_arguments(int count, const char *const *values);

void avf_payload_set_arguments(int count, const char *const *values)
{
	argument_count = count;
	argument_values = values;
}

int AvfPayload_getArguments(const char *const **argv)
{
	static const char *const nothing[] = { NULL };

	*argv = argument_values ? argument_values : nothing;
	return argument_count;
}

static void __attribute__((noreturn)) fail(const char *function, const char *reason)
{
	fprintf(stderr, "%s: %s\n", function, reason);
	abort();
}

static int64_t must(int64_t result, const char *function)
{
	if (result < 0)
		fail(function, "failed");
	return result;
}

#define CALL(function, ...)                                                                       \
	(calls.function ? must(calls.function(__VA_ARGS__), __func__)                             \
			: (fail(__func__, "this process is no payload that was loaded as a library"), 0))

void AVmPayload_notifyPayloadReady(void)
{
	if (!atomic_exchange(&ready_was_told, 1))
		CALL(notify_ready);
}

void AVmPayload_getVmInstanceSecret(const void *identifier, size_t identifier_size, void *secret, size_t size)
{
	CALL(instance_secret, identifier, identifier_size, secret, size);
}

void AvfPayload_getVmCodeSecret(const void *identifier, size_t identifier_size, void *secret, size_t size)
{
	CALL(code_secret, identifier, identifier_size, secret, size);
}

void AvfPayload_onClone(void (*callback)(uint64_t number, void *param), void *param)
{
	CALL(on_clone, callback, param);
}

const char *AVmPayload_getApkContentsPath(void)
{
	return "/mnt/apk";
}

const char *AVmPayload_getEncryptedStoragePath(void)
{
	return access(STORAGE, F_OK) == 0 ? STORAGE : NULL;
}

size_t AVmPayload_getDiceAttestationChain(void *data, size_t size)
{
	return CALL(attestation_chain, data, size);
}

size_t AVmPayload_getDiceAttestationCdi(void *data, size_t size)
{
	return CALL(attestation_cdi, data, size);
}

/* What needs others' help, and there is nobody who gives it */

int32_t AVmPayload_writeRollbackProtectedSecret(const void *buf, size_t n)
{
	(void)buf, (void)n;
	return AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_ACCESS_FAILED;
}

int32_t AVmPayload_readRollbackProtectedSecret(void *buf, size_t n)
{
	(void)buf, (void)n;
	return AVMACCESSROLLBACKPROTECTEDSECRETSTATUS_ACCESS_FAILED;
}

AVmAttestationStatus AVmPayload_requestAttestation(const void *challenge, size_t challenge_size,
						   AVmAttestationResult **result)
{
	(void)challenge;
	*result = NULL;
	return challenge_size > MAX_CHALLENGE ? ATTESTATION_ERROR_INVALID_CHALLENGE : ATTESTATION_ERROR_UNSUPPORTED;
}

AVmAttestationStatus AVmPayload_requestAttestationForTesting(const void *challenge, size_t challenge_size,
							     AVmAttestationResult **result)
{
	return AVmPayload_requestAttestation(challenge, challenge_size, result);
}

const char *AVmAttestationStatus_toString(AVmAttestationStatus status)
{
	switch (status) {
	case ATTESTATION_OK:
		return "The remote attestation completes successfully.";
	case ATTESTATION_ERROR_INVALID_CHALLENGE:
		return "The challenge size is not between 0 and 64.";
	case ATTESTATION_ERROR_ATTESTATION_FAILED:
		return "Failed to attest the VM. Please retry at a later time.";
	case ATTESTATION_ERROR_UNSUPPORTED:
		return "Remote attestation is not supported in the current environment.";
	}
	return "This is no status of the remote attestation.";
}

#define NO_RESULT "there is no attestation result"

void AVmAttestationResult_free(AVmAttestationResult *result)
{
	if (result != NULL)
		fail(__func__, NO_RESULT);
}

size_t AVmAttestationResult_getPrivateKey(const AVmAttestationResult *result, void *data, size_t size)
{
	(void)result, (void)data, (void)size;
	fail(__func__, NO_RESULT);
}

size_t AVmAttestationResult_sign(const AVmAttestationResult *result, const void *message, size_t message_size,
				 void *data, size_t size)
{
	(void)result, (void)message, (void)message_size, (void)data, (void)size;
	fail(__func__, NO_RESULT);
}

size_t AVmAttestationResult_getCertificateCount(const AVmAttestationResult *result)
{
	(void)result;
	fail(__func__, NO_RESULT);
}

size_t AVmAttestationResult_getCertificateAt(const AVmAttestationResult *result, size_t index, void *data, size_t size)
{
	(void)result, (void)index, (void)data, (void)size;
	fail(__func__, NO_RESULT);
}

/* Serving */

static int32_t grow(AvfWriter *reply, size_t more)
{
	size_t capacity = reply->capacity ? reply->capacity : FIRST_CAPACITY;
	uint8_t *data;

	if (more > MAX_REPLY - reply->size)
		return AVF_STATUS_FAILED_TRANSACTION;
	while (capacity < reply->size + more)
		capacity *= 2;
	if (capacity > MAX_REPLY)
		capacity = MAX_REPLY;
	data = realloc(reply->data, capacity);
	if (data == NULL)
		return AVF_STATUS_NO_MEMORY;
	reply->data = data;
	reply->capacity = capacity;
	return AVF_STATUS_OK;
}

static int32_t serve(AIBinder *service, uint32_t code, const void *data, size_t size, AvfWriter *reply)
{
	AvfReader arguments = {data, size, 0, AVF_STATUS_OK};
	int32_t status;

	*reply = (AvfWriter){.grow = grow};
	status = service->transact(service->user, code, &arguments, reply);
	if (status == AVF_STATUS_OK)
		status = arguments.status;
	return status == AVF_STATUS_OK ? reply->status : status;
}

static void release(AvfWriter *reply)
{
	free(reply->data);
}

AIBinder *AvfRpc_newBinder(const char *descriptor, AvfRpc_transact transact, void *user, uint32_t flags)
{
	AIBinder *made;
	size_t size;

	if (descriptor == NULL || transact == NULL)
		fail(__func__, "descriptor and transact must not be NULL");
	if (flags & ~AVF_RPC_CONCURRENT)
		fail(__func__, "flags has unknown bits");
	size = strlen(descriptor) + 1;
	made = malloc(sizeof *made + size);
	if (made == NULL)
		fail(__func__, "out of memory");
	made->transact = transact;
	made->user = user;
	made->flags = flags;
	memcpy(made->descriptor, descriptor, size);
	return made;
}

void AVmPayload_runVsockRpcServer(AIBinder *service, uint32_t port, void (*on_ready)(void *), void *param)
{
	struct avf_server server = {
		.port = port,
		.service = service,
		.serve = serve,
		.release = release,
		.on_ready = on_ready,
		.param = param,
	};

	if (service == NULL)
		fail(__func__, "service must not be NULL");
	server.descriptor = service->descriptor;
	server.concurrent = service->flags & AVF_RPC_CONCURRENT;
	CALL(run_server, &server);
	fail(__func__, "the server has ended");
}
