/* dirs: names, as fs/ calls them (cache.h, "inodes" and "names").
 *
 * Every change is a change of want in memory and in its row; what it means for the service is found out by the
 * plan when it has settled. A name that a note of the service gave up is only vacated: the note's node stays, without name, until
 * another node adopts its base or its DELETE is answered.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/cache_internal.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/names.h"
#include "cache/pull.h"
#include "cache/push.h"
#include "cache/sweep.h"

int cache_lookup(struct cache *cache, uint64_t dir_ino, const char *name, struct cache_waiter *waiter,
                 struct cache_entry *out) {
    char clean[NAMES_MAX_SHOWN + 1];
    struct node *dir, *node = NULL;
    int err;

    err = names_normalise(name, clean);
    memset(out, 0, sizeof(*out));
    if (err < 0)
        return err == -EILSEQ ? -ENOENT : err;
    pthread_mutex_lock(&cache->lock);
    dir = tree_find(&cache->tree, dir_ino);
    if (!dir)
        err = -ESTALE;
    else
        node = tree_child(dir, clean);
    if (err == 0 && !node && waiter && !names_is_scratch(clean, cache->config.local_globs)) {
        err = pull_await_name(cache, dir, waiter);
        node = err ? NULL : tree_child(dir, clean);
    }
    if (node) {
        node->lookups++;
        cache_fill_entry(cache, node, out);
    } else if (err == 0) {
        cache_fill_entry(cache, dir, out);
        err = -ENOENT;
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

void cache_forget(struct cache *cache, uint64_t ino, uint64_t lookups) {
    struct node *node;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, ino);
    if (node) {
        node->lookups = node->lookups > lookups ? node->lookups - lookups : 0;
        cache_reap(cache, node);
    }
    pthread_mutex_unlock(&cache->lock);
}

/* The name that was looked up just before is another one's now: the kernel looks again when it gets ESTALE. An open file is asked
 * for itself, whatever it is called. */
static bool has_left(const struct node *node, const struct cache_waiter *waiter) {
    if (node->r.folder || node->handles)
        return false;
    return !node->dir || waiter->mark != node->moves + 1;
}

int cache_getattr(struct cache *cache, uint64_t ino, struct cache_waiter *waiter, struct cache_entry *out) {
    struct node *node;
    int err;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, ino);
    if (node && waiter && !waiter->mark)
        waiter->mark = node->moves + 1;
    err = waiter ? pull_await(cache, waiter) : 0;
    node = err ? NULL : tree_find(&cache->tree, ino);
    if (err == 0 && (!node || (waiter && has_left(node, waiter))))
        err = -ESTALE;
    /* The list didn't tell the size (API.md C5). */
    if (err == 0 && waiter && node->r.id && !node->r.folder && node->r.base_size < 0 && !content_cached(node))
        err = fetch_await(cache, node, waiter);
    if (err == 0)
        cache_fill_entry(cache, node, out);
    pthread_mutex_unlock(&cache->lock);
    return err;
}

char *cache_path_of(struct cache *cache, uint64_t ino, uint64_t *out_dir) {
    struct node *node;
    char *path = NULL;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, ino);
    if (node == cache->tree.root)
        path = strdup("");
    else if (node && node->dir)
        path = cache_path(node);
    if (path && node->dir)
        *out_dir = node->dir->r.ino;
    pthread_mutex_unlock(&cache->lock);
    return path;
}

static int find_child(struct cache *cache, uint64_t dir_ino, const char *name, struct node **out_dir,
                      struct node **out) {
    char clean[NAMES_MAX_SHOWN + 1];
    struct node *dir = tree_find(&cache->tree, dir_ino);
    int err;

    if (!dir)
        return -ESTALE;
    if (!dir->r.folder)
        return -ENOTDIR;
    err = names_normalise(name, clean);
    if (err < 0)
        return err == -EILSEQ ? -ENOENT : err;
    *out_dir = dir;
    *out = tree_child(dir, clean);
    return *out ? 0 : -ENOENT;
}

static void touch_dir(struct cache *cache, struct node *dir) {
    dir->r.mtime_ns = dir->r.ctime_ns = cache_time_ns(cache);
    dir->unsaved = true;
}

/* The name goes; the note follows when it has settled. */
static void vacate(struct cache *cache, struct node *node) {
    touch_dir(cache, node->dir);
    (void)tree_set_string(&node->gone_name, node->r.name);
    tree_unplace(&cache->tree, node);
    node->r.gone_at = cache_time(cache);
    node->line_at_ms = 0;
    /* What deletes or replaces it starts from what it shows now. */
    if (node->r.content != STORE_CONTENT_DRAFT && content_keep_ancestor(cache, node) < 0)
        node->r.ancestor = node->r.ancestor_size = 0;
    (void)cache_want_changed(cache, node);
    if (!node->r.id && !node->frozen)
        tree_mark_clean(&cache->tree, node);
    cache_reap(cache, node);
}

