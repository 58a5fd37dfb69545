/* freeze: turns a step of the plan into a request that can be repeated byte for byte.
 *
 * The request is kept by what it says (operation, ids, title, key) and where its text lies: a range of the tail, which is
 * append-only, or a body file of its own, which is immutable. The encoder in api/ is deterministic, so the same
 * request gives the same bytes; should another version of jotsfs encode otherwise, the service answers
 * idempotency_key_conflict and the outcome is resolved by reading (resolve.c).
 *
 * Order of writes: text file -> row of the frozen request (one transaction with the node) -> fdatasync of tail, text
 * file, directory -> fdatasync of the log -> first byte on the network (the last three in sync.c).
 */
#include "cache/freeze.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/names.h"
#include "cache/owed.h"
#include "cache/sync.h"

void freeze_key(struct cache *cache, char out[FREEZE_KEY_SIZE]) {
    unsigned char raw[16];

    cache->clock.random(raw, sizeof(raw), cache->clock.arg);
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    (void)snprintf(out, FREEZE_KEY_SIZE,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", raw[0], raw[1],
                   raw[2], raw[3], raw[4], raw[5], raw[6], raw[7], raw[8], raw[9], raw[10], raw[11], raw[12],
                   raw[13], raw[14], raw[15]);
}

/* Text of an append from the tail: the range is enough. */
static int freeze_tail_range(struct node *node, const struct text_append *append,
                             struct store_frozen *frozen) {
    frozen->tail_epoch = node->r.tail_epoch;
    frozen->tail_from = node->r.tail_from;
    frozen->tail_to = node->r.tail_from + append->consumed;
    frozen->text_size = append->text_size;
    frozen->exact = append->partial;
    return 0;
}

/* Text of an append from a draft: the draft may change, so it is copied. */
static int freeze_draft_part(struct cache *cache, struct node *node, const struct text_append *append,
                             struct store_frozen *frozen) {
    char *text;
    int err = owed_read(cache, node, append->text_size, &text);

    if (err < 0)
        return err;
    frozen->body = store_next_number(cache->store);
    err = content_store(cache, frozen->body, text, append->text_size);
    frozen->text_size = append->text_size;
    frozen->exact = append->partial;
    frozen->draft_change = node->change;
    free(text);
    return err;
}

static int freeze_append(struct cache *cache, struct node *node, struct store_frozen *frozen) {
    struct text_append append;

    if (owed_append(cache, node, &append) != TEXT_APPEND)
        return -EAGAIN;
    if (node->r.content == STORE_CONTENT_TAIL)
        return freeze_tail_range(node, &append, frozen);
    return freeze_draft_part(cache, node, &append, frozen);
}

static int freeze_whole(struct cache *cache, struct node *node, struct store_frozen *frozen) {
    struct owed_snapshot snapshot;
    int err = content_cached(node) ? owed_snapshot(cache, node, node->writers > 0, &snapshot) : -EAGAIN;

    if (err < 0)
        return err;
    frozen->body = snapshot.number;
    frozen->text_size = snapshot.size;
    frozen->exact = snapshot.exact;
    frozen->draft_change = node->change;
    if (snapshot.tail_to) {
        frozen->tail_epoch = node->r.tail_epoch;
        frozen->tail_from = node->r.tail_from;
        frozen->tail_to = snapshot.tail_to;
    }
    return 0;
}

/* The folder that want names, as the service knows it. */
static int freeze_place(struct cache *cache, const struct node *node, struct store_frozen *frozen) {
    if (node->dir == cache->tree.root) {
        frozen->place = SERVICE_PLACE_ROOT;
        return 0;
    }
    if (!node->dir || !node->dir->r.id)
        return -EAGAIN;
    frozen->place = SERVICE_PLACE_FOLDER;
    frozen->folder_id = node->dir->r.id;
    return 0;
}

