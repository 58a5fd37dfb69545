/* notes: the note endpoints: paths, request bodies, note and receipt objects.
 *
 * Requests are always wrapped, except append and move, which take bare keys.
 * Replies are bare notes, except lists ({"notes":[]}) and bulk ({"created":[]}).
 *
 * What an object did not say has no bit in `has`: list items may lack nearly
 * everything (API.md C5). In a full note the keys are certain, so that one which is
 * missing there is a null that the server left out (C27): no folder is the root.
 * An item of a list that can't be understood is left out and makes the reply
 * partial; a note without id or filename anywhere else is no answer at all.
 *
 * Called by codec. No state.
 */
#include "api/notes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/json.h"

enum { MAX_DEADLINE_HOURS = 100000 };

/* --- requests --- */

static int add_folder(cJSON *object, struct service_folder_ref folder) {
    switch (folder.place) {
    case SERVICE_PLACE_KEEP:
        return 0;
    case SERVICE_PLACE_ROOT:
        return json_add_null(object, "folder_id");
    case SERVICE_PLACE_FOLDER:
        return folder.id > 0 ? json_add_int(object, "folder_id", folder.id) : -EINVAL;
    }
    return -EINVAL;
}

static int add_row(cJSON *object, const struct service_row *row) {
    int error;

    if (!row->title || !*row->title)
        return -EINVAL;
    error = json_add_string(object, "title", row->title);
    if (!error)
        error = json_add_text(object, "plain_body", row->text);
    if (!error)
        error = json_add_string(object, "format", "plain");
    if (!error && row->folder.place == SERVICE_PLACE_FOLDER)
        error = add_folder(object, row->folder);
    if (!error)
        error = json_add_true(object, "append_only", row->append_only);
    if (!error)
        error = json_add_true(object, "client_encrypted", row->client_encrypted);
    return error;
}

static int fill_create(const struct service_call *call, cJSON *root) {
    cJSON *note = cJSON_AddObjectToObject(root, "note");

    if (call->row_count != 1)
        return -EINVAL;
    return note ? add_row(note, &call->rows[0]) : -ENOMEM;
}

static int fill_bulk(const struct service_call *call, cJSON *root) {
    cJSON *notes = cJSON_AddArrayToObject(root, "notes");
    int error = 0;

    if (call->row_count < 1 || call->row_count > SERVICE_BULK_MAX)
        return -EINVAL;
    for (size_t i = 0; i < call->row_count && !error; i++) {
        cJSON *note = cJSON_CreateObject();

        if (!note || !cJSON_AddItemToArray(notes, note))
            return -ENOMEM;
        error = add_row(note, &call->rows[i]);
    }
    return error;
}

static int add_deadline(cJSON *note, const struct service_setting *setting) {
    char *end;
    long hours;

    errno = 0;
    hours = strtol(setting->value, &end, 10);
    if (errno || end == setting->value || *end || hours < 0 || hours > MAX_DEADLINE_HOURS)
        return -EINVAL;
    return json_add_int(note, setting->key, hours);
}

static int add_setting(cJSON *note, const struct service_setting *setting) {
    static const char *const texts[] = {"alert_email", "webhook_url", "webhook_secret", "webhook_format"};
    bool is_deadline = strcmp(setting->key, "append_deadline_hours") == 0;
    bool known = is_deadline;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        known = known || strcmp(setting->key, texts[i]) == 0;
    if (!known)
        return -EINVAL;
    if (!setting->value)
        return json_add_null(note, setting->key);
    return is_deadline ? add_deadline(note, setting) : json_add_string(note, setting->key, setting->value);
}

static int fill_patch(const struct service_call *call, cJSON *root) {
    cJSON *note = cJSON_AddObjectToObject(root, "note");
    int error = 0;

    if (!note)
        return -ENOMEM;
    if (call->title)
        error = json_add_string(note, "title", call->title);
    if (!error && call->text.data)
        error = json_add_text(note, "plain_body", call->text);
    if (!error)
        error = add_folder(note, call->folder);
    for (size_t i = 0; i < call->setting_count && !error; i++)
        error = add_setting(note, &call->settings[i]);
    if (!error && !note->child)
        error = -EINVAL;
    return error;
}

/* A note that can't exist, moved to where it would be: nothing to do even if it did. */
static int fill_probe(const struct service_call *call, cJSON *root) {
    cJSON *note = cJSON_AddObjectToObject(root, "note");

    (void)call;
    return note ? json_add_null(note, "folder_id") : -ENOMEM;
}

static int fill_append(const struct service_call *call, cJSON *root) {
    int error;

    if (!call->text.data)
        return -EINVAL;
    error = json_add_text(root, "text", call->text);
    if (error || call->op != SERVICE_OP_APPEND_BY_NAME)
        return error;
    /* Said explicitly, as the server's default is true (API.md C15). */
    if (!cJSON_AddBoolToObject(root, "append_only", call->append_only))
        return -ENOMEM;
    return json_add_true(root, "client_encrypted", call->client_encrypted);
}

