/* outcome: what a reply to a frozen request does to the node.
 *
 * A reply is applied in one transaction that also erases the frozen request: after a kill either the request is still
 * frozen (and is repeated under its key) or its effect is in base. Bodies are extended or made before that transaction; the
 * lengths in the row rule.
 *
 * A refusal is final for the request, not for the bytes: the node is parked with the service's message and tried again when
 * it changes, on refresh, or after a remount. A refusal that concerns the account (token, plan, scope) parks nothing.
 */
#include "cache/outcome.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/freeze.h"
#include "cache/names.h"
#include "cache/news.h"
#include "cache/place.h"
#include "cache/plan.h"
#include "cache/reconcile.h"
#include "cache/resolve.h"

enum { DOUBT_MS = 30000, BACKOFF_MS = 250, BACKOFF_MAX_MS = 30000, CONFLICT_MS = 1000, DOUBT_FAILURES = 3 };

/* --- common ends --- */

static void finish(struct cache *cache, struct node *node) {
    freeze_erase(cache, node);
    node->own_change = ++cache->pull.sequence;
    node->failures = 0;
    node->retry_at_ms = 0;
    (void)cache_save(cache, node);
}

void outcome_thaw(struct cache *cache, struct node *node) {
    cache_begin(cache);
    freeze_erase(cache, node);
    node->checked = false;
    (void)cache_save(cache, node);
    (void)cache_commit(cache);
    cache_kick(cache);
}

void outcome_park(struct cache *cache, struct node *node, int error, const char *code, const char *message) {
    char *path = cache_path(node);

    cache_log(cache, LOG_ERR, "%s: the service refused it: %s (%s)", path ? path : "?",
              message ? message : "", code);
    free(path);
    cache_begin(cache);
    freeze_erase(cache, node);
    node->r.error = node->last_error = error;
    node->error_count++;
    (void)tree_set_string(&node->r.error_code, code);
    (void)tree_set_string(&node->r.error_message, message ? message : "");
    node->delete_now = false;
    (void)cache_save(cache, node);
    (void)cache_commit(cache);
    cache_wake_all(&node->waiters, error);
}

/* --- success --- */

static uint64_t known_size(const struct node *node) {
    if (node->r.body)
        return node->r.body_size;
    return node->r.base_size >= 0 ? (uint64_t)node->r.base_size : UINT64_MAX;
}

/* byte_size that the receipt of an append must show; -1 when it can't be known. */
static int64_t predict(const struct cache *cache, const struct node *node, size_t text_size) {
    uint64_t size = node->r.id ? known_size(node) : 0;

    if (size == UINT64_MAX)
        return -1;
    if (size == 0)
        return (int64_t)text_size;
    if (node->r.end == TEXT_END_LINE || (node->r.end == TEXT_END_NEWLINE && cache->rule == TEXT_RULE_ALWAYS))
        return (int64_t)(size + 1 + text_size);
    if (node->r.end == TEXT_END_NEWLINE && cache->rule == TEXT_RULE_MISSING)
        return (int64_t)(size + text_size);
    return -1;
}

static void learn_limits(struct cache *cache, const struct service_receipt *receipt) {
    if (receipt->byte_size >= 0 && receipt->bytes_remaining >= 0 &&
        receipt->byte_size + receipt->bytes_remaining > 0)
        cache->note_cap = receipt->byte_size + receipt->bytes_remaining;
    if (receipt->storage_used >= 0)
        cache->storage_used = receipt->storage_used;
    if (receipt->storage_cap > 0)
        cache->storage_cap = receipt->storage_cap;
}

static void learn_rule(struct cache *cache, const struct node *node, size_t text_size, int64_t size_after) {
    enum text_rule rule;
    uint64_t before = known_size(node);

    if (cache->rule != TEXT_RULE_UNKNOWN || size_after < 0 || before == UINT64_MAX)
        return;
    rule = text_learn_rule(before, (enum text_end)node->r.end, text_size, (uint64_t)size_after);
    if (rule == TEXT_RULE_UNKNOWN)
        return;
    cache->rule = rule;
    cache_begin(cache);
    (void)store_put_meta(cache->store, "append_rule", rule == TEXT_RULE_ALWAYS ? "always" : "missing");
    (void)cache_commit(cache);
}

