/*
 * Lets a native payload serve calls over RPC Binder: one function of the payload gets every call as bytes, and answers it
 * with bytes. This header also has what reads and writes those bytes: the values of AIDL as libbinder encodes them.
 *
 *	static int32_t transact(void *user, uint32_t code, AvfReader *arguments, AvfWriter *reply)
 *	{
 *		int32_t a, b;
 *
 *		if (code != 1)
 *			return AVF_STATUS_UNKNOWN_TRANSACTION;
 *		a = AvfReader_readInt32(arguments);
 *		b = AvfReader_readInt32(arguments);
 *		AvfWriter_writeOk(reply);
 *		AvfWriter_writeInt32(reply, a + b);
 *		return AvfReader_finish(arguments);
 *	}
 *
 *	AIBinder *binder = AvfRpc_newBinder("com.example.IAdder", transact, NULL, 0);
 *	AVmPayload_runVsockRpcServer(binder, 5000, on_ready, NULL);
 *
 * This API is our own; Android has no such header. Its functions need no more than C99 or C++11.
 */
#ifndef AVF_RPC_H
#define AVF_RPC_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vm_payload.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers are copied as they are, and RPC Binder's are little endian"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a transaction may end with; libbinder's status_t has these and others. */
enum {
	AVF_STATUS_OK = 0,
	AVF_STATUS_UNKNOWN_ERROR = INT32_MIN,
	AVF_STATUS_BAD_TYPE = INT32_MIN + 1,
	AVF_STATUS_FAILED_TRANSACTION = INT32_MIN + 2,
	AVF_STATUS_UNEXPECTED_NULL = INT32_MIN + 8,
	AVF_STATUS_PERMISSION_DENIED = -1,
	AVF_STATUS_NAME_NOT_FOUND = -2,
	AVF_STATUS_NO_MEMORY = -12,
	AVF_STATUS_ALREADY_EXISTS = -17,
	AVF_STATUS_BAD_VALUE = -22,
	AVF_STATUS_INVALID_OPERATION = -38,
	AVF_STATUS_NOT_ENOUGH_DATA = -61,
	AVF_STATUS_UNKNOWN_TRANSACTION = -74,
	AVF_STATUS_BAD_INDEX = -75,
	AVF_STATUS_TIMED_OUT = -110
};

/* The exceptions that a method may answer with. */
enum {
	AVF_EX_SECURITY = -1,
	AVF_EX_BAD_PARCELABLE = -2,
	AVF_EX_ILLEGAL_ARGUMENT = -3,
	AVF_EX_NULL_POINTER = -4,
	AVF_EX_ILLEGAL_STATE = -5,
	AVF_EX_UNSUPPORTED_OPERATION = -7,
	AVF_EX_SERVICE_SPECIFIC = -8
};

/* Bytes being read. Start one of your own with {data, size, 0, 0}. */
typedef struct AvfReader {
	const uint8_t *data;
	size_t size;
	size_t position;
	/* The first thing that went wrong. From then on nothing is read: numbers are 0, pointers NULL. */
	int32_t status;
} AvfReader;

/* Bytes being written. The memory belongs to libvm_payload.so. */
typedef struct AvfWriter {
	uint8_t *data;
	size_t size;
	size_t capacity;
	/* The first thing that went wrong. From then on nothing is written. */
	int32_t status;
	/* Makes room for `more` bytes: 0 or a status. Not for payloads. */
	int32_t (*grow)(struct AvfWriter *writer, size_t more);
} AvfWriter;

/*
 * Answers a call of the method with the transaction code `code`: in AIDL the first method has 1, the next one 2.
 *
 * `arguments` reads the method's arguments; the interface token before them has been checked. `reply` is empty: write
 * AvfWriter_writeOk and the result to it, or an exception, and return AVF_STATUS_OK. The reply of a oneway method is not
 * sent. Any other value fails the transaction with that status, and so does a status of `arguments` or `reply`. Both are
 * valid until the function returns.
 */
typedef int32_t (*AvfRpc_transact)(void *user, uint32_t code, AvfReader *arguments, AvfWriter *reply);

/* Calls of different sessions may come at the same time, in threads. Without this flag a call waits for the one before. */
#define AVF_RPC_CONCURRENT 1u

