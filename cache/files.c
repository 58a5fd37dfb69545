/* files: open, read, write, truncate, fsync, close, as fs/ calls them (cache.h, "files").
 *
 * An open waits for a due poll and for the body, each at most once per request (waiter->stage); reads and writes then
 * find what they need. close(2) never waits; what is owed goes out later from the sync thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/names.h"
#include "cache/pull.h"
#include "cache/readahead.h"
#include "cache/sync.h"

enum { FSYNC_SERVER_MS = 10000, FSYNC_LOOK_MS = 250 };

struct cache_handle {
    struct cache *cache;
    struct node *node;
    int flags;
    bool writes;          /* counted in node->writers */
    bool wrote;           /* has accepted bytes */
    unsigned errors_seen; /* final errors of the node that were reported or older than this open */
};

static bool wants_write(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* May this open write? (DESIGN.md section 2, lsattr `a`; read-only tokens) */
static int check_access(const struct cache *cache, const struct node *node, int flags) {
    if (!wants_write(flags))
        return 0;
    if (cache->link.account == ACCOUNT_READ_ONLY && !node->r.scratch)
        return -EROFS;
    if (node->r.rich || node->r.inexact)
        return -EPERM;
    if (node->r.locked && node->dir && (!(flags & O_APPEND) || (flags & O_TRUNC)))
        return -EPERM;
    return 0;
}

static bool needs_body(int flags) {
    if (flags & O_TRUNC)
        return false;
    return (flags & O_ACCMODE) != O_WRONLY || !(flags & O_APPEND);
}

static int new_handle(struct cache *cache, struct node *node, int flags, struct cache_opened *out) {
    struct cache_handle *handle = calloc(1, sizeof(*handle));

    if (!handle)
        return -ENOMEM;
    handle->cache = cache;
    handle->node = node;
    handle->flags = flags;
    handle->writes = wants_write(flags);
    handle->errors_seen = node->error_count;
    node->handles++;
    if (node->writers == 0)
        node->pinned = node->r.content == STORE_CONTENT_DRAFT;
    node->writers += handle->writes;
    node->r.used_at = cache_time_ns(cache);
    memset(out, 0, sizeof(*out));
    out->handle = handle;
    out->news = node->news;
    node->news = false;
    out->keep = true; /* a changed version was invalidated when it came (AUTO_INVAL_DATA and events) */
    return 0;
}

static int open_locked(struct cache *cache, struct node *node, int flags, struct cache_waiter *waiter,
                       struct cache_opened *out) {
    int err = check_access(cache, node, flags);

    if (err == 0 && (flags & O_ACCMODE) != O_WRONLY)
        err = pull_await(cache, waiter);
    /* A cached body that a power loss has damaged is found out now, not by a READ. */
    if (err == 0 && needs_body(flags) && content_cached(node))
        (void)content_open(cache, node);
    if (err == 0 && needs_body(flags))
        err = fetch_await(cache, node, waiter);
    if (err) {
        content_close(cache, node);
        return err;
    }
    if (!node->dir && !node->handles)
        return -ESTALE;
    if (flags & O_TRUNC)
        err = content_size(node) || !content_cached(node) ? content_resize(cache, node, 0) : 0;
    if (err == 0)
        err = new_handle(cache, node, flags, out);
    if (err == 0 && (flags & O_ACCMODE) == O_RDONLY)
        readahead_opened(cache, node, waiter->stage & STAGE_FETCHED);
    if (err == 0 && needs_body(flags) && content_open(cache, node) < 0)
        cache_log(cache, LOG_WARNING, "open: a cached body vanished; it will be fetched again");
    return err;
}

int cache_open(struct cache *cache, uint64_t ino, int flags, struct cache_waiter *waiter,
               struct cache_opened *out) {
    struct node *node;
    int err = -ENOENT;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, ino);
    if (node && node->r.folder)
        err = -EISDIR;
    else if (node)
        err = open_locked(cache, node, flags, waiter, out);
    pthread_mutex_unlock(&cache->lock);
    return err;
}