static int fill_move(const struct service_call *call, cJSON *root) {
    return call->folder.place == SERVICE_PLACE_KEEP ? -EINVAL : add_folder(root, call->folder);
}

typedef int fill(const struct service_call *call, cJSON *root);

static int set_body(const struct service_call *call, fill *fill_root, struct request *out) {
    cJSON *root = cJSON_CreateObject();
    int error = root ? fill_root(call, root) : -ENOMEM;

    if (!error)
        error = request_set_body(out, root);
    cJSON_Delete(root);
    return error;
}

static int set_list(const struct service_call *call, struct request *out) {
    static const char *const sorts[] = {"updated", "created", "appended"};
    unsigned limit = call->limit;

    if (limit == 0 || limit > SERVICE_PAGE_MAX)
        limit = SERVICE_PAGE_MAX;
    if ((unsigned)call->sort > SERVICE_SORT_APPENDED)
        return -EINVAL;
    if (!call->filter_folder)
        return request_set(out, "GET", "/notes?sort=%s&limit=%u&offset=%u", sorts[call->sort], limit,
                           call->offset);
    if (call->folder.place == SERVICE_PLACE_ROOT)
        return request_set(out, "GET", "/notes?folder_id=none&sort=%s&limit=%u&offset=%u", sorts[call->sort],
                           limit, call->offset);
    if (call->folder.place != SERVICE_PLACE_FOLDER || call->folder.id <= 0)
        return -EINVAL;
    return request_set(out, "GET", "/notes?folder_id=%" PRId64 "&sort=%s&limit=%u&offset=%u", call->folder.id,
                       sorts[call->sort], limit, call->offset);
}

static int set_by_id(const struct service_call *call, const char *method, const char *suffix,
                     struct request *out) {
    if (call->id <= 0)
        return -EINVAL;
    return request_set(out, method, "/notes/%" PRId64 "%s", call->id, suffix);
}

static int set_target(const struct service_call *call, struct request *out) {
    switch (call->op) {
    case SERVICE_OP_LIST:
        return set_list(call, out);
    case SERVICE_OP_GET:
        return set_by_id(call, "GET", "", out);
    case SERVICE_OP_GET_BY_NAME:
        return request_set_named(out, "GET", call->name, "");
    case SERVICE_OP_CREATE:
        return request_set(out, "POST", "/notes");
    case SERVICE_OP_BULK:
        return request_set(out, "POST", "/notes/bulk");
    case SERVICE_OP_PATCH:
        return set_by_id(call, "PATCH", "", out);
    case SERVICE_OP_DELETE:
        return set_by_id(call, "DELETE", "", out);
    case SERVICE_OP_APPEND:
        return set_by_id(call, "POST", "/append", out);
    case SERVICE_OP_APPEND_BY_NAME:
        return request_set_named(out, "POST", call->name, "/append");
    case SERVICE_OP_MOVE:
        return set_by_id(call, "POST", "/move", out);
    case SERVICE_OP_PROBE_WRITE:
        return request_set(out, "PATCH", "/notes/0");
    default:
        return -EINVAL;
    }
}

int notes_encode(const struct service_call *call, struct request *out) {
    static fill *const fills[] = {
        [SERVICE_OP_CREATE] = fill_create,     [SERVICE_OP_BULK] = fill_bulk,
        [SERVICE_OP_PATCH] = fill_patch,       [SERVICE_OP_APPEND] = fill_append,
        [SERVICE_OP_MOVE] = fill_move,         [SERVICE_OP_APPEND_BY_NAME] = fill_append,
        [SERVICE_OP_PROBE_WRITE] = fill_probe,
    };
    int error = set_target(call, out);

    if (error || !fills[call->op])
        return error;
    return set_body(call, fills[call->op], out);
}

/* --- replies --- */

static void read_places(cJSON *object, bool full, struct service_note *note) {
    const cJSON *folder = json_member(object, "folder_id");

    if (cJSON_IsNull(folder) || (!folder && full) || json_id(object, "folder_id", &note->folder_id))
        note->has |= SERVICE_HAS_FOLDER;
    if (json_bool(object, "append_only", &note->append_only))
        note->has |= SERVICE_HAS_APPEND_ONLY;
    if (json_bool(object, "client_encrypted", &note->client_encrypted))
        note->has |= SERVICE_HAS_ENCRYPTED;
    if (json_int(object, "byte_size", &note->byte_size) && note->byte_size >= 0)
        note->has |= SERVICE_HAS_SIZE;
    else
        note->byte_size = 0;
}

