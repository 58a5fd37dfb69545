/* fetch: GETs of single notes.
 *
 * A node has one query at a time, shared by all who wait for it. What the reply means depends on why it was asked:
 *   FETCH    a reader, an appender that must know how the body ends, or a folder's fresh listing before rmdir
 *   CHECK    just before a PATCH or DELETE: is base still the service's version? (API.md C10)
 *   RESOLVE  what became of a request in doubt? (resolve.c)
 * A query that fails wakes its waiters with the errno; a CHECK or RESOLVE is asked again by push when its time has come.
 */
#include "cache/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"
#include "cache/news.h"
#include "cache/pull.h"
#include "cache/reconcile.h"
#include "cache/resolve.h"
#include "cache/sweep.h"
#include "cache/sync.h"

int fetch_start(struct cache *cache, struct node *node, enum node_query query,
                enum service_priority priority) {
    struct completion *call;

    if (node->r.folder)
        return sweep_folder_start(cache, node, query);
    if (node->query != NODE_QUERY_NONE)
        return 0;
    call = sync_call_create(cache, CALL_QUERY, 1);
    if (!call)
        return -ENOMEM;
    call->inos[0] = node->r.ino;
    call->call.priority = priority;
    call->call.id = node->r.id;
    call->call.op = SERVICE_OP_GET;
    node->query = query;
    node->priority = priority;
    node->ticket = 0;
    call->ahead = priority;
    call->confirms = query == NODE_QUERY_CONFIRM;
    cache->pull.confirming += call->confirms;
    sync_call_queue(cache, call);
    return 0;
}

static bool is_fetching(const struct node *node) {
    return node->refetch || node->query == NODE_QUERY_FETCH || node->query == NODE_QUERY_CONFIRM;
}

/* Somebody waits for a GET that was started ahead: it goes before those that nobody waits for. */
static void hurry_up(struct cache *cache, struct node *node) {
    if (node->query == NODE_QUERY_NONE || node->priority == SERVICE_FOREGROUND)
        return;
    node->priority = SERVICE_FOREGROUND;
    if (node->ticket)
        cache->service->ops->raise(cache->service, node->ticket, SERVICE_FOREGROUND);
}

/* A cached body that may have been changed since without a trace in the lists. */
static bool must_reread(struct cache *cache, const struct node *node) {
    if (!node->r.id || !node->r.body || node->r.content == STORE_CONTENT_DRAFT || !node->dir ||
        cache->link.state == LINK_OFFLINE || pull_is_slow(cache))
        return false;
    return !node->r.settled ||
           (cache->pull.blind && cache_now_ms(cache) - node->read_at_ms >= (int64_t)cache->config.ttl_ms);
}

int fetch_await(struct cache *cache, struct node *node, struct cache_waiter *waiter) {
    bool cached = content_cached(node), reread = cached && must_reread(cache, node);

    if ((cached && !reread) || !node->r.id || node->r.folder)
        return 0;
    if (waiter->stage & STAGE_FETCHED) {
        if (cached)
            return 0;
        if (waiter->error)
            return waiter->error;
        if (is_fetching(node)) /* woken by something else */
            return cache_wait_on(cache, &node->waiters, waiter, INT64_MAX);
        /* Else it was evicted before its turn came: once more. */
    }
    if (cache->link.state == LINK_OFFLINE && cache_now_ms(cache) < cache->link.retry_at_ms)
        return -ETIMEDOUT;
    if (fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND) < 0)
        return -ENOMEM;
    hurry_up(cache, node);
    waiter->stage |= STAGE_FETCHED;
    return cache_wait_on(cache, &node->waiters, waiter, cached ? CACHE_AWAIT_MS : INT64_MAX);
}

/* The look into a folder before its DELETE. */
static void apply_folder_check(struct cache *cache, struct node *folder, bool empty) {
    folder->checked = empty;
    if (folder->checked || folder->dir)
        return;
    cache_log(cache, LOG_NOTICE, "folder %s is not empty on the service: it comes back",
              folder->r.base_shown ? folder->r.base_shown : "?");
    folder->r.gone_at = 0;
    if (folder->r.base_shown && !tree_child(cache->tree.root, folder->r.base_shown)) {
        (void)tree_place(&cache->tree, folder, cache->tree.root, folder->r.base_shown);
        cache_tell_entry(cache, cache->tree.root, folder->r.name, folder);
        (void)cache_save(cache, folder);
        news_rehome(cache);
        cache->pull.sweep_wanted = true;
    }
}

static void apply_note(struct cache *cache, struct node *node, const struct service_reply *reply,
                       enum node_query query, uint64_t number) {
    const struct service_note *note = &reply->notes[0];

    if (query == NODE_QUERY_RESOLVE) {
        resolve_with_note(cache, node, note, number, reply->date);
        return;
    }
    if (query == NODE_QUERY_CHECK) {
        reconcile_check(cache, node, note, number, reply->date);
        return;
    }
    (void)news_full(cache, node, note, number, reply->date, false);
}

