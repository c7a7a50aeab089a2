/* A native payload that serves an interface over RPC Binder on vsock port 5680: see aidl/com/example/INotebook.aidl. */
#include <stdio.h>

#include "avf_rpc.h"

#define PORT 5680
#define PLACES 3

/* What INotebook.aidl says: its constant, and its methods in their order. */
enum { ERROR_FULL = 1 };
enum { ADD = 1, GET, FIND, QUIT };

struct note {
	char *title;
	uint8_t *body;
	size_t size;
};

/* Calls come one at a time, so nothing has to be locked. */
struct notebook {
	struct note notes[PLACES];
	int32_t count;
};

static int32_t add(struct notebook *book, AvfReader *arguments, AvfWriter *reply)
{
	AvfReader fields = AvfReader_readParcelable(arguments);
	struct note note = {0};
	const uint8_t *body;

	note.title = AvfReader_readString(&fields, NULL);
	body = AvfReader_readByteArray(&fields, &note.size);
	if (fields.status != AVF_STATUS_OK) {
		free(note.title);
		return fields.status;
	}
	note.body = malloc(note.size + 1);
	if (note.body == NULL || book->count == PLACES) {
		free(note.title);
		free(note.body);
		AvfWriter_writeServiceSpecific(reply, ERROR_FULL, "the notebook is full");
		return AVF_STATUS_OK;
	}
	memcpy(note.body, body, note.size);
	book->notes[book->count] = note;
	AvfWriter_writeOk(reply);
	AvfWriter_writeInt32(reply, book->count++);
	return AVF_STATUS_OK;
}

static int32_t get(const struct notebook *book, AvfReader *arguments, AvfWriter *reply)
{
	int32_t number = AvfReader_readInt32(arguments);
	size_t note;

	AvfWriter_writeOk(reply);
	if (number < 0 || number >= book->count) {
		AvfWriter_writeNullParcelable(reply);
		return AVF_STATUS_OK;
	}
	note = AvfWriter_beginParcelable(reply);
	AvfWriter_writeString(reply, book->notes[number].title);
	AvfWriter_writeByteArray(reply, book->notes[number].body, book->notes[number].size);
	AvfWriter_endParcelable(reply, note);
	return AVF_STATUS_OK;
}

static int32_t find(const struct notebook *book, AvfReader *arguments, AvfWriter *reply)
{
	char *text = AvfReader_readString(arguments, NULL);
	int32_t found[PLACES], count = 0, number;

	if (text == NULL)
		return arguments->status;
	for (number = 0; number < book->count; number++)
		if (strstr(book->notes[number].title, text) != NULL)
			found[count++] = number;
	free(text);
	AvfWriter_writeOk(reply);
	AvfWriter_writeCount(reply, count);
	for (number = 0; number < count; number++)
		AvfWriter_writeInt32(reply, found[number]);
	return AVF_STATUS_OK;
}

static int32_t transact(void *user, uint32_t code, AvfReader *arguments, AvfWriter *reply)
{
	struct notebook *book = user;

	switch (code) {
	case ADD:
		return add(book, arguments, reply);
	case GET:
		return get(book, arguments, reply);
	case FIND:
		return find(book, arguments, reply);
	case QUIT:
		exit(0);
	default:
		return AVF_STATUS_UNKNOWN_TRANSACTION;
	}
}

static void on_ready(void *param)
{
	(void)param;
	AVmPayload_notifyPayloadReady();
}

int AVmPayload_main(void)
{
	static struct notebook book;

	printf("Serving a notebook with %d places\n", PLACES);
	AVmPayload_runVsockRpcServer(AvfRpc_newBinder("com.example.INotebook", transact, &book, 0), PORT, on_ready, NULL);
}