static int freeze_patch(struct cache *cache, struct node *node, unsigned fields,
                        struct store_frozen *frozen) {
    int err = 0;

    frozen->op = SERVICE_OP_PATCH;
    frozen->fields = fields;
    if (fields & PLAN_FOLDER)
        err = freeze_place(cache, node, frozen);
    if (err == 0 && (fields & PLAN_CONTENT))
        err = freeze_whole(cache, node, frozen);
    return err;
}

static int fill(struct cache *cache, struct node *node, const struct plan_step *step,
                struct store_frozen *frozen) {
    char temporary[NAMES_MAX_SHOWN + 1];
    const char *title = step->title;
    int err;

    if (step->temporary) {
        names_temporary(node->r.id, temporary);
        title = temporary;
    }
    if (title && tree_set_string(&frozen->title, title) < 0)
        return -ENOMEM;
    switch (step->op) {
    case PLAN_FOLDER_CREATE:
        frozen->op = SERVICE_OP_FOLDER_CREATE;
        return 0;
    case PLAN_FOLDER_RENAME:
        frozen->op = SERVICE_OP_FOLDER_RENAME;
        return 0;
    case PLAN_FOLDER_DELETE:
        frozen->op = SERVICE_OP_FOLDER_DELETE;
        return 0;
    case PLAN_CREATE:
        frozen->op = step->batch ? SERVICE_OP_BULK : SERVICE_OP_CREATE;
        err = freeze_place(cache, node, frozen);
        return err < 0 ? err : freeze_whole(cache, node, frozen);
    case PLAN_APPEND_CREATE:
        frozen->op = SERVICE_OP_APPEND_BY_NAME;
        return freeze_append(cache, node, frozen);
    case PLAN_APPEND:
        frozen->op = SERVICE_OP_APPEND;
        return freeze_append(cache, node, frozen);
    case PLAN_PATCH:
        return freeze_patch(cache, node, step->fields, frozen);
    case PLAN_MOVE:
        frozen->op = SERVICE_OP_MOVE;
        return freeze_place(cache, node, frozen);
    case PLAN_DELETE:
        frozen->op = SERVICE_OP_DELETE;
        return 0;
    case PLAN_ADOPT_NOTE:
    case PLAN_ADOPT_FOLDER:
    case PLAN_FETCH:
        break;
    }
    return -EINVAL;
}

int freeze_step(struct cache *cache, struct node *node, const struct plan_step *step, const char *key,
                unsigned position) {
    struct store_frozen *frozen = calloc(1, sizeof(*frozen));
    int err = frozen ? tree_set_string(&frozen->key, key) : -ENOMEM;

    if (err == 0) {
        frozen->ino = node->r.ino;
        frozen->position = position;
        frozen->note_id = node->r.id;
        frozen->append_only =
            node->r.want_locked && node->r.append_born && node->r.content == STORE_CONTENT_TAIL;
        frozen->base_updated_at = node->r.updated_at;
        frozen->base_size = node->r.base_size;
        frozen->first_sent_ms = frozen->last_sent_ms = cache_time_ns(cache) / 1000000;
        err = fill(cache, node, step, frozen);
    }
    if (err == 0) {
        cache_begin(cache);
        (void)store_put_frozen(cache->store, frozen);
        (void)store_put_node(cache->store, &node->r);
        err = cache_commit(cache);
    }
    if (err < 0) {
        if (frozen && frozen->body)
            (void)body_drop(statedir_bodies(cache->dir), frozen->body);
        if (frozen)
            store_frozen_release(frozen);
        free(frozen);
        return err;
    }
    node->frozen = frozen;
    node->checked = false;
    node->in_doubt = false;
    node->tried_at_ms = 0;
    return 0;
}