/*
 * A binder object of the interface `descriptor` (copied) that has its calls answered by `transact`, with `user` for its
 * own use. Aborts if `descriptor` or `transact` is NULL, `flags` has unknown bits, or memory has run out.
 */
AIBinder *AvfRpc_newBinder(const char *descriptor, AvfRpc_transact transact, void *user, uint32_t flags);

/* Reading */

/* The next `size` bytes, or NULL if they are not all there. What follows begins at a multiple of four. */
static inline const uint8_t *AvfReader_readRaw(AvfReader *reader, size_t size)
{
	size_t left = reader->size - reader->position;
	size_t padded = size + (-size & 3);

	if (reader->status != AVF_STATUS_OK)
		return NULL;
	if (size > left || padded < size || padded > left) {
		reader->status = AVF_STATUS_NOT_ENOUGH_DATA;
		return NULL;
	}
	reader->position += padded;
	return reader->data + reader->position - padded;
}

/* Bytes that have not been read. */
static inline size_t AvfReader_left(const AvfReader *reader)
{
	return reader->size - reader->position;
}

/* The status to end with: what went wrong in reading, or AVF_STATUS_BAD_VALUE if there is more than was read. */
static inline int32_t AvfReader_finish(const AvfReader *reader)
{
	if (reader->status == AVF_STATUS_OK && AvfReader_left(reader) != 0)
		return AVF_STATUS_BAD_VALUE;
	return reader->status;
}

/* int; also byte, char and enums that are no longer than int. */
static inline int32_t AvfReader_readInt32(AvfReader *reader)
{
	int32_t value = 0;
	const uint8_t *found = AvfReader_readRaw(reader, sizeof value);

	if (found != NULL)
		memcpy(&value, found, sizeof value);
	return value;
}

/* boolean: 1 or 0. */
static inline int AvfReader_readBool(AvfReader *reader)
{
	return AvfReader_readInt32(reader) != 0;
}

/* long. */
static inline int64_t AvfReader_readInt64(AvfReader *reader)
{
	int64_t value = 0;
	const uint8_t *found = AvfReader_readRaw(reader, sizeof value);

	if (found != NULL)
		memcpy(&value, found, sizeof value);
	return value;
}

static inline float AvfReader_readFloat(AvfReader *reader)
{
	float value = 0;
	const uint8_t *found = AvfReader_readRaw(reader, sizeof value);

	if (found != NULL)
		memcpy(&value, found, sizeof value);
	return value;
}

static inline double AvfReader_readDouble(AvfReader *reader)
{
	double value = 0;
	const uint8_t *found = AvfReader_readRaw(reader, sizeof value);

	if (found != NULL)
		memcpy(&value, found, sizeof value);
	return value;
}

/*
 * How many elements an array has, of which each takes at least `element_size` bytes (4, except that long and double take
 * 8). -1 for a null array. More than the bytes left could hold is AVF_STATUS_BAD_VALUE.
 */
static inline int32_t AvfReader_readNullableCount(AvfReader *reader, size_t element_size)
{
	int32_t count = AvfReader_readInt32(reader);

	if (count < 0)
		return -1;
	if (element_size != 0 && (size_t)count > AvfReader_left(reader) / element_size) {
		reader->status = AVF_STATUS_BAD_VALUE;
		return 0;
	}
	return count;
}

/* The same where null is AVF_STATUS_UNEXPECTED_NULL. */
static inline int32_t AvfReader_readCount(AvfReader *reader, size_t element_size)
{
	int32_t count = AvfReader_readNullableCount(reader, element_size);

	if (count >= 0)
		return count;
	reader->status = AVF_STATUS_UNEXPECTED_NULL;
	return 0;
}

/* byte[]: a pointer to the bytes where they are, and their number. NULL for null, and if something went wrong. */
static inline const uint8_t *AvfReader_readNullableByteArray(AvfReader *reader, size_t *size)
{
	int32_t count = AvfReader_readNullableCount(reader, 1);
	const uint8_t *found = count < 0 ? NULL : AvfReader_readRaw(reader, (size_t)count);

	*size = found != NULL ? (size_t)count : 0;
	return found;
}

/* The same where null is AVF_STATUS_UNEXPECTED_NULL. */
static inline const uint8_t *AvfReader_readByteArray(AvfReader *reader, size_t *size)
{
	const uint8_t *found = AvfReader_readNullableByteArray(reader, size);

	if (found == NULL && reader->status == AVF_STATUS_OK)
		reader->status = AVF_STATUS_UNEXPECTED_NULL;
	return found;
}