/* A new file: known here at once, to the service when it has settled. */
static int make_node(struct cache *cache, struct node *dir, const char *name, mode_t mode,
                     struct node **out) {
    struct store_node rec = {.ino = store_next_number(cache->store), .uid = UINT32_MAX, .gid = UINT32_MAX};
    struct node *node;
    int err;

    if (!rec.ino)
        return -EIO;
    rec.base_size = -1;
    rec.mode = S_IFREG | (mode & 07777);
    rec.atime_ns = rec.mtime_ns = rec.ctime_ns = cache_time_ns(cache);
    rec.scratch = names_is_scratch(name, cache->config.local_globs);
    rec.append_born = true;
    rec.want_locked = cache->config.append_only;
    node = tree_add(&cache->tree, &rec);
    if (!node)
        return -ENOMEM;
    err = tree_place(&cache->tree, node, dir, name);
    if (err == 0)
        err = cache_want_changed(cache, node);
    if (err < 0) {
        tree_unplace(&cache->tree, node);
        cache_reap(cache, node);
        return err;
    }
    dir->r.mtime_ns = dir->r.ctime_ns = node->r.mtime_ns;
    dir->unsaved = true;
    *out = node;
    return 0;
}

static int make_locked(struct cache *cache, struct node *dir, const char *name, mode_t mode, int flags,
                       struct cache_waiter *waiter, struct node **out_node, struct cache_opened *out) {
    char clean[NAMES_MAX_SHOWN + 1];
    struct node *node;
    int err;

    if (!dir || !dir->r.folder)
        return dir ? -ENOTDIR : -ENOENT;
    if (dir != cache->tree.root && !dir->dir)
        return -ENOENT;
    if (names_normalise(name, clean) == 0 && (node = tree_child(dir, clean))) {
        if (flags & O_EXCL)
            return -EEXIST;
        *out_node = node;
        return node->r.folder ? -EISDIR : open_locked(cache, node, flags, waiter, out);
    }
    err = names_check(NAMES_NOTE, name, clean);
    if (err < 0)
        return err;
    if (!names_is_scratch(clean, cache->config.local_globs)) {
        if (cache->link.account == ACCOUNT_READ_ONLY)
            return -EROFS;
        if (tree_note_named(&cache->tree, clean, NULL))
            return -ENOTUNIQ;
    }
    err = make_node(cache, dir, clean, mode, out_node);
    return err < 0 ? err : new_handle(cache, *out_node, flags, out);
}

