/* codec: calls to requests, answers to replies; the one place that decides what an answer means.
 *
 * The judgement, in this order (API.md C4, C19, C23, C29):
 * - 2xx with what the operation promises: SERVICE_OK. 2xx without it: the service may have
 *   done it, SERVICE_IN_DOUBT. Deletes promise nothing but the status.
 * - An error envelope with a known `error.code`: SERVICE_REFUSED by that code, whatever the status, but
 *   `service_unavailable` is IN_DOUBT and `rate_limited` is throttled.
 *   An unknown code is a refusal only under a 4xx that isn't 408.
 * - No code: 413, 401 and 403 speak for themselves, 429 is throttled. Everything
 *   else, a 404 of some proxy above all, says nothing about the note: IN_DOUBT.
 *
 * Called on the network thread (http); encoding on the thread of whoever submits. No state.
 */
#include "api/codec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/folders.h"
#include "api/json.h"
#include "api/notes.h"

enum { MESSAGE_MAX = 300 };

static const size_t mib = (size_t)1 << 20;

static bool about_folders(enum service_op op) {
    return op == SERVICE_OP_FOLDERS || op == SERVICE_OP_FOLDER_CREATE || op == SERVICE_OP_FOLDER_RENAME ||
           op == SERVICE_OP_FOLDER_DELETE;
}

static bool promises_nothing(enum service_op op) {
    return op == SERVICE_OP_DELETE || op == SERVICE_OP_FOLDER_DELETE || op == SERVICE_OP_PROBE_WRITE;
}

int codec_encode(const struct service_call *call, struct request *out) {
    int error;

    *out = (struct request){0};
    error = about_folders(call->op) ? folders_encode(call, out) : notes_encode(call, out);
    if (error)
        request_release(out);
    return error;
}

size_t codec_answer_max(enum service_op op, const struct request *request) {
    switch (op) {
    case SERVICE_OP_GET:
    case SERVICE_OP_GET_BY_NAME:
    case SERVICE_OP_CREATE:
    case SERVICE_OP_PATCH:
    case SERVICE_OP_MOVE:
        /* A body of 3 MiB, each byte escaped to six (\u003c), is 18 MiB; the cap may be somewhat higher. */
        return 24 * mib;
    case SERVICE_OP_BULK:
        /* Our texts come back, at most six bytes for one, with some kilobytes around each. */
        return 2 * mib + 6 * request->body_size;
    case SERVICE_OP_LIST:
        /* 200 items; 16 KiB covers title, filename and 1,000 characters of excerpt, all escaped. */
        return 4 * mib;
    default:
        return mib;
    }
}

/* The size of the character at TEXT, 0 when it isn't UTF-8. */
static size_t character(const char *text) {
    size_t left = strnlen(text, 4);

    for (size_t size = 1; size <= left; size++) {
        if (json_utf8(text, size))
            return size;
    }
    return 0;
}

/* A copy of TEXT that is fit for a log line: one line, UTF-8, at most MESSAGE_MAX bytes. */
static char *tidy(const char *text) {
    size_t size = strnlen(text, MESSAGE_MAX);
    char *copy;

    /* Not through a character; three bytes back is far enough. */
    for (int i = 0; i < 3 && size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80; i++)
        size--;
    copy = strndup(text, size);
    for (char *at = copy; at && *at; at++) {
        unsigned char byte = (unsigned char)*at;

        if (byte < 0x20 || byte == 0x7f)
            *at = ' ';
        else if (byte == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0)
            at[0] = at[1] = ' ';
    }
    for (char *at = copy; at && *at;) {
        size_t whole = character(at);

        if (whole == 0)
            *at = '?';
        at += whole ? whole : 1;
    }
    return copy;
}

void codec_fail(struct service_reply *reply, enum service_outcome outcome, const char *why) {
    reply->outcome = outcome;
    reply->error = SERVICE_ERROR_UNAVAILABLE;
    free(reply->message);
    reply->message = why ? tidy(why) : NULL;
}

/* Bulk's `failed` has no known shape (API.md C30): it goes raw behind the message. */
static char *message_of(const cJSON *error) {
    const cJSON *message = json_member(error, "message");
    const cJSON *failed = json_member(error, "failed");
    const char *text = cJSON_GetStringValue(cJSON_IsString(error) ? error : message);
    char *raw = failed ? cJSON_PrintUnformatted(failed) : NULL;
    char joined[2 * MESSAGE_MAX + 16];

    if (!text && !raw)
        return NULL;
    snprintf(joined, sizeof(joined), "%.*s%s%.*s", MESSAGE_MAX, text ? text : "", raw ? " failed: " : "",
             MESSAGE_MAX, raw ? raw : "");
    cJSON_free(raw);
    return tidy(joined);
}

/* What an answer without a known code means by its status. */
static enum service_error error_of_status(int status, bool has_code) {
    switch (status) {
    case 401:
        return SERVICE_ERROR_UNAUTHENTICATED;
    case 403:
        return SERVICE_ERROR_FORBIDDEN;
    case 413:
        return SERVICE_ERROR_TOO_LARGE;
    case 429:
        return SERVICE_ERROR_RATE_LIMITED;
    case 408:
        return SERVICE_ERROR_UNAVAILABLE;
    default:
        return has_code && status >= 400 && status < 500 ? SERVICE_ERROR_OTHER : SERVICE_ERROR_UNAVAILABLE;
    }
}

static bool decode_error(const cJSON *root, struct service_reply *reply) {
    const cJSON *error = json_member(root, "error");
    const cJSON *code = json_member(error, "code");
    bool has_code = cJSON_IsString(code);

    reply->error = has_code ? service_error_from_code(code->valuestring) : SERVICE_ERROR_OTHER;
    if (reply->error == SERVICE_ERROR_OTHER)
        reply->error = error_of_status(reply->status, has_code);
    reply->outcome = reply->error == SERVICE_ERROR_UNAVAILABLE ? SERVICE_IN_DOUBT : SERVICE_REFUSED;
    reply->message = message_of(error);
    return reply->error == SERVICE_ERROR_RATE_LIMITED;
}

static void drop_objects(struct service_reply *reply) {
    for (size_t i = 0; i < reply->note_count; i++)
        service_note_release(&reply->notes[i]);
    for (size_t i = 0; i < reply->folder_count; i++)
        free(reply->folders[i].name);
    free(reply->notes);
    free(reply->folders);
    free(reply->receipt.filename);
    reply->notes = NULL;
    reply->folders = NULL;
    reply->note_count = reply->folder_count = reply->item_count = 0;
    reply->partial = false;
    reply->receipt = (struct service_receipt){0};
}

static void decode_success(enum service_op op, cJSON *root, struct service_reply *reply) {
    int error = 0;

    reply->receipt = (struct service_receipt){
        .byte_size = -1, .bytes_remaining = -1, .storage_used = -1, .storage_cap = -1};
    if (!promises_nothing(op))
        error = about_folders(op) ? folders_decode(op, root, reply) : notes_decode(op, root, reply);
    if (error) {
        drop_objects(reply);
        codec_fail(reply, SERVICE_IN_DOUBT, error == -ENOMEM ? "out of memory" : "the answer makes no sense");
    }
}

bool codec_decode(enum service_op op, const struct codec_answer *answer, struct service_reply *reply) {
    cJSON *root = answer->data ? json_parse(answer->data, answer->size) : NULL;
    bool throttled = false;

    reply->status = answer->status;
    if (answer->status >= 200 && answer->status <= 299)
        decode_success(op, root, reply);
    else
        throttled = decode_error(root, reply);
    cJSON_Delete(root);
    return throttled;
}
