/* A native payload that serves every kind of value that avf_rpc.h reads and writes, and ends calls in every way. */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "avf_rpc.h"

#ifndef FLAGS
#define FLAGS 0
#endif

enum { NUMBERS = 1, TEXT, BYTES, DOUBLED, RECORD, FAIL, LONG_REPLY, CARELESS, MEET, AT_ONCE, ABORT, NOTHING, SAVED, SAVE, LATER, AS_TEXT };

static atomic_int inside, most, met, saved;

static void numbers(AvfReader *arguments, AvfWriter *reply)
{
	AvfReader in = AvfReader_readParcelable(arguments);
	size_t out;

	AvfWriter_writeOk(reply);
	out = AvfWriter_beginParcelable(reply);
	AvfWriter_writeInt32(reply, AvfReader_readInt32(&in));
	AvfWriter_writeInt64(reply, AvfReader_readInt64(&in));
	AvfWriter_writeBool(reply, AvfReader_readBool(&in));
	AvfWriter_writeFloat(reply, AvfReader_readFloat(&in));
	AvfWriter_writeDouble(reply, AvfReader_readDouble(&in));
	AvfWriter_endParcelable(reply, out);
	if (arguments->status == AVF_STATUS_OK)
		arguments->status = in.status;
}

static void text(AvfReader *arguments, AvfWriter *reply)
{
	size_t length;
	char *found = AvfReader_readNullableString(arguments, &length);

	AvfWriter_writeOk(reply);
	if (found == NULL)
		AvfWriter_writeString(reply, NULL);
	else
		AvfWriter_writeText(reply, found, length);
	free(found);
}

static void bytes(AvfReader *arguments, AvfWriter *reply)
{
	size_t size;
	const uint8_t *found = AvfReader_readNullableByteArray(arguments, &size);

	AvfWriter_writeOk(reply);
	AvfWriter_writeByteArray(reply, found, size);
}

static void as_text(AvfReader *arguments, AvfWriter *reply)
{
	size_t size;
	const uint8_t *found = AvfReader_readByteArray(arguments, &size);

	AvfWriter_writeOk(reply);
	AvfWriter_writeText(reply, (const char *)found, size);
}

static void doubled(AvfReader *arguments, AvfWriter *reply)
{
	int32_t count = AvfReader_readCount(arguments, 4), index;

	AvfWriter_writeOk(reply);
	AvfWriter_writeCount(reply, count);
	for (index = 0; index < count; index++)
		AvfWriter_writeInt64(reply, 2 * (int64_t)AvfReader_readInt32(arguments));
}

/* Record { String name; byte[] data; @nullable Record next; }, and what a later version adds. */
static void copy_record(AvfReader *from, AvfWriter *to, int depth)
{
	AvfReader record = AvfReader_readNullableParcelable(from);
	const uint8_t *data;
	size_t begun, size;
	char *name;

	if (record.data == NULL || depth == 0) {
		AvfWriter_writeNullParcelable(to);
		return;
	}
	begun = AvfWriter_beginParcelable(to);
	name = AvfReader_readString(&record, NULL);
	AvfWriter_writeString(to, name);
	free(name);
	data = AvfReader_readByteArray(&record, &size);
	AvfWriter_writeByteArray(to, data, size);
	if (AvfReader_left(&record) == 0)
		AvfWriter_writeNullParcelable(to);
	else
		copy_record(&record, to, depth - 1);
	AvfWriter_endParcelable(to, begun);
	if (from->status == AVF_STATUS_OK)
		from->status = record.status;
}

static void fail(AvfReader *arguments, AvfWriter *reply)
{
	int32_t exception = AvfReader_readInt32(arguments), error = AvfReader_readInt32(arguments);
	char *message = AvfReader_readNullableString(arguments, NULL);

	AvfWriter_writeOk(reply);
	AvfWriter_writeText(reply, "\xff", 1); /* fails, but does not matter any more */
	if (exception == AVF_EX_SERVICE_SPECIFIC)
		AvfWriter_writeServiceSpecific(reply, error, message);
	else
		AvfWriter_writeException(reply, exception, message);
	free(message);
}