int cache_make(struct cache *cache, uint64_t dir, const char *name, mode_t mode, int flags,
               struct cache_waiter *waiter, struct cache_entry *out_entry, struct cache_opened *out) {
    struct node *node = NULL;
    int err;

    pthread_mutex_lock(&cache->lock);
    err = make_locked(cache, tree_find(&cache->tree, dir), name, mode, flags, waiter, &node, out);
    if (err == 0) {
        node->lookups++;
        cache_fill_entry(cache, node, out_entry);
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

int cache_read(struct cache_handle *handle, void *data, size_t size, uint64_t offset,
               struct cache_waiter *waiter, size_t *out_size) {
    struct cache *cache = handle->cache;
    int64_t count = content_read(cache, handle->node, data, size, offset);
    int err = 0;

    if (count == -ESTALE) { /* evicted, or found to be damaged */
        pthread_mutex_lock(&cache->lock);
        err = fetch_await(cache, handle->node, waiter);
        pthread_mutex_unlock(&cache->lock);
        if (err)
            return err;
        count = content_read(cache, handle->node, data, size, offset);
    }
    if (count < 0)
        return (int)count;
    *out_size = (size_t)count;
    return 0;
}

static int write_locked(struct cache *cache, struct cache_handle *handle, const void *data, size_t size,
                        uint64_t offset, int flags, struct cache_waiter *waiter) {
    struct node *node = handle->node;
    int err = check_access(cache, node, O_WRONLY | (flags & O_APPEND));

    if (err < 0)
        return err;
    if (flags & O_APPEND)
        err = content_append(cache, node, data, size);
    else if (!content_cached(node))
        err = fetch_await(cache, node, waiter);
    else
        err = content_write(cache, node, data, size, offset);
    if (err)
        return err;
    handle->wrote = true;
    if (!node->awaited && (node->r.id || (flags & O_APPEND)))
        cache_kick(cache);
    return 0;
}

int cache_write(struct cache_handle *handle, const void *data, size_t size, uint64_t offset, int flags,
                struct cache_waiter *waiter) {
    int err;

    pthread_mutex_lock(&handle->cache->lock);
    err = write_locked(handle->cache, handle, data, size, offset, flags, waiter);
    pthread_mutex_unlock(&handle->cache->lock);
    return err;
}

/* The final error of the node that this handle has not reported yet. */
static int sample_error(struct cache_handle *handle) {
    struct node *node = handle->node;

    if (!handle->wrote || handle->errors_seen == node->error_count)
        return 0;
    handle->errors_seen = node->error_count;
    return node->dirty_prev ? node->last_error : 0; /* saved meanwhile: no error */
}

int cache_flush(struct cache_handle *handle) {
    struct cache *cache = handle->cache;
    int err = 0;

    pthread_mutex_lock(&cache->lock);
    if (handle->wrote && handle->node->dir)
        err = content_check(cache, handle->node);
    if (err == 0)
        err = sample_error(handle);
    pthread_mutex_unlock(&cache->lock);
    return err;
}

/* Makes one node's bytes and all commits so far safe from power loss. Called with the lock, which is given up meanwhile. */
static int sync_local(struct cache *cache, struct node *node) {
    int err = content_sync(cache, node);

    return err < 0 ? err : sync_log(cache);
}

static bool can_reach_server(const struct cache *cache, const struct node *node) {
    enum service_class class_id = node->r.content == STORE_CONTENT_TAIL ? SERVICE_APPEND : SERVICE_WRITE;
    struct service_budget budget;

    if (cache->link.state == LINK_OFFLINE)
        return false;
    cache->service->ops->budget(cache->service, class_id, &budget);
    return budget.wait_ms < FSYNC_SERVER_MS;
}

/* Has a note given up the name of NODE, which has none, so that NODE will take its place? */
static bool can_adopt(const struct cache *cache, const struct node *node) {
    const struct node *other;

    for (other = cache->tree.dirty; other; other = other->dirty_next) {
        const char *name = other->gone_name ? other->gone_name : other->r.base_shown;

        if (other != node && other->r.id && !other->r.folder && name && strcmp(name, node->r.name) == 0 &&
            other->r.base_dir == node->r.dir)
            return true;
    }
    return false;
}

/* With -o fsync=server: must the service have NODE before fsync returns? */
static bool awaits_server(const struct cache *cache, const struct node *node) {
    if (cache->config.fsync != CACHE_FSYNC_SERVER || node->r.scratch || !node->dir || !node->dirty_prev)
        return false;
    /* It stays a draft while a writer has it open, also when all of it is there. */
    if (node->r.id && node->r.content == STORE_CONTENT_DRAFT && !node->frozen &&
        node->saved_change == node->change)
        return false;
    return node->r.id || can_adopt(cache, node);
}

static int await_server(struct cache *cache, struct node *node, struct cache_waiter *waiter) {
    int64_t left;

    if (!awaits_server(cache, node))
        return 0;
    if (node->r.error)
        return node->r.error;
    if (!can_reach_server(cache, node))
        return -ETIMEDOUT;
    if (!waiter->mark)
        waiter->mark = (uint64_t)(cache_now_ms(cache) + FSYNC_SERVER_MS);
    left = (int64_t)waiter->mark - cache_now_ms(cache);
    if (left <= 0)
        return -ETIMEDOUT;
    /* Going offline wakes nobody who waits for one note. */
    return cache_wait_on(cache, &node->waiters, waiter, left < FSYNC_LOOK_MS ? left : FSYNC_LOOK_MS);
}

int cache_fsync(struct cache_handle *handle, struct cache_waiter *waiter) {
    struct cache *cache = handle->cache;
    struct node *node = handle->node;
    int err = 0;

    pthread_mutex_lock(&cache->lock);
    if (!(waiter->stage & STAGE_SYNCED)) {
        err = sync_local(cache, node);
        waiter->stage |= STAGE_SYNCED;
        /* A new file keeps its settle time: it may be the temporary file of an atomic save. */
        if (node->dirty_prev && (node->r.id || awaits_server(cache, node)))
            node->hurry = true;
        cache_kick(cache);
    }
    if (err == 0)
        err = sample_error(handle);
    if (err == 0)
        err = await_server(cache, node, waiter);
    pthread_mutex_unlock(&cache->lock);
    return err;
}

/* The inodes below DIR with bytes that aren't safe yet: their nodes may go while the lock is given up. */
static int gather_unsynced(struct node *dir, uint64_t **inos, size_t *count) {
    struct node *node, *next;
    uint64_t *grown;
    int err = 0;

    HASH_ITER(hh_name, dir->children, node, next) {
        if (node->unsynced) {
            grown = reallocarray(*inos, *count + 1, sizeof(**inos));
            if (!grown)
                return -ENOMEM;
            *inos = grown;
            grown[(*count)++] = node->r.ino;
        }
        if (node->r.folder)
            err = gather_unsynced(node, inos, count);
        if (err < 0)
            return err;
    }
    return 0;
}

int cache_fsync_dir(struct cache *cache, uint64_t dir_ino) {
    struct node *dir, *node;
    uint64_t *inos = NULL;
    size_t count = 0;
    int err = 0;

    pthread_mutex_lock(&cache->lock);
    dir = tree_find(&cache->tree, dir_ino);
    if (dir)
        err = gather_unsynced(dir, &inos, &count);
    for (size_t i = 0; i < count && err == 0; i++) {
        node = tree_find(&cache->tree, inos[i]);
        if (node)
            err = content_sync(cache, node);
    }
    if (err == 0)
        err = sync_log(cache);
    pthread_mutex_unlock(&cache->lock);
    free(inos);
    return err;
}

int cache_allocate(struct cache_handle *handle, uint64_t size, struct cache_waiter *waiter) {
    struct cache *cache = handle->cache;
    int err;

    pthread_mutex_lock(&cache->lock);
    err = check_access(cache, handle->node, O_WRONLY);
    if (err == 0 && !content_cached(handle->node))
        err = fetch_await(cache, handle->node, waiter);
    if (err == 0 && size > content_size(handle->node)) {
        err = content_resize(cache, handle->node, size);
        handle->wrote = true;
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

void cache_close(struct cache_handle *handle) {
    struct cache *cache = handle->cache;
    struct node *node = handle->node;

    pthread_mutex_lock(&cache->lock);
    node->handles--;
    if (handle->writes) {
        node->writers--;
        node->quiet_at_ms = cache_now_ms(cache);
        if (handle->wrote)
            (void)content_check(cache, node);
        node->unsaved = true;
        if (!node->awaited || node->r.content != STORE_CONTENT_TAIL)
            cache_kick(cache);
    }
    content_close(cache, node);
    cache_reap(cache, node);
    pthread_mutex_unlock(&cache->lock);
    free(handle);
}

uint64_t cache_handle_ino(const struct cache_handle *handle) {
    return handle->node->r.ino;
}

static int resize(struct cache *cache, struct node *node, uint64_t size, struct cache_waiter *waiter) {
    int err = check_access(cache, node, O_WRONLY);

    if (err == 0 && size > 0 && !content_cached(node))
        err = fetch_await(cache, node, waiter);
    if (err || size == content_size(node))
        return err;
    err = content_resize(cache, node, size);
    cache_kick(cache);
    return err;
}

static void set_times(struct cache *cache, struct node *node, const struct stat *attr, unsigned set) {
    int64_t now = cache_time_ns(cache);

    if (set & CACHE_SET_ATIME_NOW)
        node->r.atime_ns = now;
    else if (set & CACHE_SET_ATIME)
        node->r.atime_ns = (int64_t)attr->st_atim.tv_sec * 1000000000 + attr->st_atim.tv_nsec;
    if (set & CACHE_SET_MTIME_NOW)
        node->r.mtime_ns = now;
    else if (set & CACHE_SET_MTIME)
        node->r.mtime_ns = (int64_t)attr->st_mtim.tv_sec * 1000000000 + attr->st_mtim.tv_nsec;
    node->r.ctime_ns = now;
}

static int setattr_locked(struct cache *cache, struct node *node, const struct stat *attr, unsigned set,
                          struct cache_handle *handle, struct cache_waiter *waiter) {
    struct cache_entry now;
    int err;

    /* The service has no owners: only what is already so can be set. */
    cache_fill_entry(cache, node, &now);
    if (((set & CACHE_SET_UID) && attr->st_uid != now.attr.st_uid) ||
        ((set & CACHE_SET_GID) && attr->st_gid != now.attr.st_gid))
        return -EPERM;
    if (set & CACHE_SET_SIZE) {
        if (node->r.folder)
            return -EISDIR;
        err = resize(cache, node, (uint64_t)attr->st_size, waiter);
        if (err)
            return err;
        if (handle)
            handle->wrote = true;
    }
    if (set & CACHE_SET_MODE)
        node->r.mode = (node->r.folder ? S_IFDIR : S_IFREG) | (attr->st_mode & 07777);
    if (set & ~(unsigned)CACHE_SET_SIZE)
        set_times(cache, node, attr, set);
    return set ? cache_save(cache, node) : 0;
}

int cache_setattr(struct cache *cache, uint64_t ino, const struct stat *attr, unsigned set,
                  struct cache_handle *handle, struct cache_waiter *waiter, struct cache_entry *out) {
    struct node *node;
    int err = -ENOENT;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, ino);
    if (node)
        err = setattr_locked(cache, node, attr, set, handle, waiter);
    if (err == 0)
        cache_fill_entry(cache, node, out);
    pthread_mutex_unlock(&cache->lock);
    return err;
}
