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
#include "cache/sync.h"

int fetch_start(struct cache *cache, struct node *node, enum node_query query, enum service_priority priority)
{
    struct completion *call;

    if (node->query != NODE_QUERY_NONE)
        return 0;
    call = sync_call_create(cache, CALL_QUERY, 1);
    if (!call)
        return -ENOMEM;
    call->inos[0] = node->r.ino;
    call->call.priority = priority;
    call->call.id = node->r.id;
    call->call.op = SERVICE_OP_GET;
    if (node->r.folder) {
        call->call.op = SERVICE_OP_LIST;
        call->call.filter_folder = true;
        call->call.folder = (struct service_folder_ref){SERVICE_PLACE_FOLDER, node->r.id};
        call->call.limit = SERVICE_PAGE_MAX;
    }
    node->query = query;
    sync_call_queue(cache, call);
    return 0;
}

int fetch_await(struct cache *cache, struct node *node, struct cache_waiter *waiter)
{
    bool cached = content_cached(node);
    bool reread = cached && node->r.id && node->r.content != STORE_CONTENT_DRAFT && !node->r.settled &&
                  node->r.body && cache->link.state != LINK_OFFLINE && node->dir && !pull_is_slow(cache);

    if ((cached && !reread) || !node->r.id || node->r.folder)
        return 0;
    if (waiter->stage & STAGE_FETCHED) {
        if (cached)
            return 0;
        return waiter->error ? waiter->error : -ETIMEDOUT;
    }
    if (cache->link.state == LINK_OFFLINE && cache_now_ms(cache) < cache->link.retry_at_ms)
        return -ETIMEDOUT;
    if (fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND) < 0)
        return -ENOMEM;
    waiter->stage |= STAGE_FETCHED;
    return cache_wait_on(cache, &node->waiters, waiter, cached ? CACHE_AWAIT_MS : INT64_MAX);
}

/* Items of a folder's fresh listing. */
static void apply_listing(struct cache *cache, struct node *folder, const struct service_reply *reply,
                          enum node_query query)
{
    bool empty = true;

    for (size_t i = 0; i < reply->note_count; i++) {
        struct node *node;

        (void)news_item(cache, &reply->notes[i], cache->pull.sequence);
        node = tree_find_note(&cache->tree, reply->notes[i].id);
        /* A note that we are about to delete or have moved away doesn't count. */
        if (!node || node->dir == folder || (node->dir && node->r.base_dir == folder->r.ino && !node->dirty_prev))
            empty = false;
    }
    if (query != NODE_QUERY_CHECK)
        return;
    folder->checked = empty && reply->item_count == 0;
    if (folder->checked || folder->dir)
        return;
    cache_log(cache, LOG_NOTICE, "folder %s is not empty on the service: it comes back",
              folder->r.base_shown ? folder->r.base_shown : "?");
    folder->r.gone_at = 0;
    if (folder->r.base_shown && !tree_child(cache->tree.root, folder->r.base_shown)) {
        (void)tree_place(&cache->tree, folder, cache->tree.root, folder->r.base_shown);
        cache_tell_entry(cache, cache->tree.root, folder->r.name, folder);
        (void)cache_save(cache, folder);
        cache->pull.sweep_wanted = true;
    }
}

static void apply_note(struct cache *cache, struct node *node, const struct service_reply *reply,
                       enum node_query query, uint64_t number)
{
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

static int reply_errno(const struct service_reply *reply)
{
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

void fetch_done(struct cache *cache, struct node *node, int64_t id, struct service_reply *reply, uint64_t number)
{
    enum node_query query = node->query;
    int err = reply_errno(reply);

    node->query = NODE_QUERY_NONE;
    node->checked_at_ms = cache_now_ms(cache);
    if (id != node->r.id) {
        err = -ESTALE; /* another node has taken the base over meanwhile */
    } else if (err == 0 && node->r.folder) {
        apply_listing(cache, node, reply, query);
    } else if (err == 0 && (reply->note_count != 1 || (id && reply->notes[0].id != id))) {
        cache_log(cache, LOG_ERR, "the service answered a GET with another note");
        cache_release_body(cache, node, number);
        err = -EIO;
    } else if (err == 0) {
        apply_note(cache, node, reply, query, number);
    } else if (reply->outcome == SERVICE_REFUSED && reply->error == SERVICE_ERROR_NOT_FOUND) {
        if (query == NODE_QUERY_RESOLVE)
            resolve_not_found(cache, node);
        else
            news_gone(cache, node);
        cache_kick(cache);
        return;
    }
    if (err < 0 && (query != NODE_QUERY_FETCH || node->dirty_prev)) {
        node->failures++;
        node->retry_at_ms = cache_now_ms(cache) + (node->failures < 6 ? 250 << node->failures : 15000);
    }
    cache_wake_all(&node->waiters, err);
    content_close(cache, node);
    cache_reap(cache, node);
    cache_kick(cache);
}

static bool evictable(const struct node *node)
{
    return node->r.body && node->r.content == STORE_CONTENT_BASE && !node->handles && !node->dirty_prev &&
           !node->frozen && node->query == NODE_QUERY_NONE;
}

static int by_use(const void *a, const void *b)
{
    const struct node *const *left = a, *const *right = b;

    return ((*left)->r.used_at > (*right)->r.used_at) - ((*left)->r.used_at < (*right)->r.used_at);
}

static void evict_oldest(struct cache *cache, struct node **nodes, size_t count)
{
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

void fetch_evict(struct cache *cache)
{
    struct node **nodes, *node, *next;
    size_t count = 0;

    if (!cache->config.cache_size_bytes || cache->body_bytes <= cache->config.cache_size_bytes)
        return;
    nodes = calloc(cache->bodies + 1, sizeof(struct node *));
    if (!nodes)
        return;
    HASH_ITER(hh_id, cache->tree.note_by_id, node, next)
    {
        if (evictable(node) && count <= cache->bodies)
            nodes[count++] = node;
    }
    qsort(nodes, count, sizeof(struct node *), by_use);
    evict_oldest(cache, nodes, count);
    free(nodes);
}