/* A Unicode character of UTF-16, and how many of the `count` units at `at` it takes: 0 if they are malformed. */
static inline uint32_t avf_utf16_next(const uint8_t *at, size_t count, size_t *units)
{
	uint32_t first = at[0] | (uint32_t)at[1] << 8, second;

	*units = 1;
	if (first < 0xD800 || first > 0xDFFF)
		return first;
	*units = 0;
	if (first > 0xDBFF || count < 2)
		return 0;
	second = at[2] | (uint32_t)at[3] << 8;
	if (second < 0xDC00 || second > 0xDFFF)
		return 0;
	*units = 2;
	return 0x10000 + ((first & 0x3FF) << 10 | (second & 0x3FF));
}

/* Writes a character as UTF-8: how many bytes it takes. */
static inline size_t avf_utf8_put(uint32_t character, char *to)
{
	if (character < 0x80) {
		to[0] = (char)character;
		return 1;
	}
	if (character < 0x800) {
		to[0] = (char)(0xC0 | character >> 6);
		to[1] = (char)(0x80 | (character & 0x3F));
		return 2;
	}
	if (character < 0x10000) {
		to[0] = (char)(0xE0 | character >> 12);
		to[1] = (char)(0x80 | (character >> 6 & 0x3F));
		to[2] = (char)(0x80 | (character & 0x3F));
		return 3;
	}
	to[0] = (char)(0xF0 | character >> 18);
	to[1] = (char)(0x80 | (character >> 12 & 0x3F));
	to[2] = (char)(0x80 | (character >> 6 & 0x3F));
	to[3] = (char)(0x80 | (character & 0x3F));
	return 4;
}

/*
 * String, as UTF-8 with a NUL behind it, to be freed with free(). `length`, unless it is NULL, gets the number of bytes
 * before that NUL: a string may have a NUL in it. NULL for null, and if something went wrong. Text that is not Unicode is
 * AVF_STATUS_BAD_VALUE.
 */
static inline char *AvfReader_readNullableString(AvfReader *reader, size_t *length)
{
	int32_t count = AvfReader_readNullableCount(reader, 2);
	const uint8_t *found;
	char *text;
	size_t written = 0, units, at;

	if (length != NULL)
		*length = 0;
	if (count < 0 || reader->status != AVF_STATUS_OK)
		return NULL;
	found = AvfReader_readRaw(reader, 2 * ((size_t)count + 1));
	if (found == NULL)
		return NULL;
	if (found[2 * (size_t)count] != 0 || found[2 * (size_t)count + 1] != 0) {
		reader->status = AVF_STATUS_UNEXPECTED_NULL; /* as libbinder says of a string without its NUL */
		return NULL;
	}
	text = (char *)malloc(3 * (size_t)count + 1);
	if (text == NULL) {
		reader->status = AVF_STATUS_NO_MEMORY;
		return NULL;
	}
	for (at = 0; at < (size_t)count; at += units) {
		uint32_t character = avf_utf16_next(found + 2 * at, (size_t)count - at, &units);

		if (units == 0) {
			free(text);
			reader->status = AVF_STATUS_BAD_VALUE;
			return NULL;
		}
		written += avf_utf8_put(character, text + written);
	}
	text[written] = '\0';
	if (length != NULL)
		*length = written;
	return text;
}

/* The same where null is AVF_STATUS_UNEXPECTED_NULL. */
static inline char *AvfReader_readString(AvfReader *reader, size_t *length)
{
	char *text = AvfReader_readNullableString(reader, length);

	if (text == NULL && reader->status == AVF_STATUS_OK)
		reader->status = AVF_STATUS_UNEXPECTED_NULL;
	return text;
}

/*
 * A parcelable: a reader of its fields, which has a status of its own. `reader` goes on behind it, whatever is read of it.
 * An older writer may have left out the last fields: AvfReader_left says whether there are more. The data of a null one
 * are NULL, and so are those of one that is malformed.
 */
