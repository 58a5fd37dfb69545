/* What the modules of cache/ share: time, log, saving, waiting.
 *
 * Saving: node->r is a row. A row never refers to a file that may be missing: files are made before
 * the transaction that names them (`garbage`, then `waste`) and removed when the one that no longer does is safe from
 * power loss; a file that is left over by a kill in between is removed at the next start.
 */
#include "cache/cache_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"

struct garbage {
    struct garbage *next;
    uint64_t number;
    bool tail;
};

int64_t cache_now_ms(struct cache *cache) {
    return cache->clock.monotonic_ms(cache->clock.arg);
}

int64_t cache_time_ns(struct cache *cache) {
    struct timespec now;

    cache->clock.realtime(&now, cache->clock.arg);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cache_time(struct cache *cache) {
    return cache_time_ns(cache) / 1000000000;
}

void cache_log(struct cache *cache, int level, const char *format, ...) {
    char text[1024];
    va_list args;

    if (!cache->config.log)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cache->config.log(level, text, cache->config.log_arg);
}

char *cache_path(const struct node *node) {
    char *path = NULL;
    const char *name = node->r.name ? node->r.name : node->r.base_shown;

    if (!name)
        name = "?";
    if (node->dir && node->dir->r.name) {
        if (asprintf(&path, "%s/%s", node->dir->r.name, name) < 0)
            return NULL;
        return path;
    }
    return strdup(name);
}

void cache_begin(struct cache *cache) {
    cache->depth++;
    store_begin(cache->store);
}

static void push_garbage(struct garbage **list, struct garbage *item) {
    item->next = *list;
    *list = item;
}

/* The transaction has ended: what it let go of is waste, or nothing has changed. */
static void collect_garbage(struct cache *cache, bool committed) {
    struct garbage *item;

    while ((item = cache->garbage)) {
        cache->garbage = item->next;
        if (committed)
            push_garbage(&cache->waste, item);
        else
            free(item);
    }
}

struct garbage *cache_take_waste(struct cache *cache) {
    struct garbage *waste = cache->waste;

    cache->waste = NULL;
    return waste;
}

void cache_remove_waste(struct cache *cache, struct garbage *waste, bool safe) {
    struct garbage *next;

    for (; waste; waste = next) {
        struct node *node = waste->tail ? tree_find(&cache->tree, waste->number) : NULL;

        next = waste->next;
        if (!safe) {
            push_garbage(&cache->waste, waste);
            continue;
        }
        if (!waste->tail)
            (void)body_drop(statedir_bodies(cache->dir), waste->number);
        else if (!node || !node->r.tail_epoch) /* else a newer tail has the name */
            (void)tail_unlink(statedir_tails(cache->dir), waste->number);
        free(waste);
    }
}

void cache_forget_waste(struct cache *cache) {
    struct garbage *item;

    while ((item = cache->waste)) {
        cache->waste = item->next;
        free(item);
    }
}

int cache_commit(struct cache *cache) {
    int err = store_commit(cache->store);

    cache->unsynced = true;
    if (--cache->depth > 0)
        return err;
    if (err < 0)
        cache_log(cache, LOG_ERR, "state directory: cannot commit: %s", strerrordesc_np(-err));
    collect_garbage(cache, err == 0);
    return err;
}

int cache_save(struct cache *cache, struct node *node) {
    cache_begin(cache);
    (void)store_put_node(cache->store, &node->r);
    return cache_commit(cache);
}

static void add_garbage(struct cache *cache, uint64_t number, bool tail) {
    struct garbage *item = calloc(1, sizeof(*item));

    if (!item)
        return; /* the next start removes the file */
    item->number = number;
    item->tail = tail;
    push_garbage(&cache->garbage, item);
}

void cache_release_body(struct cache *cache, struct node *node, uint64_t number) {
    if (!number || number == node->r.body || number == node->r.draft || number == node->r.ancestor)
        return;
    if (node->frozen && number == node->frozen->body)
        return;
    add_garbage(cache, number, false);
}

void cache_release_tail(struct cache *cache, const struct node *node) {
    add_garbage(cache, node->r.ino, true);
}

void cache_reap(struct cache *cache, struct node *node) {
    if (node->dir || node->lookups || node->handles || node->frozen || node->query != NODE_QUERY_NONE ||
        node->r.id || node->waiters || node == cache->tree.root)
        return;
    if (node->r.folder && node->children)
        return;
    cache_begin(cache);
    (void)base_set_body(cache, node, 0, 0);
    base_drop_draft(cache, node);
    base_consume_tail(cache, node, UINT64_MAX);
    (void)store_delete_node(cache->store, node->r.ino);
    tree_remove(&cache->tree, node);
    (void)cache_commit(cache);
}

int cache_want_changed(struct cache *cache, struct node *node) {
    node->quiet_at_ms = cache_now_ms(cache);
    node->r.ctime_ns = cache_time_ns(cache);
    node->r.error = 0;
    node->retry_at_ms = 0;
    node->failures = 0;
    if (!node->r.changed_at)
        node->r.changed_at = cache_time(cache);
    tree_mark_dirty(&cache->tree, node);
    cache_kick(cache);
    return cache_save(cache, node);
}

int cache_wait_on(struct cache *cache, struct cache_waiter **list, struct cache_waiter *waiter,
                  int64_t timeout_ms) {
    waiter->cache = cache;
    waiter->error = 0;
    waiter->deadline_ms = timeout_ms == INT64_MAX ? INT64_MAX : cache_now_ms(cache) + timeout_ms;
    waiter->next = *list;
    waiter->prev = list;
    if (*list)
        (*list)->prev = &waiter->next;
    *list = waiter;
    return CACHE_WAIT;
}

void cache_unlink_waiter(struct cache_waiter *waiter) {
    if (!waiter->prev)
        return;
    *waiter->prev = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    waiter->prev = NULL;
    waiter->next = NULL;
}

void cache_wake_all(struct cache_waiter **list, int error) {
    struct cache_waiter *waiter;

    while ((waiter = *list)) {
        cache_unlink_waiter(waiter);
        waiter->error = error;
        waiter->wake(waiter);
    }
}

void cache_cancel(struct cache *cache, struct cache_waiter *waiter) {
    pthread_mutex_lock(&cache->lock);
    cache_unlink_waiter(waiter);
    pthread_mutex_unlock(&cache->lock);
}

void cache_kick(struct cache *cache) {
    cache->kicked = true;
    pthread_cond_broadcast(&cache->wake);
}

static void tell_news(struct cache *cache, const struct node *node) {
    if (cache->config.events.news)
        cache->config.events.news(node->r.ino, cache->config.events.arg);
}

void cache_tell_inode(struct cache *cache, struct node *node, bool data) {
    node->news = true;
    if (data)
        tell_news(cache, node);
    if (cache->config.events.inode_changed && node->lookups)
        cache->config.events.inode_changed(node->r.ino, data, cache->config.events.arg);
}

void cache_tell_entry(struct cache *cache, const struct node *dir, const char *name,
                      const struct node *node) {
    /* The kernel keeps names no longer than until the next poll is due, so that they need not be called back. It would even be
     * dangerous: the call waits for the directory's lock, and a process killed while it waits leaves a mount that
     * hangs. Only who asked for news right now gets them at once. */
    if (cache->config.events.entry_changed && cache->pull.refreshing)
        cache->config.events.entry_changed(dir->r.ino, name, node ? node->r.ino : 0,
                                           cache->config.events.arg);
    tell_news(cache, dir);
    if (node)
        tell_news(cache, node);
}

static mode_t node_mode(const struct cache *cache, const struct node *node) {
    mode_t type = node->r.folder ? S_IFDIR : S_IFREG;
    mode_t access = node->r.folder ? 0777 : 0666;

    if (node->r.rich || node->r.inexact)
        access = 0444;
    else if (node->r.mode)
        return type | (node->r.mode & 07777);
    return type | (access & ~cache->config.umask & (node->r.folder ? 0755 : 0644));
}

static struct timespec to_timespec(int64_t ns) {
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static void fill_attr(struct cache *cache, struct node *node, struct stat *st) {
    memset(st, 0, sizeof(*st));
    st->st_ino = node->r.ino;
    st->st_mode = node_mode(cache, node);
    st->st_nlink = node->r.folder ? 2 : (node->dir != NULL);
    st->st_uid = node->r.uid == UINT32_MAX ? cache->config.uid : node->r.uid;
    st->st_gid = node->r.gid == UINT32_MAX ? cache->config.gid : node->r.gid;
    st->st_blksize = 4096;
    st->st_atim = to_timespec(node->r.atime_ns);
    st->st_mtim = to_timespec(node->r.mtime_ns);
    st->st_ctim = to_timespec(node->r.ctime_ns);
    if (node->r.folder)
        return;
    st->st_size = (off_t)content_size(node);
    st->st_blocks = (st->st_size + 511) / 512;
}

void cache_fill_entry(struct cache *cache, struct node *node, struct cache_entry *out) {
    int64_t age =
        cache->pull.polled_at_ms == INT64_MIN ? INT64_MAX : cache_now_ms(cache) - cache->pull.polled_at_ms;
    int64_t ttl = cache->config.ttl_ms;

    /* Opens the draft or tail after a restart, so that the size is right. */
    if (node->r.content != STORE_CONTENT_BASE && !node->r.folder)
        (void)content_open_written(cache, node);
    fill_attr(cache, node, &out->attr);
    out->valid_ms = age < ttl ? ttl - age : 0;
    out->attr_valid_ms = out->valid_ms;
    if (!node->r.folder && node->r.id && node->r.content != STORE_CONTENT_DRAFT &&
        node->r.end == TEXT_END_UNKNOWN)
        out->attr_valid_ms = 0;
}
