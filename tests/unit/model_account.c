/* model_account: see the head of model_account.h. What is checked here, and in which order, is API.md part (a). */
#include "model_account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NOTE_CAP = 3145728, FOLDER_MAX = 100, TITLE_BYTES = 200, FOLDER_NAME_MAX = 80 };

static const int64_t storage_cap = 16106127360;

static char *copy_text(const char *data, size_t size) {
    char *copy = malloc(size + 1);

    assert_non_null(copy);
    if (size)
        memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

static char *copy_string(const char *string) {
    return copy_text(string, strlen(string));
}

static int64_t now(const struct account *account) {
    return account->clock->real_ms / 1000;
}

void account_init(struct account *account, const struct fake_clock *clock) {
    *account = (struct account){.clock = clock, .last_id = 1000, .page_max = SERVICE_PAGE_MAX};
}

static void release_note(struct account_note *note) {
    free(note->filename);
    free(note->body);
    free(note);
}

void account_release(struct account *account) {
    for (size_t i = 0; i < account->note_count; i++)
        release_note(account->notes[i]);
    for (size_t i = 0; i < account->folder_count; i++)
        free(account->folders[i].name);
    free(account->notes);
    free(account->folders);
    *account = (struct account){0};
}

/* --- finding --- */

struct account_note *account_find(const struct account *account, const char *filename) {
    for (size_t i = 0; i < account->note_count; i++)
        if (strcmp(account->notes[i]->filename, filename) == 0)
            return account->notes[i];
    return NULL;
}

struct account_note *account_find_id(const struct account *account, int64_t id) {
    for (size_t i = 0; i < account->note_count; i++)
        if (account->notes[i]->id == id)
            return account->notes[i];
    return NULL;
}

struct account_folder *account_find_folder(const struct account *account, const char *name) {
    for (size_t i = 0; i < account->folder_count; i++)
        if (strcasecmp(account->folders[i].name, name) == 0)
            return &account->folders[i];
    return NULL;
}

static struct account_folder *find_folder_id(const struct account *account, int64_t id) {
    for (size_t i = 0; i < account->folder_count; i++)
        if (account->folders[i].id == id)
            return &account->folders[i];
    return NULL;
}

/* --- changing, for calls and for others --- */

static struct account_note *add(struct account *account, const char *filename, int64_t folder_id,
                                struct service_text text, bool append_only) {
    struct account_note *note = calloc(1, sizeof *note);
    struct account_note **notes =
        realloc(account->notes, (account->note_count + 1) * sizeof(struct account_note *));

    assert_non_null(note);
    assert_non_null(notes);
    *note = (struct account_note){.id = ++account->last_id,
                                  .filename = copy_string(filename),
                                  .body = copy_text(text.data, text.size),
                                  .size = text.size,
                                  .folder_id = folder_id,
                                  .append_only = append_only,
                                  .created_at = now(account),
                                  .updated_at = now(account)};
    account->notes = notes;
    account->notes[account->note_count++] = note;
    return note;
}

static void set_body(struct account *account, struct account_note *note, const char *data, size_t size) {
    char *body = copy_text(data, size);

    free(note->body);
    note->body = body;
    note->size = size;
    note->updated_at = now(account);
}

static void append(struct account *account, struct account_note *note, struct service_text text) {
    bool ended = note->size > 0 && note->body[note->size - 1] == '\n';
    bool separator = note->size > 0 && (account->separates_always || !ended);
    size_t added = text.size;

    if (account->chomps && added > 0 && text.data[added - 1] == '\n')
        added--;
    size_t size = note->size + separator + added;
    char *body = malloc(size + 1);
    assert_non_null(body);
    memcpy(body, note->body, note->size);
    if (separator)
        body[note->size] = '\n';
    memcpy(body + note->size + separator, text.data, added);
    set_body(account, note, body, size);
    free(body);
    note->appended_at = now(account);
}

struct account_note *account_add(struct account *account, const char *filename, int64_t folder_id,
                                 const char *body) {
    return add(account, filename, folder_id, (struct service_text){body, strlen(body)}, false);
}

void account_edit(struct account *account, struct account_note *note, const char *body) {
    set_body(account, note, body, strlen(body));
}

void account_append(struct account *account, struct account_note *note, const char *text) {
    append(account, note, (struct service_text){text, strlen(text)});
}

void account_rename(struct account *account, struct account_note *note, const char *filename) {
    char *copy = copy_string(filename);

    free(note->filename);
    note->filename = copy;
    note->updated_at = now(account);
}

void account_move(struct account *account, struct account_note *note, int64_t folder_id) {
    note->folder_id = folder_id;
    note->updated_at = now(account);
}

void account_delete(struct account *account, struct account_note *note) {
    for (size_t i = 0; i < account->note_count; i++) {
        if (account->notes[i] != note)
            continue;
        account->notes[i] = account->notes[--account->note_count];
        release_note(note);
        return;
    }
}

int64_t account_add_folder(struct account *account, const char *name) {
    struct account_folder *folders =
        realloc(account->folders, (account->folder_count + 1) * sizeof *account->folders);

    assert_non_null(folders);
    account->folders = folders;
    folders[account->folder_count++] =
        (struct account_folder){++account->last_id, copy_string(name), now(account), now(account)};
    return account->last_id;
}

/* Its notes stay, un-foldered, their updated_at as it was (API.md, folders). */
void account_delete_folder(struct account *account, int64_t id) {
    for (size_t i = 0; i < account->note_count; i++)
        if (account->notes[i]->folder_id == id)
            account->notes[i]->folder_id = 0;
    for (size_t i = 0; i < account->folder_count; i++) {
        if (account->folders[i].id != id)
            continue;
        free(account->folders[i].name);
        account->folders[i] = account->folders[--account->folder_count];
        return;
    }
}

/* --- replies --- */

static struct service_reply *new_reply(enum service_outcome outcome, int status) {
    struct service_reply *reply = calloc(1, sizeof *reply);

    assert_non_null(reply);
    reply->outcome = outcome;
    reply->status = status;
    return reply;
}

struct service_reply *account_refusal(enum service_error error, const char *message) {
    struct service_reply *reply = new_reply(SERVICE_REFUSED, 422);

    reply->error = error;
    reply->message = copy_string(message);
    return reply;
}

static void tell_note(const struct account *account, const struct account_note *note, bool full,
                      struct service_note *out) {
    *out = (struct service_note){
        .has = SERVICE_HAS_FOLDER | SERVICE_HAS_APPEND_ONLY | SERVICE_HAS_UPDATED | SERVICE_HAS_CREATED |
               SERVICE_HAS_APPENDED | (full || !account->tells_no_size ? SERVICE_HAS_SIZE : 0) |
               (full ? SERVICE_HAS_BODY | SERVICE_HAS_SETTINGS | SERVICE_HAS_ENCRYPTED : 0),
        .id = note->id,
        .filename = copy_string(note->filename),
        .title = copy_string(note->filename),
        .rich = note->rich,
        .folder_id = note->folder_id,
        .append_only = note->append_only,
        .byte_size = (int64_t)note->size,
        .updated_at = note->updated_at,
        .created_at = note->created_at,
        .last_appended_at = note->appended_at,
        .body = full ? copy_text(note->body, note->size) : NULL,
        .body_size = full ? note->size : 0,
        .body_exact = true,
    };
}

static struct service_reply *note_reply(const struct account *account, struct account_note *const *notes,
                                        size_t count, bool full) {
    struct service_reply *reply = new_reply(SERVICE_OK, 200);

    reply->notes = calloc(count + 1, sizeof *reply->notes);
    assert_non_null(reply->notes);
    reply->note_count = reply->item_count = count;
    reply->date = now(account);
    for (size_t i = 0; i < count; i++)
        tell_note(account, notes[i], full, &reply->notes[i]);
    return reply;
}

static struct service_reply *folder_reply(const struct account *account, const struct account_folder *folders,
                                          size_t count) {
    struct service_reply *reply = new_reply(SERVICE_OK, 200);

    reply->folders = calloc(count + 1, sizeof *reply->folders);
    assert_non_null(reply->folders);
    reply->folder_count = count;
    reply->date = now(account);
    for (size_t i = 0; i < count; i++)
        reply->folders[i] = (struct service_folder){folders[i].id, copy_string(folders[i].name),
                                                    folders[i].created_at, folders[i].updated_at};
    return reply;
}

static struct service_reply *receipt_reply(const struct account *account, const struct account_note *note,
                                           bool created) {
    struct service_reply *reply = new_reply(SERVICE_OK, created ? 201 : 200);
    int64_t used = 0;

    for (size_t i = 0; i < account->note_count; i++)
        used += (int64_t)account->notes[i]->size;
    reply->date = now(account);
    reply->receipt = (struct service_receipt){.id = note->id,
                                              .filename = copy_string(note->filename),
                                              .created = created,
                                              .byte_size = (int64_t)note->size,
                                              .bytes_remaining = NOTE_CAP - (int64_t)note->size,
                                              .storage_used = used,
                                              .storage_cap = storage_cap,
                                              .updated_at = note->updated_at};
    return reply;
}

/* --- calls --- */

static enum service_sort sort_by;

static int64_t sort_key(const struct account_note *note) {
    switch (sort_by) {
    case SERVICE_SORT_CREATED:
        return note->created_at;
    case SERVICE_SORT_APPENDED:
        return note->appended_at;
    case SERVICE_SORT_UPDATED:
        break;
    }
    return note->updated_at;
}

static int newest_first(const void *a, const void *b) {
    const struct account_note *const *left = a, *const *right = b;
    int64_t x = sort_key(*left), y = sort_key(*right);

    if (x != y)
        return x < y ? 1 : -1;
    return ((*left)->id < (*right)->id) - ((*left)->id > (*right)->id);
}

static struct service_reply *list(struct account *account, const struct service_call *call) {
    struct account_note **chosen = calloc(account->note_count + 1, sizeof(struct account_note *));
    int64_t folder = call->folder.place == SERVICE_PLACE_FOLDER ? call->folder.id : 0;
    size_t count = 0, limit = call->limit ? call->limit : 50;

    assert_non_null(chosen);
    for (size_t i = 0; i < account->note_count; i++)
        if (!call->filter_folder || account->notes[i]->folder_id == folder)
            chosen[count++] = account->notes[i];
    sort_by = call->sort;
    qsort(chosen, count, sizeof *chosen, newest_first);
    size_t from = call->offset < count ? call->offset : count;
    if (limit > account->page_max)
        limit = account->page_max;
    if (limit > count - from)
        limit = count - from;
    struct service_reply *reply = note_reply(account, chosen + from, limit, false);
    free(chosen);
    return reply;
}

static struct service_reply *not_found(void) {
    return account_refusal(SERVICE_ERROR_NOT_FOUND, "not found");
}

static struct service_reply *invalid(const char *message) {
    return account_refusal(SERVICE_ERROR_INVALID, message);
}

static bool is_folder(const struct account *account, struct service_folder_ref ref) {
    return ref.place != SERVICE_PLACE_FOLDER || find_folder_id(account, ref.id);
}

/* NULL: the row can be stored. */
static struct service_reply *check_row(const struct account *account, const struct service_row *rows,
                                       size_t index, bool bulk) {
    const struct service_row *row = &rows[index];

    if (!row->title || !*row->title || strlen(row->title) > TITLE_BYTES)
        return invalid("Title can't be blank");
    if (!is_folder(account, row->folder))
        return bulk ? invalid("bad folder") : not_found();
    if (row->text.size > NOTE_CAP)
        return account_refusal(SERVICE_ERROR_TOO_LARGE, "too large");
    if (account_find(account, row->title))
        return invalid("Filename has already been taken");
    for (size_t i = 0; i < index; i++)
        if (strcmp(rows[i].title, row->title) == 0)
            return invalid("Filename has already been taken");
    return NULL;
}

static struct service_reply *create(struct account *account, const struct service_call *call) {
    struct account_note *made[SERVICE_BULK_MAX];
    struct service_reply *refusal = NULL;

    assert_true(call->row_count >= 1 && call->row_count <= SERVICE_BULK_MAX);
    for (size_t i = 0; i < call->row_count && !refusal; i++)
        refusal = check_row(account, call->rows, i, call->op == SERVICE_OP_BULK);
    if (refusal)
        return refusal;
    for (size_t i = 0; i < call->row_count; i++) {
        const struct service_row *row = &call->rows[i];
        int64_t folder = row->folder.place == SERVICE_PLACE_FOLDER ? row->folder.id : 0;

        made[i] = add(account, row->title, folder, row->text, row->append_only);
    }
    return note_reply(account, made, call->row_count, true);
}

static struct service_reply *check_content(const struct account *account, const struct account_note *note,
                                           const struct service_call *call) {
    struct account_note *twin = call->title ? account_find(account, call->title) : NULL;

    if (note->rich)
        return account_refusal(SERVICE_ERROR_TYPE, "a rich note");
    if (note->append_only)
        return account_refusal(SERVICE_ERROR_LOCKED, "an append-only note");
    if (!call->text.data || (call->text.size == 0 && account->refuses_empty))
        return invalid("Plain body can't be blank");
    if (call->text.size > NOTE_CAP)
        return account_refusal(SERVICE_ERROR_TOO_LARGE, "too large");
    if (call->title && (!*call->title || strlen(call->title) > TITLE_BYTES))
        return invalid("Title can't be blank");
    if (twin && twin != note)
        return invalid("Filename has already been taken");
    return NULL;
}

static struct service_reply *patch(struct account *account, const struct service_call *call) {
    struct account_note *note = account_find_id(account, call->id);
    bool content = call->title || call->text.data;

    if (!note || !is_folder(account, call->folder))
        return not_found();
    struct service_reply *refusal = content ? check_content(account, note, call) : NULL;
    if (refusal)
        return refusal;
    if (content)
        set_body(account, note, call->text.data, call->text.size);
    if (call->title && !account->keeps_filename)
        account_rename(account, note, call->title);
    if (call->folder.place != SERVICE_PLACE_KEEP)
        account_move(account, note, call->folder.place == SERVICE_PLACE_FOLDER ? call->folder.id : 0);
    return note_reply(account, &note, 1, true);
}

static struct service_reply *append_call(struct account *account, const struct service_call *call) {
    bool by_name = call->op == SERVICE_OP_APPEND_BY_NAME;
    struct account_note *note =
        by_name ? account_find(account, call->name) : account_find_id(account, call->id);

    if (!note && !by_name)
        return not_found();
    if (call->text.size == 0)
        return invalid("text can't be blank");
    if ((note ? note->size : 0) + call->text.size + 1 > NOTE_CAP)
        return account_refusal(SERVICE_ERROR_TOO_LARGE, "too large");
    if (!note)
        return receipt_reply(account, add(account, call->name, 0, call->text, call->append_only), true);
    if (note->rich)
        return account_refusal(SERVICE_ERROR_TYPE, "a rich note");
    append(account, note, call->text);
    return receipt_reply(account, note, false);
}

static struct service_reply *delete_note(struct account *account, const struct service_call *call) {
    struct account_note *note = account_find_id(account, call->id);

    if (!note)
        return not_found();
    if (note->append_only && account->keeps_locked)
        return account_refusal(SERVICE_ERROR_LOCKED, "an append-only note");
    account_delete(account, note);
    return new_reply(SERVICE_OK, 204);
}

static struct service_reply *move(struct account *account, const struct service_call *call) {
    struct account_note *note = account_find_id(account, call->id);

    if (!note || !is_folder(account, call->folder))
        return not_found();
    if (call->folder.place == SERVICE_PLACE_KEEP)
        return invalid("folder_id is missing");
    account_move(account, note, call->folder.place == SERVICE_PLACE_FOLDER ? call->folder.id : 0);
    return note_reply(account, &note, 1, true);
}

static struct service_reply *folder_call(struct account *account, const struct service_call *call) {
    struct account_folder *folder = find_folder_id(account, call->id);
    struct account_folder *twin = call->name ? account_find_folder(account, call->name) : NULL;

    if (call->op != SERVICE_OP_FOLDER_CREATE && !folder)
        return not_found();
    if (call->op == SERVICE_OP_FOLDER_DELETE) {
        account_delete_folder(account, call->id);
        return new_reply(SERVICE_OK, 204);
    }
    if (!call->name || !*call->name || strlen(call->name) > FOLDER_NAME_MAX)
        return invalid("Name is invalid");
    if (twin && twin != folder)
        return invalid("Name has already been taken");
    if (!folder && account->folder_count >= FOLDER_MAX)
        return account_refusal(SERVICE_ERROR_CAP, "folder limit of 100 reached");
    if (!folder) {
        (void)account_add_folder(account, call->name);
        return folder_reply(account, &account->folders[account->folder_count - 1], 1);
    }
    free(folder->name);
    folder->name = copy_string(call->name);
    folder->updated_at = now(account);
    return folder_reply(account, folder, 1);
}

static struct service_reply *get(const struct account *account, struct account_note *note) {
    return note ? note_reply(account, &note, 1, true) : not_found();
}

struct service_reply *account_carry_out(struct account *account, const struct service_call *call) {
    if (account->read_only && service_class_of(call->op) != SERVICE_READ)
        return account_refusal(SERVICE_ERROR_FORBIDDEN, "this token may only read");
    switch (call->op) {
    case SERVICE_OP_LIST:
        return list(account, call);
    case SERVICE_OP_GET:
        return get(account, account_find_id(account, call->id));
    case SERVICE_OP_GET_BY_NAME:
        return get(account, account_find(account, call->name));
    case SERVICE_OP_CREATE:
    case SERVICE_OP_BULK:
        return create(account, call);
    case SERVICE_OP_PATCH:
        return patch(account, call);
    case SERVICE_OP_DELETE:
        return delete_note(account, call);
    case SERVICE_OP_APPEND:
    case SERVICE_OP_APPEND_BY_NAME:
        return append_call(account, call);
    case SERVICE_OP_MOVE:
        return move(account, call);
    case SERVICE_OP_FOLDERS:
        return folder_reply(account, account->folders, account->folder_count);
    case SERVICE_OP_FOLDER_CREATE:
    case SERVICE_OP_FOLDER_RENAME:
    case SERVICE_OP_FOLDER_DELETE:
        return folder_call(account, call);
    case SERVICE_OP_PROBE_WRITE:
        break;
    }
    return not_found();
}