int freeze_text(struct cache *cache, struct node *node, char **out) {
    const struct store_frozen *frozen = node->frozen;
    char *text;
    int err;

    if (frozen->body)
        return content_load(cache, frozen->body, frozen->text_size, out);
    text = malloc(frozen->text_size + 1);
    if (!text)
        return -ENOMEM;
    err = content_open_written(cache, node);
    if (err == 0 && frozen->text_size)
        err = node->tail ? tail_read(node->tail, frozen->tail_from, text, frozen->text_size) : -EIO;
    if (err < 0) {
        free(text);
        return err;
    }
    text[frozen->text_size] = '\0';
    *out = text;
    return 0;
}

static bool has_text(const struct store_frozen *frozen) {
    switch (frozen->op) {
    case SERVICE_OP_PATCH:
        return (frozen->fields & PLAN_CONTENT) != 0;
    case SERVICE_OP_CREATE:
    case SERVICE_OP_BULK:
    case SERVICE_OP_APPEND:
    case SERVICE_OP_APPEND_BY_NAME:
        return true;
    default:
        return false;
    }
}

/* Texts in body files are loaded when the lock is given up (sync.c); those in the tail are read now. */
static int give_text(struct cache *cache, struct node *node, struct completion *call, size_t index) {
    const struct store_frozen *frozen = node->frozen;

    call->rows[index].text.size = frozen->text_size;
    if (!has_text(frozen))
        return 0;
    call->text_numbers[index] = frozen->body;
    return frozen->body ? 0 : freeze_text(cache, node, &call->texts[index]);
}

static int fill_row(struct completion *call, const struct store_frozen *frozen, size_t index) {
    struct service_row *row = &call->rows[index];
    int err = tree_set_string(&call->titles[index], frozen->title);

    row->title = call->titles[index];
    row->folder = (struct service_folder_ref){(enum service_place)frozen->place, frozen->folder_id};
    row->append_only = frozen->append_only;
    return err;
}

static int fill_call(struct cache *cache, struct completion *call, struct node **nodes, size_t count) {
    const struct store_frozen *first = nodes[0]->frozen;
    int err = 0;

    call->call.op = (enum service_op)first->op;
    call->call.id = first->note_id;
    call->call.folder = (struct service_folder_ref){(enum service_place)first->place, first->folder_id};
    call->call.append_only = first->append_only;
    if (tree_set_string(&call->key, first->key) < 0 || tree_set_string(&call->title, first->title) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < count && err == 0; i++) {
        call->inos[i] = nodes[i]->r.ino;
        err = fill_row(call, nodes[i]->frozen, i);
        if (err == 0)
            err = give_text(cache, nodes[i], call, i);
    }
    return err;
}

/* The next run must know when the last attempt began. */
static int note_attempt(struct cache *cache, struct node **nodes, size_t count) {
    int64_t now = cache_time_ns(cache) / 1000000;

    cache_begin(cache);
    for (size_t i = 0; i < count; i++) {
        nodes[i]->frozen->last_sent_ms = now;
        (void)store_put_frozen(cache->store, nodes[i]->frozen);
    }
    return cache_commit(cache);
}

int freeze_send(struct cache *cache, struct node **nodes, size_t count) {
    struct completion *call = sync_call_create(cache, CALL_FROZEN, count);
    int err = call ? fill_call(cache, call, nodes, count) : -ENOMEM;

    if (err == 0 && nodes[0]->tried_at_ms)
        err = note_attempt(cache, nodes, count);
    if (err < 0) {
        sync_call_destroy(call);
        return err;
    }
    for (size_t i = 0; i < count; i++)
        nodes[i]->in_flight = true;
    cache->frozen_in_flight++;
    sync_call_queue(cache, call);
    return 0;
}

void freeze_erase(struct cache *cache, struct node *node) {
    struct store_frozen *frozen = node->frozen;

    if (!frozen)
        return;
    node->frozen = NULL;
    node->in_doubt = false;
    node->in_flight = false;
    cache_begin(cache);
    (void)store_erase_frozen(cache->store, node->r.ino);
    cache_release_body(cache, node, frozen->body);
    (void)cache_commit(cache);
    store_frozen_release(frozen);
    free(frozen);
}