static inline AvfReader AvfReader_readNullableParcelable(AvfReader *reader)
{
	AvfReader fields = {NULL, 0, 0, 0};
	int32_t present = AvfReader_readInt32(reader), size = 0;
	const uint8_t *found = NULL;

	if (reader->status == AVF_STATUS_OK && present != 0) {
		size = AvfReader_readInt32(reader);
		if (reader->status == AVF_STATUS_OK && (size < 4 || (size & 3) != 0))
			reader->status = AVF_STATUS_BAD_VALUE;
		found = AvfReader_readRaw(reader, (size_t)size - 4);
	}
	fields.data = found;
	fields.size = found != NULL ? (size_t)size - 4 : 0;
	fields.status = reader->status;
	return fields;
}

/* The same where null is AVF_STATUS_UNEXPECTED_NULL. */
static inline AvfReader AvfReader_readParcelable(AvfReader *reader)
{
	AvfReader fields = AvfReader_readNullableParcelable(reader);

	if (fields.data == NULL && reader->status == AVF_STATUS_OK)
		reader->status = fields.status = AVF_STATUS_UNEXPECTED_NULL;
	return fields;
}

/* Writing */

/* Room for `size` bytes and the padding behind them, which is zero. NULL if there is none. */
static inline uint8_t *AvfWriter_writeRaw(AvfWriter *writer, size_t size)
{
	size_t padded = size + (-size & 3);
	uint8_t *room;

	if (writer->status == AVF_STATUS_OK && padded < size)
		writer->status = AVF_STATUS_BAD_VALUE;
	if (writer->status == AVF_STATUS_OK && padded > writer->capacity - writer->size)
		writer->status = writer->grow(writer, padded);
	if (writer->status != AVF_STATUS_OK)
		return NULL;
	room = writer->data + writer->size;
	memset(room + size, 0, padded - size);
	writer->size += padded;
	return room;
}

/* int; also byte, char and enums. */
static inline void AvfWriter_writeInt32(AvfWriter *writer, int32_t value)
{
	uint8_t *room = AvfWriter_writeRaw(writer, sizeof value);

	if (room != NULL)
		memcpy(room, &value, sizeof value);
}

static inline void AvfWriter_writeBool(AvfWriter *writer, int value)
{
	AvfWriter_writeInt32(writer, value != 0);
}

/* long. */
static inline void AvfWriter_writeInt64(AvfWriter *writer, int64_t value)
{
	uint8_t *room = AvfWriter_writeRaw(writer, sizeof value);

	if (room != NULL)
		memcpy(room, &value, sizeof value);
}

static inline void AvfWriter_writeFloat(AvfWriter *writer, float value)
{
	uint8_t *room = AvfWriter_writeRaw(writer, sizeof value);

	if (room != NULL)
		memcpy(room, &value, sizeof value);
}

static inline void AvfWriter_writeDouble(AvfWriter *writer, double value)
{
	uint8_t *room = AvfWriter_writeRaw(writer, sizeof value);

	if (room != NULL)
		memcpy(room, &value, sizeof value);
}

/* How many elements an array has, each of which is to be written next; -1 for a null array. */
static inline void AvfWriter_writeCount(AvfWriter *writer, int32_t count)
{
	AvfWriter_writeInt32(writer, count);
}

/* byte[]; null if `data` is NULL. */
static inline void AvfWriter_writeByteArray(AvfWriter *writer, const void *data, size_t size)
{
	uint8_t *room;

	if (data == NULL) {
		AvfWriter_writeInt32(writer, -1);
		return;
	}
	if (size > INT32_MAX) {
		if (writer->status == AVF_STATUS_OK)
			writer->status = AVF_STATUS_BAD_VALUE;
		return;
	}
	AvfWriter_writeInt32(writer, (int32_t)size);
	room = AvfWriter_writeRaw(writer, size);
	if (room != NULL)
		memcpy(room, data, size);
}

/* The next character of UTF-8, and how many of the `size` bytes at `at` it takes: 0 if they are malformed. */
static inline uint32_t avf_utf8_next(const uint8_t *at, size_t size, size_t *taken)
{
	static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = at[0] < 0x80 ? 1 : at[0] < 0xC0 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF8 ? 4 : 0;
	uint32_t character = length <= 1 ? at[0] : at[0] & (0x7Fu >> length);
	size_t index;

	*taken = 0;
	if (length == 0 || length > size)
		return 0;
	for (index = 1; index < length; index++) {
		if ((at[index] & 0xC0) != 0x80)
			return 0;
		character = character << 6 | (at[index] & 0x3F);
	}
	if (character < smallest[length] || character > 0x10FFFF || (character >= 0xD800 && character <= 0xDFFF))
		return 0;
	*taken = length;
	return character;
}

