/* sync: the sync thread.
 *
 * One loop: handle replies, start what pull and push want, make durable, submit, sleep. It alone submits calls, so that a
 * frozen request leaves only after what it refers to is on disk:
 *
 *     lock    row of the frozen request committed, call put into the outbox
 *     unlock  fdatasync of tails and text files -> of the directories -> of the log -> submit
 *
 * Replies arrive on the service's thread (reply_arrived), which only queues them. Their bodies are written to files without the lock,
 * then they are applied under it. At least every SYNC_DURABLE_MS everything that was written is made safe
 * from power loss, and the log is moved into the database.
 */
#include "cache/sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/account.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/link.h"
#include "cache/outcome.h"
#include "cache/pull.h"
#include "cache/push.h"
#include "cache/readahead.h"
#include "cache/sweep.h"

enum { SYNC_DURABLE_MS = 4000 };

struct completion *sync_call_create(struct cache *cache, enum call_kind kind, size_t count) {
    struct completion *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    call->cache = cache;
    call->kind = kind;
    call->sequence = ++cache->pull.sequence;
    call->texts = calloc(count, sizeof(char *));
    call->titles = calloc(count, sizeof(char *));
    call->text_numbers = calloc(count, sizeof(uint64_t));
    call->rows = calloc(count, sizeof(struct service_row));
    call->inos = calloc(count, sizeof(uint64_t));
    call->text_count = call->ino_count = count;
    if (!call->texts || !call->titles || !call->text_numbers || !call->rows || !call->inos) {
        sync_call_destroy(call);
        return NULL;
    }
    return call;
}

void sync_call_destroy(struct completion *call) {
    if (!call)
        return;
    for (size_t i = 0; call->texts && i < call->text_count; i++)
        free(call->texts[i]);
    for (size_t i = 0; call->titles && i < call->text_count; i++)
        free(call->titles[i]);
    free(call->titles);
    free(call->texts);
    free(call->text_numbers);
    free(call->rows);
    free(call->inos);
    free(call->key);
    free(call->name);
    free(call->title);
    service_reply_destroy(call->reply);
    free(call);
}

static void append_call(struct completion ***end, struct completion *call) {
    call->next = NULL;
    **end = call;
    *end = &call->next;
}

void sync_call_queue(struct cache *cache, struct completion *call) {
    append_call(&cache->outbox_end, call);
    cache->in_flight++;
    cache_kick(cache);
}

/* On the service's thread, or from submit. */
static void reply_arrived(struct service_reply *reply, void *arg) {
    struct completion *call = arg;
    struct cache *cache = call->cache;

    pthread_mutex_lock(&cache->lock);
    call->reply = reply;
    append_call(&cache->completions_end, call);
    cache_kick(cache);
    pthread_mutex_unlock(&cache->lock);
}

/* --- on the way out --- */

/* Makes what CALL refers to safe from power loss. Lock held; given up meanwhile. */
static int make_durable(struct cache *cache, const struct completion *call) {
    int err = 0;

    for (size_t i = 0; i < call->ino_count && err == 0; i++) {
        struct node *node = tree_find(&cache->tree, call->inos[i]);
        struct tail *tail = node && node->tail ? tail_get(node->tail) : NULL;
        struct body *text = NULL;

        pthread_mutex_unlock(&cache->lock);
        if (tail)
            err = tail_sync(tail);
        if (err == 0 && call->text_numbers[i])
            err = body_open(statedir_bodies(cache->dir), call->text_numbers[i], &text);
        if (err == 0 && text)
            err = body_sync(text);
        body_put(text);
        pthread_mutex_lock(&cache->lock);
        tail_put(tail);
    }
    return err;
}

/* A row must not outlast the draft that it names: the note would seem to have been emptied. */
static int sync_new_drafts(struct cache *cache) {
    struct node *node;
    int err = 0;

    for (node = cache->tree.dirty; node && err == 0;) {
        if (!node->r.draft || node->r.draft == node->safe_draft) {
            node = node->dirty_next;
            continue;
        }
        err = content_open_written(cache, node);
        if (err == -ENOENT) { /* lost already: no reason to hold up the others */
            node->safe_draft = node->r.draft;
            err = 0;
        } else if (err == 0) {
            err = content_sync(cache, node);
        }
        node = cache->tree.dirty; /* the list may have changed meanwhile */
    }
    return err;
}

int sync_log(struct cache *cache) {
    int err = sync_new_drafts(cache);

    if (err < 0)
        return err;
    pthread_mutex_unlock(&cache->lock);
    err = statedir_sync(cache->dir);
    if (err == 0)
        err = store_sync(cache->store);
    pthread_mutex_lock(&cache->lock);
    return err;
}

