/* owed: what of a file's content the service doesn't have yet.
 *
 * The one question behind it: do the bytes shown begin with what base shows, and can the rest go as an append
 * (text.h), or must the whole body be rewritten? For a tail that is so by construction; a draft is compared with the
 * cached body, so that an editor's save that only adds lines costs an append and one
 * that changes nothing costs nothing (DESIGN.md section 3).
 */
#include "cache/owed.h"

#include <errno.h>
#include <stdlib.h>

#include "cache/content.h"

enum {
    OWED_CALL_BYTES = 256 * 1024, /* most text in one append call */
    OWED_LEARN_BYTES = 64 * 1024, /* bodies up to this size are fetched to learn how they end */
    OWED_PATIENCE_MS = 2000,
};

bool owed_impatient(struct cache *cache, const struct node *node, int64_t *out_at_ms) {
    int64_t at = node->quiet_at_ms + OWED_PATIENCE_MS;

    if (node->hurry || cache->draining)
        return true;
    *out_at_ms = node->writers ? INT64_MAX : at;
    return !node->writers && cache_now_ms(cache) >= at;
}

static uint64_t added_bytes(struct node *node) {
    uint64_t base = content_base_size(node);

    if (node->r.content == STORE_CONTENT_DRAFT)
        return node->draft_size > base ? node->draft_size - base : 0;
    return content_unsent(node);
}

int owed_read(struct cache *cache, struct node *node, size_t size, char **out) {
    char *data = malloc(size + 1);
    int err = data ? content_open_written(cache, node) : -ENOMEM;

    if (err == 0 && node->r.content == STORE_CONTENT_DRAFT)
        err = body_read(node->draft, content_base_size(node), data, size);
    else if (err == 0)
        err = tail_read(node->tail, node->r.tail_from, data, size);
    if (err < 0) {
        free(data);
        return err;
    }
    data[size] = '\0';
    *out = data;
    return 0;
}

static struct text_tail situation(struct cache *cache, const struct node *node) {
    int64_t at;
    struct text_tail tail = {
        .end = node->r.id ? (enum text_end)node->r.end : TEXT_END_EMPTY,
        .rule = cache->rule,
        .body_size = UINT64_MAX,
        .locked = node->r.id && node->r.locked,
        .glued = node->r.id && node->r.exact,
        .patience = owed_impatient(cache, node, &at) ? TEXT_FLUSH : TEXT_WAIT,
        .learn_limit = OWED_LEARN_BYTES,
    };

    if (!node->r.id)
        tail.body_size = 0;
    else if (node->r.body)
        tail.body_size = node->r.body_size;
    else if (node->r.base_size >= 0)
        tail.body_size = (uint64_t)node->r.base_size;
    if (tail.body_size == 0)
        tail.end = TEXT_END_EMPTY;
    /* A rewrite that is due is as complete as it gets. */
    if (node->r.content == STORE_CONTENT_DRAFT)
        tail.patience = TEXT_FLUSH;
    return tail;
}

enum text_how owed_append(struct cache *cache, struct node *node, struct text_append *out) {
    struct text_tail tail = situation(cache, node);
    uint64_t added = added_bytes(node);
    size_t size = added > 2 * OWED_CALL_BYTES ? 2 * OWED_CALL_BYTES : (size_t)added;
    enum text_how how;
    char *data;

    if (size == 0 || owed_read(cache, node, size, &data) < 0)
        return TEXT_NOTHING;
    size = text_utf8_whole(data, size);
    how = text_plan_append(&tail, data, size, OWED_CALL_BYTES, out);
    free(data);
    return how;
}

bool owed_has_line(struct cache *cache, struct node *node) {
    struct text_append append;

    return content_unsent(node) > 0 && owed_append(cache, node, &append) == TEXT_APPEND;
}

/* Does the draft begin with what base shows? */
static bool continues_base(struct cache *cache, struct node *node) {
    uint64_t shown = content_base_size(node);
    bool equal = false;
    char last = '\n';

    if (content_open(cache, node) < 0 || !node->r.body || node->draft_size < shown)
        return false;
    if (body_equal(node->body, 0, node->draft, 0, node->r.body_size, &equal) < 0 || !equal)
        return false;
    if (shown > node->r.body_size && body_read(node->draft, shown - 1, &last, 1) < 0)
        return false;
    return last == '\n';
}