static void read_times(cJSON *object, bool full, struct service_note *note) {
    const cJSON *appended = json_member(object, "last_appended_at");

    if (json_time(object, "updated_at", &note->updated_at))
        note->has |= SERVICE_HAS_UPDATED;
    if (json_time(object, "created_at", &note->created_at))
        note->has |= SERVICE_HAS_CREATED;
    if (cJSON_IsNull(appended) || (!appended && full) ||
        json_time(object, "last_appended_at", &note->last_appended_at))
        note->has |= SERVICE_HAS_APPENDED;
}

static void read_settings(cJSON *object, struct service_note *note) {
    int64_t hours;

    if (json_int(object, "append_deadline_hours", &hours) && hours > 0 && hours <= MAX_DEADLINE_HOURS)
        note->append_deadline_hours = (int)hours;
    json_int(object, "webhook_failure_count", &note->webhook_failure_count);
    note->alert_email = json_take_string(object, "alert_email", NULL, NULL);
    note->webhook_url = json_take_string(object, "webhook_url", NULL, NULL);
    note->webhook_format = json_take_string(object, "webhook_format", NULL, NULL);
    note->webhook_disabled_at = json_take_string(object, "webhook_disabled_at", NULL, NULL);
    note->alerted_at = json_take_string(object, "alerted_at", NULL, NULL);
    note->has |= SERVICE_HAS_SETTINGS;
}

static void read_body(cJSON *object, struct service_note *note) {
    note->body = json_take_string(object, "plain_body", &note->body_size, &note->body_exact);
    if (note->body) {
        note->has |= SERVICE_HAS_BODY;
    } else if (json_null(object, "plain_body")) {
        note->has |= SERVICE_HAS_BODY;
        note->body_exact = true;
    }
}

/* FULL: a single note, not an item of a list. False when it has no id or no filename. */
static bool read_note(cJSON *object, bool full, struct service_note *note) {
    const cJSON *format;

    if (!json_id(object, "id", &note->id))
        return false;
    note->filename = json_take_string(object, "filename", NULL, NULL);
    if (!note->filename)
        return false;
    note->title = json_take_string(object, "title", NULL, NULL);
    format = json_member(object, "format");
    note->rich = cJSON_IsString(format) && strcmp(format->valuestring, "rich") == 0;
    read_places(object, full, note);
    read_times(object, full, note);
    read_body(object, note);
    if (full)
        read_settings(object, note);
    return true;
}

static int read_single(cJSON *root, struct service_reply *reply) {
    reply->notes = calloc(1, sizeof(*reply->notes));
    if (!reply->notes)
        return -ENOMEM;
    reply->note_count = 1;
    return read_note(root, true, &reply->notes[0]) ? 0 : -EPROTO;
}

static int read_array(const cJSON *root, const char *key, bool full, struct service_reply *reply) {
    const cJSON *items = json_member(root, key);
    cJSON *item;

    if (!cJSON_IsArray(items))
        return -EPROTO;
    reply->notes = calloc((size_t)cJSON_GetArraySize(items) + 1, sizeof(*reply->notes));
    if (!reply->notes)
        return -ENOMEM;
    cJSON_ArrayForEach(item, items) {
        struct service_note *note = &reply->notes[reply->note_count];

        reply->item_count++;
        if (read_note(item, full, note))
            reply->note_count++;
        else
            service_note_release(note);
    }
    reply->partial = reply->note_count < reply->item_count;
    return reply->partial && full ? -EPROTO : 0;
}

static int read_receipt(cJSON *root, struct service_reply *reply) {
    struct service_receipt *receipt = &reply->receipt;
    bool known = json_id(root, "id", &receipt->id);

    receipt->filename = json_take_string(root, "filename", NULL, NULL);
    known |= receipt->filename != NULL;
    json_bool(root, "created", &receipt->created);
    known |= json_int(root, "byte_size", &receipt->byte_size);
    known |= json_int(root, "bytes_remaining", &receipt->bytes_remaining);
    json_int(root, "storage_used", &receipt->storage_used);
    json_int(root, "storage_cap", &receipt->storage_cap);
    json_time(root, "updated_at", &receipt->updated_at);
    return known ? 0 : -EPROTO;
}

int notes_decode(enum service_op op, cJSON *root, struct service_reply *reply) {
    switch (op) {
    case SERVICE_OP_LIST:
        return read_array(root, "notes", false, reply);
    case SERVICE_OP_BULK:
        return read_array(root, "created", true, reply);
    case SERVICE_OP_APPEND:
    case SERVICE_OP_APPEND_BY_NAME:
        return read_receipt(root, reply);
    case SERVICE_OP_GET:
    case SERVICE_OP_GET_BY_NAME:
    case SERVICE_OP_CREATE:
    case SERVICE_OP_PATCH:
    case SERVICE_OP_MOVE:
        return read_single(root, reply);
    default:
        return -EPROTO;
    }
}
