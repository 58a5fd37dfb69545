/* resolve: requests whose outcome is unknown.
 *
 * Appends, creates, moves and folder calls go again under their key, and the service replays its answer: for 23 hours (it
 * remembers keys for 24), after a restart not before the request timeout has passed. Later they are looked up; when in doubt
 * a logged duplicate beats a loss.
 * A PATCH or DELETE is never resent blindly: it could undo what others did meanwhile. It is read first:
 *     version = base's                      not done: again, same key
 *     title and body = what was sent        done
 *     the same + more lines                 done, then somebody appended: news
 *     anything else                         thawed: as the look before any PATCH or DELETE (reconcile.c), then a new plan
 * A body that was read and isn't kept is removed by sync.c.
 */
#include "cache/resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/freeze.h"
#include "cache/names.h"
#include "cache/news.h"
#include "cache/outcome.h"
#include "cache/plan.h"
#include "cache/reconcile.h"
#include "cache/sync.h"

static const int64_t key_life_ms = 23LL * 3600 * 1000;

static bool is_append(const struct store_frozen *frozen) {
    return frozen->op == SERVICE_OP_APPEND || frozen->op == SERVICE_OP_APPEND_BY_NAME;
}

static bool is_repeatable(const struct store_frozen *frozen) {
    return is_append(frozen) || frozen->op == SERVICE_OP_CREATE || frozen->op == SERVICE_OP_BULK ||
           frozen->op == SERVICE_OP_FOLDER_CREATE;
}

static bool key_is_alive(struct cache *cache, const struct store_frozen *frozen) {
    return cache_time_ns(cache) / 1000000 - frozen->first_sent_ms < key_life_ms;
}

/* A node without id is looked up by the name that was asked for. */
static int ask(struct cache *cache, struct node *node) {
    struct completion *call;

    if (node->r.id && !node->r.folder)
        return fetch_start(cache, node, NODE_QUERY_RESOLVE, SERVICE_FOREGROUND);
    call = sync_call_create(cache, CALL_QUERY, 1);
    if (!call || tree_set_string(&call->name, node->frozen->title) < 0) {
        sync_call_destroy(call);
        return -ENOMEM;
    }
    call->inos[0] = node->r.ino;
    call->call.op = SERVICE_OP_GET_BY_NAME;
    node->query = NODE_QUERY_RESOLVE;
    node->priority = SERVICE_FOREGROUND;
    sync_call_queue(cache, call);
    return 0;
}

/* All nodes of one bulk call, in its order. */
static size_t gather(struct cache *cache, struct node *first, struct node **out) {
    struct node *node;
    size_t count = 0;

    for (node = cache->tree.dirty; node; node = node->dirty_next) {
        if (node->frozen && strcmp(node->frozen->key, first->frozen->key) == 0 &&
            node->frozen->position < SERVICE_BULK_MAX) {
            out[node->frozen->position] = node;
            count++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!out[i])
            return 0;
    }
    return count;
}

static void resend(struct cache *cache, struct node *node) {
    struct node *nodes[SERVICE_BULK_MAX] = {NULL};
    size_t count = 1;

    if (node->frozen->op == SERVICE_OP_BULK)
        count = gather(cache, node, nodes);
    else
        nodes[0] = node;
    if (count == 0) {
        /* Part of the batch is settled: the rest is looked up one by one. */
        (void)ask(cache, node);
        return;
    }
    if (freeze_send(cache, nodes, count) < 0)
        node->retry_at_ms = cache_now_ms(cache) + 1000;
}

/* It was not done: the same again. Without a key that counts, a new plan. */
static void repeat(struct cache *cache, struct node *node) {
    if (!key_is_alive(cache, node->frozen)) {
        outcome_thaw(cache, node);
        return;
    }
    node->in_doubt = false;
    node->failures = 0;
    resend(cache, node);
}

void resolve_retry(struct cache *cache, struct node *node) {
    struct store_frozen *frozen = node->frozen;
    int err = 0;

    if (node->r.folder) {
        /* Folder calls are harmless to repeat; after the key's life the list of folders decides. */
        if (key_is_alive(cache, frozen))
            resend(cache, node);
        else
            outcome_thaw(cache, node);
        return;
    }
    if (!node->in_doubt && (!is_repeatable(frozen) || key_is_alive(cache, frozen)))
        resend(cache, node);
    else
        err = ask(cache, node);
    if (err < 0)
        node->retry_at_ms = cache_now_ms(cache) + 1000;
}

/* How the note's body relates to the text sent. */
enum resemblance { OTHER, SAME, LONGER };

static enum resemblance compare(struct cache *cache, struct node *node, const struct service_note *note) {
    size_t sent = node->frozen->text_size, size = note->body_size;
    enum resemblance like = OTHER;
    char *text;

    if (!note->body || size < sent || freeze_text(cache, node, &text) < 0)
        return OTHER;
    if (memcmp(text, note->body, sent) == 0 && size == sent)
        like = SAME;
    else if (memcmp(text, note->body, sent) == 0 && sent > 0 && note->body[sent] == '\n')
        like = LONGER;
    free(text);
    return like;
}