/* The number of UTF-16 units that UTF-8 becomes, or SIZE_MAX if it is malformed. */
static inline size_t avf_utf8_units(const uint8_t *text, size_t length)
{
	size_t at, taken, units = 0;

	for (at = 0; at < length; at += taken) {
		units += avf_utf8_next(text + at, length - at, &taken) > 0xFFFF ? 2 : 1;
		if (taken == 0)
			return SIZE_MAX;
	}
	return units;
}

/* String of `length` bytes of UTF-8, which may have NULs in it. Malformed UTF-8 is AVF_STATUS_BAD_VALUE. */
static inline void AvfWriter_writeText(AvfWriter *writer, const char *text, size_t length)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t units = avf_utf8_units(bytes, length), at, taken;
	uint8_t *room;

	if (units >= INT32_MAX) {
		if (writer->status == AVF_STATUS_OK)
			writer->status = AVF_STATUS_BAD_VALUE;
		return;
	}
	AvfWriter_writeInt32(writer, (int32_t)units);
	room = AvfWriter_writeRaw(writer, 2 * (units + 1));
	if (room == NULL)
		return;
	for (at = 0; at < length; at += taken) {
		uint32_t character = avf_utf8_next(bytes + at, length - at, &taken);

		if (character > 0xFFFF) {
			uint32_t high = 0xD7C0 + (character >> 10);

			*room++ = (uint8_t)high;
			*room++ = (uint8_t)(high >> 8);
			character = 0xDC00 | (character & 0x3FF);
		}
		*room++ = (uint8_t)character;
		*room++ = (uint8_t)(character >> 8);
	}
	room[0] = room[1] = 0;
}

/* String from UTF-8 that ends with a NUL; null if `text` is NULL. */
static inline void AvfWriter_writeString(AvfWriter *writer, const char *text)
{
	if (text == NULL)
		AvfWriter_writeInt32(writer, -1);
	else
		AvfWriter_writeText(writer, text, strlen(text));
}

/* Begins a parcelable, whose fields are to be written next. The value is for AvfWriter_endParcelable. */
static inline size_t AvfWriter_beginParcelable(AvfWriter *writer)
{
	AvfWriter_writeInt32(writer, 1);
	AvfWriter_writeInt32(writer, 0);
	return writer->size - 4;
}

/* Ends it. */
static inline void AvfWriter_endParcelable(AvfWriter *writer, size_t begun)
{
	int32_t size = (int32_t)(writer->size - begun);

	if (writer->status == AVF_STATUS_OK)
		memcpy(writer->data + begun, &size, sizeof size);
}

/* A parcelable that is null. */
static inline void AvfWriter_writeNullParcelable(AvfWriter *writer)
{
	AvfWriter_writeInt32(writer, 0);
}

/* Begins the answer of a method that has done its work. Its result is to be written next, then its `out` arguments. */
static inline void AvfWriter_writeOk(AvfWriter *writer)
{
	AvfWriter_writeInt32(writer, 0);
}

/*
 * Answers with an exception (AVF_EX_...) in place of what has been written before, whether that went well or not.
 * `message` may be NULL.
 */
static inline void AvfWriter_writeException(AvfWriter *writer, int32_t exception, const char *message)
{
	writer->size = 0;
	writer->status = AVF_STATUS_OK;
	AvfWriter_writeInt32(writer, exception);
	AvfWriter_writeString(writer, message != NULL ? message : "");
	AvfWriter_writeInt32(writer, 0);
	if (exception == AVF_EX_SERVICE_SPECIFIC)
		AvfWriter_writeInt32(writer, 0);
}

/* Answers with the exception SERVICE_SPECIFIC and an error number of the service's own. */
static inline void AvfWriter_writeServiceSpecific(AvfWriter *writer, int32_t error, const char *message)
{
	AvfWriter_writeException(writer, AVF_EX_SERVICE_SPECIFIC, message);
	if (writer->status == AVF_STATUS_OK)
		memcpy(writer->data + writer->size - sizeof error, &error, sizeof error);
}

#ifdef __cplusplus
}
#endif

#endif