static int reply_errno(const struct service_reply *reply) {
    switch (reply->outcome) {
    case SERVICE_OK:
        return 0;
    case SERVICE_REFUSED:
        return service_error_errno(reply->error);
    case SERVICE_IN_DOUBT:
        return reply->status ? -EIO : -ETIMEDOUT;
    case SERVICE_UNSENT:
        break;
    }
    return -ETIMEDOUT;
}

/* Did a request of ours pass this GET on the way? Then nobody knows which came first. */
static bool has_crossed(const struct node *node, const struct completion *call) {
    return node->frozen || node->own_change > call->sequence;
}

void fetch_again(struct cache *cache, struct node *node) {
    if (!node->refetch || node->frozen)
        return;
    node->refetch = false;
    if ((node->waiters || node->handles) && node->r.id &&
        fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND) == 0)
        return;
    cache_wake_all(&node->waiters, 0);
}

static void end_query(struct cache *cache, struct node *node, enum node_query query, int err) {
    if (err < 0 && (query == NODE_QUERY_CHECK || query == NODE_QUERY_RESOLVE || node->dirty_prev)) {
        node->failures++;
        node->retry_at_ms = cache_now_ms(cache) + (node->failures < 6 ? 250 << node->failures : 15000);
    }
    cache_wake_all(&node->waiters, err);
    content_close(cache, node);
    cache_reap(cache, node);
    cache_kick(cache);
}

static void folder_done(struct cache *cache, struct node *node, struct completion *call) {
    enum node_query query = node->query;
    int err = reply_errno(call->reply);
    bool empty = false;

    if (err == 0 && !sweep_folder_done(cache, node, call, &empty))
        return;
    node->query = NODE_QUERY_NONE;
    node->checked_at_ms = cache_now_ms(cache);
    if (err == 0 && query == NODE_QUERY_CHECK)
        apply_folder_check(cache, node, empty);
    end_query(cache, node, query, err);
}

void fetch_done(struct cache *cache, struct node *node, struct completion *call) {
    enum node_query query = node->query;
    struct service_reply *reply = call->reply;
    bool reading = query == NODE_QUERY_FETCH || query == NODE_QUERY_CONFIRM;
    int err = reply_errno(reply);

    if (node->r.folder) {
        folder_done(cache, node, call);
        return;
    }
    node->query = NODE_QUERY_NONE;
    node->checked_at_ms = cache_now_ms(cache);
    if (call->call.id == node->r.id && reading && err == 0 && has_crossed(node, call)) {
        node->refetch = true;
        fetch_again(cache, node);
        cache_kick(cache);
        return;
    }
    if (call->call.id != node->r.id) {
        err = -ESTALE; /* another node has taken the base over meanwhile */
    } else if (err == 0 && (reply->note_count != 1 || (node->r.id && reply->notes[0].id != node->r.id))) {
        cache_log(cache, LOG_ERR, "the service answered a GET with another note");
        cache_release_body(cache, node, call->stored);
        err = -EIO;
    } else if (err == 0) {
        apply_note(cache, node, reply, query, call->stored);
    } else if (reply->outcome == SERVICE_REFUSED && reply->error == SERVICE_ERROR_NOT_FOUND) {
        if (query == NODE_QUERY_RESOLVE)
            resolve_not_found(cache, node);
        else
            news_gone(cache, node);
        cache_kick(cache);
        return;
    }
    end_query(cache, node, query, err);
}

static bool evictable(const struct node *node) {
    return node->r.body && node->r.content == STORE_CONTENT_BASE && !node->handles && !node->dirty_prev &&
           !node->frozen && node->query == NODE_QUERY_NONE;
}

static int by_use(const void *a, const void *b) {
    const struct node *const *left = a, *const *right = b;

    return ((*left)->r.used_at > (*right)->r.used_at) - ((*left)->r.used_at < (*right)->r.used_at);
}

static void evict_oldest(struct cache *cache, struct node **nodes, size_t count) {
    /* A tenth below the bound, so that not every fetch evicts. */
    uint64_t goal = cache->config.cache_size_bytes - cache->config.cache_size_bytes / 10;

    cache_begin(cache);
    for (size_t i = 0; i < count && cache->body_bytes > goal; i++) {
        int end = nodes[i]->r.end;

        (void)base_set_body(cache, nodes[i], 0, 0);
        nodes[i]->r.end = end; /* still true of this version */
        (void)cache_save(cache, nodes[i]);
    }
    (void)cache_commit(cache);
}

void fetch_evict(struct cache *cache) {
    struct node **nodes, *node, *next;
    size_t count = 0;

    if (!cache->config.cache_size_bytes || cache->body_bytes <= cache->config.cache_size_bytes)
        return;
    nodes = calloc(cache->bodies + 1, sizeof(struct node *));
    if (!nodes)
        return;
    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        if (evictable(node) && count <= cache->bodies)
            nodes[count++] = node;
    }
    qsort(nodes, count, sizeof(struct node *), by_use);
    evict_oldest(cache, nodes, count);
    free(nodes);
}