static bool is_base_version(const struct node *node, const struct service_note *note) {
    const struct store_frozen *frozen = node->frozen;

    return (!(note->has & SERVICE_HAS_UPDATED) || note->updated_at == frozen->base_updated_at) &&
           (!(note->has & SERVICE_HAS_SIZE) || frozen->base_size < 0 || note->byte_size == frozen->base_size);
}

/* Whole lines TEXT in BODY, from byte FROM on? */
static bool holds_lines(const char *body, size_t size, size_t from, const char *text, size_t sent) {
    const char *at = body + from;

    while (sent > 0 && (at = memmem(at, size - (size_t)(at - body), text, sent))) {
        bool begins = at == body || at[-1] == '\n';
        bool ends = at + sent == body + size || at[sent] == '\n';

        if (begins && ends)
            return true;
        at++;
    }
    return false;
}

/* Lines like ours may have been there before: only what lies behind the body as it was when the request was made counts.
 * Where that isn't known, or the body was rewritten since, they are not taken for ours. */
static bool holds_append(struct cache *cache, struct node *node, const struct service_note *note) {
    const struct store_frozen *frozen = node->frozen;
    int64_t from = frozen->note_id ? frozen->base_size : 0;
    char *text;
    bool found;

    if (from < 0 || (uint64_t)from > note->body_size || !note->body || freeze_text(cache, node, &text) < 0)
        return false;
    found = holds_lines(note->body, note->body_size, (size_t)from, text, frozen->text_size);
    free(text);
    return found;
}

static void resolve_append(struct cache *cache, struct node *node, const struct service_note *note,
                           uint64_t number, int64_t date) {
    bool found = holds_append(cache, node, note);

    if (!found && key_is_alive(cache, node->frozen)) {
        repeat(cache, node);
        return;
    }
    if (!found) {
        if (!is_base_version(node, note))
            cache_log(cache, LOG_WARNING,
                      "an append of unknown outcome is sent again; it may be there twice");
        outcome_thaw(cache, node); /* a new key */
        if (node->r.id)
            (void)news_full(cache, node, note, number, date, false);
        return;
    }
    cache_log(cache, LOG_NOTICE, "an append of unknown outcome was found in the note");
    if (!node->r.id) {
        outcome_made(cache, node, note, number, date);
        return;
    }
    outcome_appended(cache, node);
    (void)news_full(cache, node, note, number, date, false);
}

static void resolve_create(struct cache *cache, struct node *node, const struct service_note *note,
                           uint64_t number, int64_t date) {
    if (compare(cache, node, note) != OTHER) {
        outcome_made(cache, node, note, number, date);
    } else if (key_is_alive(cache, node->frozen)) {
        repeat(cache, node);
    } else {
        /* Somebody else's note, or ours and changed since: once the list has told of it they are one file. */
        outcome_thaw(cache, node);
        node->retry_at_ms = cache_now_ms(cache) + 1000;
        cache->pull.poll_wanted = true;
    }
}

/* Without its title a note may have all of the body that a rename sent, and not be renamed. */
static bool has_title(const struct store_frozen *frozen, const struct service_note *note) {
    return !frozen->title || strcmp(frozen->title, note->filename) == 0 ||
           names_is_rendering(frozen->title, note->filename);
}

static void resolve_change(struct cache *cache, struct node *node, const struct service_note *note,
                           uint64_t number, int64_t date) {
    bool content = node->frozen->op == SERVICE_OP_PATCH && (node->frozen->fields & PLAN_CONTENT);

    if (is_base_version(node, note)) {
        repeat(cache, node);
    } else if (content && has_title(node->frozen, note) && compare(cache, node, note) != OTHER) {
        outcome_made(cache, node, note, number, date);
    } else {
        outcome_thaw(cache, node);
        reconcile_check(cache, node, note, number, date);
    }
}

void resolve_with_note(struct cache *cache, struct node *node, const struct service_note *note,
                       uint64_t number, int64_t date) {
    if (!node->frozen) {
        if (node->r.id)
            (void)news_full(cache, node, note, number, date, false);
        return;
    }
    switch ((enum service_op)node->frozen->op) {
    case SERVICE_OP_APPEND:
    case SERVICE_OP_APPEND_BY_NAME:
        resolve_append(cache, node, note, number, date);
        break;
    case SERVICE_OP_CREATE:
    case SERVICE_OP_BULK:
        resolve_create(cache, node, note, number, date);
        break;
    default:
        resolve_change(cache, node, note, number, date);
        break;
    }
}

void resolve_not_found(struct cache *cache, struct node *node) {
    if (!node->frozen)
        return;
    if (node->frozen->op == SERVICE_OP_DELETE) {
        outcome_deleted(cache, node);
        return;
    }
    outcome_thaw(cache, node);
    if (node->r.id)
        news_gone(cache, node);
}