/* Size and exactness of the stored form of the first SIZE bytes of FILE. */
static int stored_form(const struct body *file, uint64_t size, struct owed_snapshot *out) {
    char last[2] = {0};
    size_t count = size < 2 ? (size_t)size : 2;
    int err = count ? body_read(file, size - count, last, count) : 0;

    if (err == 0)
        out->size = text_stored_size(size, last, count, &out->exact);
    return err;
}

/* Would the service store the draft just as it stores base? Then only how it is shown differs: with or without the
 * final newline. */
static bool stores_like_base(struct cache *cache, struct node *node, bool *out_exact) {
    struct owed_snapshot form = {0};
    bool equal = false;

    if (content_open(cache, node) < 0 || !node->r.body ||
        stored_form(node->draft, node->draft_size, &form) < 0)
        return false;
    *out_exact = form.exact;
    return form.size == node->r.body_size &&
           body_equal(node->body, 0, node->draft, 0, form.size, &equal) == 0 && equal;
}

static enum plan_body draft_relation(struct cache *cache, struct node *node) {
    struct text_append append;
    bool exact;

    if (!node->r.id || !node->r.body)
        return PLAN_BODY_REWRITE;
    if (stores_like_base(cache, node, &exact)) {
        node->r.exact = exact;
        return PLAN_BODY_SAME;
    }
    if (!continues_base(cache, node))
        return PLAN_BODY_REWRITE;
    if (added_bytes(node) == 0)
        return PLAN_BODY_SAME;
    if (owed_append(cache, node, &append) == TEXT_APPEND &&
        (append.consumed == added_bytes(node) || node->r.locked))
        return PLAN_BODY_APPEND;
    return PLAN_BODY_REWRITE;
}

static enum plan_body tail_relation(struct cache *cache, struct node *node, bool *out_learn) {
    struct text_append append;

    switch (owed_append(cache, node, &append)) {
    case TEXT_APPEND:
        return PLAN_BODY_APPEND;
    case TEXT_REWRITE:
        return PLAN_BODY_REWRITE;
    case TEXT_LEARN:
        *out_learn = true;
        return PLAN_BODY_SAME;
    case TEXT_ENDED: /* carried out before (push.c) */
    case TEXT_NOTHING:
        break;
    }
    return PLAN_BODY_SAME;
}

enum plan_body owed_relation(struct cache *cache, struct node *node, bool *out_learn) {
    *out_learn = false;
    switch (node->r.content) {
    case STORE_CONTENT_DRAFT:
        return draft_relation(cache, node);
    case STORE_CONTENT_TAIL:
        return node->r.id ? tail_relation(cache, node, out_learn) : PLAN_BODY_REWRITE;
    case STORE_CONTENT_BASE:
        break;
    }
    return node->r.id ? PLAN_BODY_SAME : PLAN_BODY_REWRITE;
}

int owed_snapshot(struct cache *cache, struct node *node, bool lines, struct owed_snapshot *out) {
    struct owed_snapshot snapshot = {0};
    struct text_append append;
    struct body *file = NULL;
    uint64_t size;
    int err;

    snapshot.number = store_next_number(cache->store);
    err = snapshot.number ? body_create(statedir_bodies(cache->dir), snapshot.number, &file) : -EIO;
    if (err == 0)
        err = content_copy(cache, node, file);
    size = content_size(node);
    if (err == 0 && lines && node->r.content == STORE_CONTENT_TAIL && !node->r.id) {
        err = owed_append(cache, node, &append) == TEXT_APPEND ? 0 : -EAGAIN;
        size = err == 0 ? append.consumed : 0;
    }
    if (err == 0)
        err = stored_form(file, size, &snapshot);
    if (err == 0)
        err = body_truncate(file, snapshot.size);
    if (node->r.content == STORE_CONTENT_TAIL)
        snapshot.tail_to = node->r.tail_from + (size - content_base_size(node));
    body_put(file);
    if (err < 0) {
        (void)body_drop(statedir_bodies(cache->dir), snapshot.number);
        return err;
    }
    *out = snapshot;
    return 0;
}