static int load_texts(struct cache *cache, struct completion *call) {
    int err = 0;

    for (size_t i = 0; i < call->text_count && err == 0; i++) {
        size_t size = call->rows[i].text.size;

        if (call->text_numbers[i])
            err = content_load(cache, call->text_numbers[i], size, &call->texts[i]);
        if (err == 0 && call->texts[i])
            call->rows[i].text.data = call->texts[i];
    }
    return err;
}

/* Lock not held. */
static int submit(struct cache *cache, struct completion *call) {
    int err = load_texts(cache, call);

    if (err < 0)
        return err;
    call->call.key = call->key;
    call->call.title = call->title;
    call->call.name = call->name ? call->name : call->title;
    call->call.text = call->rows[0].text;
    if (call->call.op == SERVICE_OP_CREATE || call->call.op == SERVICE_OP_BULK) {
        call->call.rows = call->rows;
        call->call.row_count = call->text_count;
    }
    return cache->service->ops->submit(cache->service, &call->call, reply_arrived, call, &call->ticket);
}

/* It can't even be sent: as if there were no network, so that it is tried again. */
static void fail_call(struct cache *cache, struct completion *call, int err) {
    cache_log(cache, LOG_ERR, "cannot send a request: %s", strerrordesc_np(-err));
    call->reply = calloc(1, sizeof(*call->reply));
    if (call->reply) {
        call->reply->outcome = SERVICE_UNSENT;
        call->reply->error = SERVICE_ERROR_UNAVAILABLE;
        call->reply->status = -1; /* not the network's fault */
    }
    append_call(&cache->completions_end, call);
    cache->kicked = true;
}

/* A reader may have come to wait since the call was queued, and may come until it is answered. */
static int send_off(struct cache *cache, struct completion *call) {
    struct node *node = call->kind == CALL_QUERY ? tree_find(&cache->tree, call->inos[0]) : NULL;
    int err;

    if (node)
        call->call.priority = node->priority;
    pthread_mutex_unlock(&cache->lock);
    err = submit(cache, call);
    pthread_mutex_lock(&cache->lock);
    node = node ? tree_find(&cache->tree, call->inos[0]) : NULL;
    if (!node || err < 0)
        return err;
    node->ticket = call->ticket;
    if (node->priority != call->call.priority)
        cache->service->ops->raise(cache->service, call->ticket, node->priority);
    return 0;
}

static void empty_outbox(struct cache *cache) {
    struct completion *list = cache->outbox, *call, *next;
    bool durable = false;
    int err = 0;

    cache->outbox = NULL;
    cache->outbox_end = &cache->outbox;
    for (call = list; call && err == 0; call = call->next) {
        if (call->kind == CALL_FROZEN) {
            durable = true;
            err = make_durable(cache, call);
        }
    }
    if (durable && err == 0)
        err = sync_log(cache);
    for (call = list; call; call = next) {
        int failed = call->kind == CALL_FROZEN ? err : 0;

        next = call->next;
        if (failed == 0)
            failed = send_off(cache, call);
        if (failed < 0)
            fail_call(cache, call, failed);
    }
}

/* --- on the way back --- */

/* The first note's body goes into a file without the lock. */
static void store_body(struct cache *cache, struct completion *call) {
    struct service_reply *reply = call->reply;
    bool wanted = call->kind == CALL_QUERY || (call->kind == CALL_FROZEN && call->ino_count == 1);

    if (!wanted || reply->note_count != 1 || !reply->notes[0].body)
        return;
    call->stored = store_next_number(cache->store);
    if (!call->stored)
        return;
    pthread_mutex_unlock(&cache->lock);
    if (content_store(cache, call->stored, reply->notes[0].body, reply->notes[0].body_size) < 0)
        call->stored = 0;
    pthread_mutex_lock(&cache->lock);
}

static void drop_stored(struct cache *cache, struct completion *call, const struct node *node) {
    if (call->stored && (!node || (node->r.body != call->stored && node->r.draft != call->stored &&
                                   node->r.ancestor != call->stored)))
        (void)body_drop(statedir_bodies(cache->dir), call->stored);
}

static void dispatch(struct cache *cache, struct completion *call) {
    struct node *node;

    switch (call->kind) {
    case CALL_QUERY:
        node = tree_find(&cache->tree, call->inos[0]);
        if (node)
            fetch_done(cache, node, call);
        if (call->confirms)
            pull_confirmed(cache);
        if (call->ahead)
            readahead_done(cache, call->ahead);
        break;
    case CALL_FROZEN:
        outcome_done(cache, call);
        break;
    case CALL_POLL:
        pull_poll_done(cache, call);
        break;
    case CALL_SWEEP:
        sweep_done(cache, call);
        break;
    case CALL_FOLDERS:
        pull_folders_done(cache, call);
        break;
    case CALL_IDENTITY:
        account_done(cache, call);
        break;
    case CALL_PROBE:
        pull_probe_done(cache, call);
        break;
    }
    drop_stored(cache, call, tree_find(&cache->tree, call->inos[0]));
}