static void long_reply(AvfReader *arguments, AvfWriter *reply)
{
	int32_t index, words = AvfReader_readInt32(arguments);

	AvfWriter_writeOk(reply);
	AvfWriter_writeCount(reply, words);
	for (index = 0; index < words && reply->status == AVF_STATUS_OK; index++)
		AvfWriter_writeInt32(reply, index);
}

/* Waits for another call of the same. */
static void meet(void)
{
	atomic_fetch_add(&met, 1);
	while (atomic_load(&met) < 2)
		sched_yield();
}

/* The most calls of this that ever ran at the same time. */
static int32_t at_once(void)
{
	int now = atomic_fetch_add(&inside, 1) + 1;

	if (now > atomic_load(&most))
		atomic_store(&most, now);
	for (int turn = 0; turn < 100; turn++)
		sched_yield();
	atomic_fetch_sub(&inside, 1);
	return atomic_load(&most);
}

static int32_t transact(void *user, uint32_t code, AvfReader *arguments, AvfWriter *reply)
{
	switch (code) {
	case NUMBERS:
		numbers(arguments, reply);
		break;
	case TEXT:
		text(arguments, reply);
		break;
	case BYTES:
		bytes(arguments, reply);
		break;
	case AS_TEXT:
		as_text(arguments, reply);
		break;
	case DOUBLED:
		doubled(arguments, reply);
		break;
	case RECORD:
		AvfWriter_writeOk(reply);
		copy_record(arguments, reply, 10);
		break;
	case FAIL:
		fail(arguments, reply);
		break;
	case LONG_REPLY:
		long_reply(arguments, reply);
		break;
	case CARELESS:
		AvfReader_readInt64(arguments);
		AvfWriter_writeOk(reply);
		return AVF_STATUS_OK;
	case MEET:
		meet();
		AvfWriter_writeOk(reply);
		break;
	case AT_ONCE:
		AvfWriter_writeOk(reply);
		AvfWriter_writeInt32(reply, at_once());
		break;
	case ABORT:
		abort();
	case NOTHING:
		return *(const int32_t *)user;
	case SAVED:
		AvfWriter_writeOk(reply);
		AvfWriter_writeInt32(reply, atomic_load(&saved));
		break;
	case SAVE:
		atomic_store(&saved, AvfReader_readInt32(arguments));
		break;
	default:
		return AVF_STATUS_UNKNOWN_TRANSACTION;
	}
	return AvfReader_finish(arguments);
}

static const int32_t nothing = AVF_STATUS_NAME_NOT_FOUND;

#ifndef HARNESS

static void ready(void *param)
{
	printf("%s", (const char *)param);
	fflush(stdout);
}

int AVmPayload_main(void)
{
	char descriptor[] = "test.IKinds";
	AIBinder *binder = AvfRpc_newBinder(descriptor, transact, (void *)&nothing, FLAGS);

	memset(descriptor, 'x', sizeof descriptor - 1);
	AVmPayload_runVsockRpcServer(binder, 5000, ready, (void *)"serving\n");
}

#else

/* Reads calls from stdin (code, size, that many bytes) and answers each, for a build that notices misuse of memory. */

static int32_t grow(AvfWriter *writer, size_t more)
{
	/* to the byte, so that whoever writes behind it is noticed */
	uint8_t *data = writer->size + more > 600u << 10 ? NULL : realloc(writer->data, writer->size + more);

	if (data == NULL)
		return AVF_STATUS_NO_MEMORY;
	writer->data = data;
	writer->capacity = writer->size + more;
	return AVF_STATUS_OK;
}

int main(void)
{
	uint32_t head[2];

	while (fread(head, sizeof head, 1, stdin) == 1) {
		uint8_t *data = malloc(head[1] ? head[1] : 1);
		AvfReader arguments = {data, head[1], 0, 0};
		AvfWriter reply = {NULL, 0, 0, 0, grow};

		if (fread(data, 1, head[1], stdin) != head[1])
			return 1;
		printf("%d\n", transact((void *)&nothing, head[0], &arguments, &reply));
		if (arguments.position > arguments.size)
			return 1;
		free(reply.data);
		free(data);
	}
	return 0;
}

#endif