/* Unlink of a locked note asks the service, which may refuse (API.md C16). */
static int delete_locked(struct cache *cache, struct node *node, struct cache_waiter *waiter) {
    int64_t now = cache_now_ms(cache);

    if (waiter->stage & STAGE_DELETED) {
        int err = node->r.error;

        if (node->delete_now && now < (int64_t)waiter->mark) /* woken by something else */
            return cache_wait_on(cache, &node->waiters, waiter, (int64_t)waiter->mark - now);
        node->delete_now = false;
        node->r.error = 0;
        return err ? err : -EAGAIN;
    }
    if (cache->link.state == LINK_OFFLINE)
        return -EAGAIN;
    waiter->stage |= STAGE_DELETED;
    waiter->mark = (uint64_t)(now + CACHE_AWAIT_MS);
    node->delete_now = true;
    tree_mark_dirty(&cache->tree, node);
    cache_kick(cache);
    return cache_wait_on(cache, &node->waiters, waiter, CACHE_AWAIT_MS);
}

int cache_unlink(struct cache *cache, uint64_t dir_ino, const char *name, struct cache_waiter *waiter) {
    struct node *dir, *node;
    int err;

    pthread_mutex_lock(&cache->lock);
    err = find_child(cache, dir_ino, name, &dir, &node);
    if (err == -ENOENT && (waiter->stage & STAGE_DELETED)) {
        err = 0; /* the service deleted it while we waited */
    } else if (err == 0) {
        if (node->r.folder)
            err = -EISDIR;
        else if (cache->link.account == ACCOUNT_READ_ONLY && !node->r.scratch)
            err = -EROFS;
        else if (node->r.id && node->r.locked)
            err = delete_locked(cache, node, waiter);
        else
            vacate(cache, node);
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

static int mkdir_locked(struct cache *cache, struct node *dir, const char *name, mode_t mode,
                        struct node **out) {
    struct store_node rec = {.folder = true, .uid = UINT32_MAX, .gid = UINT32_MAX, .base_size = -1};
    char clean[NAMES_MAX_SHOWN + 1];
    struct node *node;
    int err = names_check(NAMES_FOLDER, name, clean);

    if (dir != cache->tree.root)
        return -EPERM; /* one level only */
    if (err < 0)
        return err;
    if (cache->link.account == ACCOUNT_READ_ONLY)
        return -EROFS;
    if (tree_child(dir, clean) || tree_folder_named(&cache->tree, clean, NULL))
        return -EEXIST;
    rec.ino = store_next_number(cache->store);
    rec.mode = S_IFDIR | (mode & 07777);
    rec.scratch = names_is_scratch(clean, cache->config.local_globs);
    rec.atime_ns = rec.mtime_ns = rec.ctime_ns = cache_time_ns(cache);
    node = rec.ino ? tree_add(&cache->tree, &rec) : NULL;
    if (!node)
        return -ENOMEM;
    err = tree_place(&cache->tree, node, dir, clean);
    if (err == 0)
        err = cache_want_changed(cache, node);
    touch_dir(cache, dir);
    *out = node;
    return err;
}

int cache_mkdir(struct cache *cache, uint64_t dir_ino, const char *name, mode_t mode,
                struct cache_waiter *waiter, struct cache_entry *out) {
    struct node *dir, *node;
    int err;

    (void)waiter;
    pthread_mutex_lock(&cache->lock);
    dir = tree_find(&cache->tree, dir_ino);
    err = dir ? mkdir_locked(cache, dir, name, mode, &node) : -ESTALE;
    if (err == 0) {
        node->lookups++;
        cache_fill_entry(cache, node, out);
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

/* A fresh listing first: the service would un-folder what is inside without a word. */
static int await_listing(struct cache *cache, struct node *dir, struct cache_waiter *waiter) {
    if (!dir->r.id || (waiter->stage & STAGE_LISTED) || cache->link.state == LINK_OFFLINE)
        return 0;
    waiter->stage |= STAGE_LISTED;
    if (sweep_folder_start(cache, dir, NODE_QUERY_FETCH) < 0)
        return -ENOMEM;
    return cache_wait_on(cache, &dir->waiters, waiter, CACHE_AWAIT_MS);
}

int cache_rmdir(struct cache *cache, uint64_t dir_ino, const char *name, struct cache_waiter *waiter) {
    struct node *dir, *node;
    int err;

    pthread_mutex_lock(&cache->lock);
    err = find_child(cache, dir_ino, name, &dir, &node);
    if (err == 0 && !node->r.folder)
        err = -ENOTDIR;
    if (err == 0 && cache->link.account == ACCOUNT_READ_ONLY)
        err = -EROFS;
    if (err == 0 && node->children)
        err = -ENOTEMPTY;
    if (err == 0)
        err = await_listing(cache, node, waiter);
    if (err == 0)
        vacate(cache, node);
    pthread_mutex_unlock(&cache->lock);
    return err;
}

/* --- rename --- */

struct move {
    struct node *from_dir, *to_dir, *node, *target;
    char name[NAMES_MAX_SHOWN + 1];
    unsigned flags;
};

static int check_folder_move(struct cache *cache, const struct move *move) {
    struct node *twin;

    if (!move->node->r.folder) /* a file onto a folder */
        return move->target && move->target->r.folder && !(move->flags & RENAME_EXCHANGE) ? -EISDIR : 0;
    if (move->to_dir != cache->tree.root)
        return -EPERM;
    if (move->target && !move->target->r.folder && !(move->flags & RENAME_EXCHANGE))
        return -ENOTDIR;
    if (move->target && move->target->children && !(move->flags & RENAME_EXCHANGE))
        return -ENOTEMPTY;
    twin = tree_folder_named(&cache->tree, move->name, move->node);
    return twin && twin != move->target ? -EEXIST : 0;
}

/* The service freezes title and body of locked and rich notes. */
static bool is_frozen_note(const struct node *node) {
    return node && !node->r.folder && node->r.id && (node->r.locked || node->r.rich);
}

static int check_note_move(struct cache *cache, const struct move *move) {
    bool renames = strcmp(move->node->r.name, move->name) != 0;
    struct node *other;

    if (is_frozen_note(move->node) && renames)
        return -EPERM;
    if (is_frozen_note(move->target) && (renames || !(move->flags & RENAME_EXCHANGE)))
        return -EPERM;
    if (move->node->r.folder || names_is_scratch(move->name, cache->config.local_globs))
        return 0;
    other = tree_note_named(&cache->tree, move->name, move->node);
    return other && other != move->target ? -ENOTUNIQ : 0;
}

static int prepare_move(struct cache *cache, struct move *move, uint64_t dir, const char *name,
                        uint64_t new_dir, const char *new_name) {
    int err = find_child(cache, dir, name, &move->from_dir, &move->node);

    if (err < 0)
        return err;
    move->to_dir = tree_find(&cache->tree, new_dir);
    if (!move->to_dir || !move->to_dir->r.folder)
        return -ENOENT;
    err = names_normalise(new_name, move->name);
    if (err == 0)
        move->target = tree_child(move->to_dir, move->name);
    if (!move->target || err < 0)
        err = names_check(move->node->r.folder ? NAMES_FOLDER : NAMES_NOTE, new_name, move->name);
    if (err < 0)
        return err;
    if ((move->flags & RENAME_NOREPLACE) && move->target)
        return -EEXIST;
    if ((move->flags & RENAME_EXCHANGE) && !move->target)
        return -ENOENT;
    if (cache->link.account == ACCOUNT_READ_ONLY && !move->node->r.scratch)
        return -EROFS;
    err = check_folder_move(cache, move);
    return err < 0 ? err : check_note_move(cache, move);
}

/* A file that the service doesn't know is scratch or not by its name; one that it knows is never demoted. */
static void set_scratch(struct cache *cache, struct node *node) {
    if (!node->r.folder && !node->r.id && !node->frozen)
        node->r.scratch = names_is_scratch(node->r.name, cache->config.local_globs);
    (void)content_check(cache, node);
    node->line_at_ms = 0;
    node->batch_max = SERVICE_BULK_MAX;
}

static int exchange(struct cache *cache, struct move *move) {
    struct node *dir = move->from_dir, *to_dir = move->to_dir;
    char name[NAMES_MAX_SHOWN + 1];
    int err;

    if (move->target->r.folder && dir != cache->tree.root)
        return -EPERM;
    (void)snprintf(name, sizeof(name), "%s", move->node->r.name);
    tree_unplace(&cache->tree, move->node);
    tree_unplace(&cache->tree, move->target);
    err = tree_place(&cache->tree, move->node, to_dir, move->name);
    if (err == 0)
        err = tree_place(&cache->tree, move->target, dir, name);
    if (err < 0)
        return err;
    set_scratch(cache, move->node);
    set_scratch(cache, move->target);
    cache_begin(cache);
    (void)cache_want_changed(cache, move->node);
    (void)cache_want_changed(cache, move->target);
    return cache_commit(cache);
}

static int carry_out(struct cache *cache, struct move *move) {
    int err;

    if (move->node == move->target)
        return 0;
    if (move->flags & RENAME_EXCHANGE)
        return exchange(cache, move);
    cache_begin(cache);
    if (move->target)
        vacate(cache, move->target);
    err = tree_place(&cache->tree, move->node, move->to_dir, move->name);
    if (err == 0) {
        touch_dir(cache, move->from_dir);
        touch_dir(cache, move->to_dir);
        set_scratch(cache, move->node);
        (void)cache_want_changed(cache, move->node);
    }
    return cache_commit(cache) < 0 ? -EIO : err;
}

int cache_rename(struct cache *cache, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
                 unsigned flags, struct cache_waiter *waiter) {
    struct move move = {.flags = flags};
    int err;

    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    pthread_mutex_lock(&cache->lock);
    err = prepare_move(cache, &move, dir, name, new_dir, new_name);
    if (err == 0 && move.target && move.target->r.folder && !(flags & RENAME_EXCHANGE))
        err = await_listing(cache, move.target, waiter);
    if (err == 0)
        err = carry_out(cache, &move);
    pthread_mutex_unlock(&cache->lock);
    return err;
}