/* A version that we made is no news to a rewrite or delete that waits. */
static void pass_ancestor(struct node *node) {
    if (node->r.content != STORE_CONTENT_DRAFT && node->dir)
        return;
    node->r.ancestor_updated_at = node->r.updated_at;
    node->r.ancestor_bytes = node->r.base_size;
}

static bool is_from_draft(const struct node *node) {
    return node->frozen->body && node->r.content == STORE_CONTENT_DRAFT;
}

/* The body isn't what we thought: somebody else wrote, too. What we sent is still no news to the draft it came from. */
static void lose_body(struct cache *cache, struct node *node, const char *text, size_t size) {
    bool from_draft = is_from_draft(node), wanted = node->r.body && node->handles;

    if (from_draft && node->r.body) {
        (void)base_extend_body(cache, node, text, size);
        reconcile_set_ancestor(cache, node, node->r.body, node->r.body_size);
    }
    (void)base_set_body(cache, node, 0, 0);
    if (from_draft && node->change == node->frozen->draft_change && !node->writers)
        base_drop_draft(cache, node); /* nothing came after it */
    if (wanted)
        (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
    cache_tell_inode(cache, node, true);
}

/* Base after our append of TEXT. */
static void advance(struct cache *cache, struct node *node, const char *text, size_t size,
                    const struct service_receipt *receipt) {
    int64_t expected;

    learn_rule(cache, node, size, receipt->byte_size);
    expected = predict(cache, node, size);
    if (expected >= 0 && (receipt->byte_size < 0 || receipt->byte_size == expected)) {
        (void)base_extend_body(cache, node, text, size);
        node->r.base_size = expected;
        if (is_from_draft(node))
            reconcile_set_ancestor(cache, node, node->r.body, node->r.body_size);
    } else {
        lose_body(cache, node, text, size);
        node->r.base_size = receipt->byte_size;
    }
    node->r.end = (int)text_end_of(text, size);
    node->r.exact = node->frozen->exact;
    if (receipt->updated_at)
        node->r.updated_at = receipt->updated_at;
    node->r.appended_at = -1;
    node->r.settled = !cache->pull.sizeless;
    if (expected < 0 || node->r.base_size == expected) /* else somebody else's bytes are in it, too */
        pass_ancestor(node);
}

/* Without memory for its names a node gets no base, and the reply counts as lost: the same request gets the same one. */
static void lose_reply(struct cache *cache, struct node *node) {
    tree_set_id(&cache->tree, node, 0);
    node->tried_at_ms = cache_now_ms(cache);
    node->retry_at_ms = node->tried_at_ms + BACKOFF_MS;
}

/* A node that has just got its note. */
static int give_base(struct cache *cache, struct node *node, int64_t id, const char *filename) {
    const struct store_frozen *frozen = node->frozen;
    struct node *folder = NULL;
    struct node *twin = tree_find_note(&cache->tree, id);

    if (twin && twin != node) /* told by a list before its reply came: one and the same note */
        news_gone(cache, twin);
    tree_set_id(&cache->tree, node, id);
    if (frozen->place == SERVICE_PLACE_FOLDER)
        folder = tree_find_folder(&cache->tree, frozen->folder_id);
    node->r.base_folder = folder ? frozen->folder_id : 0;
    node->r.base_dir = folder ? folder->r.ino : cache->tree.root->r.ino;
    node->r.locked = frozen->append_only;
    node->r.base_size = 0;
    node->r.end = TEXT_END_EMPTY;
    if (place_set_name(cache, node, filename ? filename : frozen->title, frozen->title) == 0)
        return 0;
    lose_reply(cache, node);
    return -ENOMEM;
}

static void consume(struct cache *cache, struct node *node) {
    if (node->frozen->tail_to)
        base_consume_tail(cache, node, node->frozen->tail_to);
}

static void appended(struct cache *cache, struct node *node, const struct service_receipt *receipt) {
    const struct store_frozen *frozen = node->frozen;
    size_t size = frozen->text_size;
    bool based = node->r.id != 0;
    char *text;

    if (freeze_text(cache, node, &text) < 0)
        text = NULL;
    cache_begin(cache);
    if (!based && give_base(cache, node, receipt->id, receipt->filename) < 0)
        goto out;
    if (!based && !receipt->created && receipt->byte_size > (int64_t)size) {
        /* The note was there already: our lines went behind its own. */
        node->r.base_size = -1;
        node->r.end = TEXT_END_UNKNOWN;
        node->r.append_born = false;
    }
    if (text)
        advance(cache, node, text, size, receipt);
    else
        (void)base_set_body(cache, node, 0, 0);
    consume(cache, node);
    learn_limits(cache, receipt);
    finish(cache, node);
out:
    (void)cache_commit(cache);
    free(text);
}

void outcome_appended(struct cache *cache, struct node *node) {
    struct service_receipt receipt = {
        .id = node->r.id, .byte_size = -1, .bytes_remaining = -1, .storage_used = -1, .storage_cap = -1};

    (void)base_set_body(cache, node, 0, 0);
    node->r.base_size = -1;
    appended(cache, node, &receipt);
}

/* Did the service store just what was sent? (API.md C21) */
static bool stored_as_sent(struct cache *cache, struct node *node, const struct service_note *note) {
    const struct store_frozen *frozen = node->frozen;
    char *text;
    bool same;

    if (!(note->has & SERVICE_HAS_BODY) || !note->body)
        return !(note->has & SERVICE_HAS_SIZE) || note->byte_size == (int64_t)frozen->text_size;
    if (note->body_size != frozen->text_size || freeze_text(cache, node, &text) < 0)
        return false;
    same = memcmp(text, note->body, frozen->text_size) == 0;
    free(text);
    return same;
}

void outcome_made(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
                  int64_t date) {
    struct store_frozen *frozen = node->frozen;
    bool content =
        frozen->op == SERVICE_OP_PATCH ? (frozen->fields & PLAN_CONTENT) != 0 : frozen->op != SERVICE_OP_MOVE;
    bool as_sent = content && frozen->body && stored_as_sent(cache, node, note);
    struct service_note made = *note;

    if (content && !as_sent && number)
        cache_log(cache, LOG_NOTICE, "the service stored a note otherwise than sent; its version is kept");
    cache_begin(cache);
    if (!node->r.id && give_base(cache, node, note->id, note->filename) < 0) {
        (void)cache_commit(cache);
        return;
    }
    if (frozen->title)
        (void)place_set_name(cache, node, note->filename, frozen->title);
    if (as_sent) {
        cache_release_body(cache, node, number != frozen->body ? number : 0);
        number = frozen->body;
        made.body_size = frozen->text_size;
    }
    node->r.exact = content && as_sent ? frozen->exact : node->r.exact;
    if (frozen->place != SERVICE_PLACE_KEEP && !(note->has & SERVICE_HAS_FOLDER))
        made.folder_id = frozen->place == SERVICE_PLACE_FOLDER ? frozen->folder_id : 0;
    if (frozen->place != SERVICE_PLACE_KEEP)
        made.has |= SERVICE_HAS_FOLDER;
    (void)news_full(cache, node, &made, number, date, as_sent || !content);
    consume(cache, node);
    pass_ancestor(node);
    /* A rewrite goes on from what was sent: what the service has beyond that is news to it. */
    if (node->r.content == STORE_CONTENT_DRAFT && content && frozen->body)
        reconcile_set_ancestor(cache, node, frozen->body, frozen->text_size);
    else if (node->r.content == STORE_CONTENT_DRAFT)
        reconcile_set_ancestor(cache, node, node->r.body, node->r.body_size);
    node->rewritten_at_ms = cache_now_ms(cache);
    if (content)
        node->saved_change = frozen->draft_change;
    finish(cache, node);
    (void)cache_commit(cache);
    cache_wake_all(&node->waiters, 0);
}

void outcome_deleted(struct cache *cache, struct node *node) {
    cache_begin(cache);
    if (node->r.folder)
        cache->pull.folder_change = ++cache->pull.sequence;
    freeze_erase(cache, node);
    if (node->delete_now && node->dir)
        tree_unplace(&cache->tree, node);
    node->delete_now = false;
    if (!node->dir && !node->handles) /* who has it open goes on with what it shows */
        node->r.content = STORE_CONTENT_BASE;
    base_clear(cache, node);
    (void)cache_save(cache, node);
    (void)cache_commit(cache);
    cache_wake_all(&node->waiters, 0);
}

static void folder_made(struct cache *cache, struct node *node, const struct service_reply *reply) {
    const struct service_folder *folder = &reply->folders[0];
    struct node *twin = tree_find_folder(&cache->tree, folder->id);
    bool based = node->r.id != 0;
    int err;

    cache_begin(cache);
    if (twin && twin != node) /* told by a list before: one and the same folder */
        news_gone(cache, twin);
    tree_set_id(&cache->tree, node, folder->id);
    err = place_set_name(cache, node, folder->name ? folder->name : node->frozen->title, node->frozen->title);
    if (err < 0 && !based) {
        lose_reply(cache, node);
    } else {
        node->r.base_dir = cache->tree.root->r.ino;
        node->r.updated_at = folder->updated_at;
        finish(cache, node);
        cache->pull.folder_change = node->own_change;
    }
    (void)cache_commit(cache);
}

/* 2xx without what is there now (API.md C29): to be read. */
static void unclear(struct cache *cache, struct node *node) {
    node->tried_at_ms = cache_now_ms(cache);
    node->in_doubt = true;
    node->retry_at_ms = cache_now_ms(cache) + BACKOFF_MS;
}

static void succeeded(struct cache *cache, struct node *node, struct completion *call, size_t index) {
    struct service_reply *reply = call->reply;

    switch ((enum service_op)node->frozen->op) {
    case SERVICE_OP_DELETE:
    case SERVICE_OP_FOLDER_DELETE:
        outcome_deleted(cache, node);
        return;
    case SERVICE_OP_APPEND:
    case SERVICE_OP_APPEND_BY_NAME:
        if (node->r.id || reply->receipt.id > 0)
            appended(cache, node, &reply->receipt);
        else
            unclear(cache, node);
        return;
    case SERVICE_OP_FOLDER_CREATE:
    case SERVICE_OP_FOLDER_RENAME:
        if (reply->folder_count == 1)
            folder_made(cache, node, reply);
        else
            unclear(cache, node);
        return;
    default:
        break;
    }
    if (reply->note_count == call->ino_count && (!node->r.id || reply->notes[index].id == node->r.id))
        outcome_made(cache, node, &reply->notes[index], index == 0 ? call->stored : 0, reply->date);
    else
        unclear(cache, node);
}

/* --- refusal --- */

/* The account is the matter: nothing is parked, all waits. */
static bool is_account_matter(const struct service_reply *reply) {
    return reply->error == SERVICE_ERROR_UNAUTHENTICATED || reply->error == SERVICE_ERROR_FORBIDDEN;
}

static bool is_create(const struct store_frozen *frozen) {
    return frozen->op == SERVICE_OP_CREATE || frozen->op == SERVICE_OP_BULK;
}

/* A whole batch was refused because of one row: halves find the row in log2 steps. */
static void split_batch(struct cache *cache, struct node *node, size_t count) {
    node->batch_max = (uint8_t)(count > 2 ? (count + 1) / 2 : 1);
    outcome_thaw(cache, node);
}

static void now_locked(struct cache *cache, struct node *node, bool rich) {
    cache_begin(cache);
    node->r.locked = !rich;
    node->r.rich = rich;
    outcome_thaw(cache, node);
    reconcile_locked(cache, node);
    (void)cache_commit(cache);
    cache->pull.poll_wanted = true;
    (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
}

/* The service has something under this name that we have not seen: look, then decide anew. */
static int refusal_errno(const struct node *node, const struct service_reply *reply) {
    if (reply->error == SERVICE_ERROR_INVALID && node->frozen->title)
        return node->frozen->text_size == 0 && node->frozen->op == SERVICE_OP_PATCH ? -EINVAL : -EEXIST;
    return service_error_errno(reply->error);
}

/* Something that the request names is gone: the note or the folder. */
static void not_found(struct cache *cache, struct node *node) {
    int op = node->frozen->op;
    bool placed = node->frozen->place == SERVICE_PLACE_FOLDER;

    if (op == SERVICE_OP_DELETE || op == SERVICE_OP_FOLDER_DELETE) {
        outcome_deleted(cache, node);
        return;
    }
    outcome_thaw(cache, node);
    if (op == SERVICE_OP_APPEND && !node->r.id)
        return; /* that it is gone is known already: it is made again */
    if (!placed && node->r.id) {
        news_gone(cache, node);
        return;
    }
    /* A look at both tells; a folder that is gone is made again. */
    node->retry_at_ms = cache_now_ms(cache) + 1000;
    cache->pull.folders_wanted = true;
    if (node->r.id)
        (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
}

/* An earlier attempt is still at work (API.md C4); or another version encoded it: read, then a new key. */
static void key_conflict(struct cache *cache, struct node *node) {
    node->retry_at_ms = cache_now_ms(cache) + CONFLICT_MS;
    if (node->tried_at_ms && cache_now_ms(cache) - node->tried_at_ms < DOUBT_MS)
        return;
    node->frozen->first_sent_ms = 0; /* the key's life is over */
    node->in_doubt = true;
}

static void refused(struct cache *cache, struct node *node, struct completion *call) {
    struct service_reply *reply = call->reply;
    int op = node->frozen->op;

    if (is_account_matter(reply)) {
        if (node->tried_at_ms) /* nobody has looked at its key */
            node->retry_at_ms = cache_now_ms(cache) + BACKOFF_MS;
        else
            outcome_thaw(cache, node);
    } else if (reply->error == SERVICE_ERROR_KEY_CONFLICT) {
        key_conflict(cache, node);
    } else if (reply->replayed) { /* a stored error (API.md C4): a new key */
        node->retry_at_ms = cache_now_ms(cache) + BACKOFF_MS;
        outcome_thaw(cache, node);
    } else if (reply->error == SERVICE_ERROR_NOT_FOUND &&
               (node->r.id || op == SERVICE_OP_APPEND || is_create(node->frozen))) {
        not_found(cache, node);
    } else if (op == SERVICE_OP_BULK && call->ino_count > 1) {
        split_batch(cache, node, call->ino_count);
    } else if ((reply->error == SERVICE_ERROR_LOCKED || reply->error == SERVICE_ERROR_TYPE) &&
               op == SERVICE_OP_PATCH) {
        now_locked(cache, node, reply->error == SERVICE_ERROR_TYPE);
    } else {
        cache->pull.poll_wanted |= reply->error == SERVICE_ERROR_INVALID;
        cache->pull.folders_wanted |= reply->error == SERVICE_ERROR_INVALID && node->r.folder;
        outcome_park(cache, node, refusal_errno(node, reply), service_error_code(reply->error),
                     reply->message);
    }
}

/* --- no answer --- */

static void unanswered(struct cache *cache, struct node *node, const struct service_reply *reply) {
    int64_t pause = node->failures < 7 ? (int64_t)BACKOFF_MS << node->failures : BACKOFF_MAX_MS;
    bool overwrites = node->frozen->op == SERVICE_OP_PATCH || node->frozen->op == SERVICE_OP_DELETE;

    if (reply->outcome == SERVICE_UNSENT && !node->tried_at_ms) {
        outcome_thaw(cache, node); /* certainly not processed: more can join it */
        node->retry_at_ms = cache_now_ms(cache) + BACKOFF_MS;
        return;
    }
    if (reply->outcome == SERVICE_IN_DOUBT)
        node->tried_at_ms = cache_now_ms(cache);
    node->failures += node->failures < 20;
    /* Without any answer the pauses are those of the link (link.c). */
    node->retry_at_ms = cache_now_ms(cache) + (reply->status ? pause : BACKOFF_MS);
    /* What overwrites is read first: others may have changed the note meanwhile. Answers that break off, or say yes without
     * saying what is there now (API.md C29), may do so for ever: to be read, too. */
    if (node->tried_at_ms && (overwrites || node->failures > DOUBT_FAILURES))
        node->in_doubt = true;
}

static void node_done(struct cache *cache, struct node *node, struct completion *call, size_t index) {
    node->in_flight = false;
    switch (call->reply->outcome) {
    case SERVICE_OK:
        succeeded(cache, node, call, index);
        break;
    case SERVICE_REFUSED:
        refused(cache, node, call);
        break;
    case SERVICE_IN_DOUBT:
    case SERVICE_UNSENT:
        unanswered(cache, node, call->reply);
        break;
    }
}

void outcome_done(struct cache *cache, struct completion *call) {
    cache->frozen_in_flight--;
    cache_begin(cache);
    for (size_t i = 0; i < call->ino_count; i++) {
        struct node *node = tree_find(&cache->tree, call->inos[i]);

        if (node && node->frozen && strcmp(node->frozen->key, call->key) == 0)
            node_done(cache, node, call, i);
        node = tree_find(&cache->tree, call->inos[i]);
        if (node)
            fetch_again(cache, node);
    }
    (void)cache_commit(cache);
}

/* --- agreement --- */

static bool agrees(const struct node *node) {
    if (!node->dir)
        return node->r.id == 0;
    if (node->r.scratch)
        return true;
    if (!node->r.id || !node->r.base_shown || node->delete_now)
        return false;
    if (strcmp(node->r.name, node->r.base_shown) != 0)
        return false;
    return node->r.folder || (node->r.content == STORE_CONTENT_BASE && node->r.dir == node->r.base_dir);
}

bool outcome_settle(struct cache *cache, struct node *node) {
    if (node->frozen || node->query == NODE_QUERY_CHECK || node->query == NODE_QUERY_RESOLVE)
        return false;
    if (node->r.content == STORE_CONTENT_TAIL && node->r.id && node->tail && content_unsent(node) == 0)
        base_consume_tail(cache, node, UINT64_MAX);
    if (!agrees(node))
        return false;
    cache_begin(cache);
    tree_mark_clean(&cache->tree, node);
    if (node->r.content == STORE_CONTENT_BASE && node->r.tail_epoch)
        base_consume_tail(cache, node, UINT64_MAX);
    node->r.changed_at = 0;
    node->r.gone_at = 0;
    node->r.error = 0;
    node->hurry = false;
    (void)cache_save(cache, node);
    (void)cache_commit(cache);
    cache_wake_all(&node->waiters, 0);
    content_close(cache, node);
    cache_reap(cache, node);
    return true;
}

static int flush_error(struct cache *cache) {
    struct node *node;

    for (node = cache->tree.dirty; node; node = node->dirty_next) {
        if (node->r.error || node->bad_text)
            return -EIO;
    }
    return 0;
}

void outcome_flush_waiters(struct cache *cache) {
    if (cache->owing == 0) {
        cache->draining = cache->closing;
        cache_wake_all(&cache->flush_waiters, flush_error(cache));
        pthread_cond_broadcast(&cache->wake);
        return;
    }
    if (!cache->flush_waiters)
        return;
    if (cache->link.account == ACCOUNT_UNAUTHENTICATED || cache->link.account == ACCOUNT_FORBIDDEN)
        cache_wake_all(&cache->flush_waiters, -EACCES);
    else if (cache->link.state == LINK_OFFLINE && cache->link.failures > 1)
        cache_wake_all(&cache->flush_waiters, -ETIMEDOUT);
}