static bool is_write(const struct completion *call) {
    return call->kind == CALL_PROBE || service_op_writes(call->call.op);
}

static void handle_replies(struct cache *cache) {
    struct completion *call;

    while ((call = cache->completions)) {
        cache->completions = call->next;
        if (!cache->completions)
            cache->completions_end = &cache->completions;
        cache->in_flight--;
        if (call->reply) {
            link_heard(cache, call->reply, is_write(call));
            store_body(cache, call);
            dispatch(cache, call);
        }
        sync_call_destroy(call);
    }
    fetch_evict(cache);
}

/* --- power loss --- */

/* The inodes of nodes with bytes that aren't safe yet; the lock is given up between them. */
static size_t gather_unsynced(struct cache *cache, uint64_t *inos, size_t max) {
    struct node *node, *next;
    size_t count = 0;

    cache_begin(cache);
    HASH_ITER(hh_ino, cache->tree.by_ino, node, next) {
        if (node->unsaved && cache_save(cache, node) == 0)
            node->unsaved = false;
        if (node->unsynced && count < max)
            inos[count++] = node->r.ino;
    }
    (void)cache_commit(cache);
    return count;
}

static void make_all_durable(struct cache *cache, int64_t *out_at_ms) {
    int64_t now = cache_now_ms(cache), due = cache->synced_at_ms + SYNC_DURABLE_MS;
    struct garbage *waste;
    uint64_t inos[256];
    size_t count;
    int err = 0;

    if (!cache->unsynced)
        return;
    if (now < due && !cache->stopping) {
        *out_at_ms = due < *out_at_ms ? due : *out_at_ms;
        return;
    }
    cache->synced_at_ms = now;
    waste = cache_take_waste(cache);
    count = gather_unsynced(cache, inos, sizeof(inos) / sizeof(inos[0]));
    cache->unsynced = count == sizeof(inos) / sizeof(inos[0]);
    for (size_t i = 0; i < count && err == 0; i++) {
        struct node *node = tree_find(&cache->tree, inos[i]);

        if (node)
            err = content_sync(cache, node);
    }
    if (err == 0)
        err = sync_log(cache);
    cache_remove_waste(cache, waste, err == 0 && !cache->unsynced);
    if (err == 0) {
        pthread_mutex_unlock(&cache->lock);
        err = store_checkpoint(cache->store);
        pthread_mutex_lock(&cache->lock);
    }
    cache->unsynced |= err < 0 && !cache->stopping;
    if (err < 0)
        cache_log(cache, LOG_ERR, "state directory: cannot make data durable: %s", strerrordesc_np(-err));
}

/* --- the loop --- */

void sync_round(struct cache *cache, int64_t *out_at_ms) {
    *out_at_ms = INT64_MAX;
    do {
        cache->kicked = false;
        handle_replies(cache);
        account_tick(cache);
        if (cache->identity == IDENTITY_TRUSTED) {
            pull_tick(cache, out_at_ms);
            push_tick(cache, out_at_ms);
            readahead_tick(cache);
        } else if (cache->identity == IDENTITY_ASKING && cache->identity_retry_ms > cache_now_ms(cache)) {
            *out_at_ms = cache->identity_retry_ms;
        }
        empty_outbox(cache);
    } while (cache->completions);
    make_all_durable(cache, out_at_ms);
}

static void sleep_until(struct cache *cache, int64_t at_ms) {
    struct timespec until;

    if (at_ms == INT64_MAX) {
        pthread_cond_wait(&cache->wake, &cache->lock);
        return;
    }
    until.tv_sec = at_ms / 1000;
    until.tv_nsec = (at_ms % 1000) * 1000000;
    (void)pthread_cond_timedwait(&cache->wake, &cache->lock, &until);
}

void *sync_thread(void *arg) {
    struct cache *cache = arg;
    int64_t at_ms;

    pthread_mutex_lock(&cache->lock);
    while (!cache->stopping) {
        sync_round(cache, &at_ms);
        while (!cache->kicked && !cache->stopping && cache_now_ms(cache) < at_ms)
            sleep_until(cache, at_ms);
    }
    pthread_mutex_unlock(&cache->lock);
    return NULL;
}

void sync_finish(struct cache *cache) {
    int64_t at_ms = INT64_MAX;

    cache->unsynced = true;
    while (cache->unsynced)
        make_all_durable(cache, &at_ms);
}
