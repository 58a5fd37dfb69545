/* news: what the service tells of notes and folders.
 *
 * Remote news updates base only. Want follows base where the user had not changed it: a node whose place equals base's
 * place moves along, a file without unsent bytes shows the new version at once (an open one when its
 * body has arrived). What the user changed stays as it is shown; push and reconcile bring the two together.
 *
 * A list is older than the moment it arrives: items about a node with a request of ours under way, or changed by a reply of
 * ours after the list was asked for, are put off; the mark of the head poll goes back so that the next
 * poll tells them again (pull.c).
 */
#include "cache/news.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/names.h"
#include "cache/place.h"
#include "cache/pull.h"
#include "cache/readahead.h"

bool news_same_version(const struct node *node, const struct service_note *note) {
    if ((note->has & SERVICE_HAS_UPDATED) && note->updated_at != node->r.updated_at)
        return false;
    if ((note->has & SERVICE_HAS_SIZE) && note->byte_size != node->r.base_size)
        return false;
    if ((note->has & SERVICE_HAS_APPENDED) && note->last_appended_at != node->r.appended_at &&
        node->r.appended_at != -1)
        return false;
    return true;
}

/* Name and folder as the service tells them. */
static int apply_place(struct cache *cache, struct node *node, const struct service_note *note) {
    bool follow = place_follows(node) || !node->r.base_shown;
    struct node *dir;
    int err = place_set_name(cache, node, note->filename, NULL);

    if (note->has & SERVICE_HAS_FOLDER)
        node->r.base_folder = note->folder_id;
    dir = place_folder(cache, node->r.base_folder);
    node->r.base_dir = dir->r.ino;
    if (err == 0 && follow)
        err = place_node(cache, node, place_shown_folder(cache, dir));
    return err;
}

static void apply_flags(struct node *node, const struct service_note *note) {
    node->r.rich = note->rich;
    if (note->has & SERVICE_HAS_APPEND_ONLY)
        node->r.locked = note->append_only;
    if (note->has & SERVICE_HAS_ENCRYPTED)
        node->r.encrypted = note->client_encrypted;
}

static void apply_version(struct node *node, const struct service_note *note) {
    if (note->has & SERVICE_HAS_UPDATED)
        node->r.updated_at = note->updated_at;
    else if (note->last_appended_at > node->r.updated_at)
        node->r.updated_at = note->last_appended_at;
    if (note->has & SERVICE_HAS_CREATED)
        node->r.created_at = note->created_at;
    if (note->has & SERVICE_HAS_APPENDED)
        node->r.appended_at = note->last_appended_at;
    if (note->has & SERVICE_HAS_SIZE)
        node->r.base_size = note->byte_size;
}

/* Times of a remote version: the service's, strictly upwards. */
static void apply_times(struct cache *cache, struct node *node) {
    int64_t remote = node->r.updated_at * 1000000000;

    if (!node->r.updated_at)
        remote = node->r.created_at ? node->r.created_at * 1000000000 : cache_time_ns(cache);
    if (remote <= node->r.mtime_ns)
        remote = node->r.mtime_ns + 1;
    node->r.mtime_ns = remote;
    node->r.ctime_ns = remote > node->r.ctime_ns ? remote : node->r.ctime_ns + 1;
    if (!node->r.atime_ns)
        node->r.atime_ns = remote;
    node->r.mode = 0; /* local attributes end with the version they were set on */
}

/* What a writer has before him stays as it is until he closes it (DESIGN.md section 3, "Merging"). */
static void pin(struct cache *cache, struct node *node) {
    if (node->pinned && node->writers && node->r.content == STORE_CONTENT_BASE && node->r.body)
        (void)content_draft(cache, node, false);
}

/* A version whose body isn't here yet. */
static void apply_cold_version(struct cache *cache, struct node *node, const struct service_note *note) {
    bool open;

    pin(cache, node);
    open = node->handles > 0 && node->r.body;
    apply_version(node, note);
    node->checked = false;
    node->r.settled = false;
    if (open) {
        /* Readers go on with what they had until the new body is here. */
        (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
        return;
    }
    node->r.exact = false;
    if (node->r.body)
        readahead_changed(cache, node);
    (void)base_set_body(cache, node, 0, 0);
    apply_times(cache, node);
    cache_tell_inode(cache, node, true);
}

/* A local file without base has the name under which a note appears: they are the same file from now on. Appends
 * go behind what the note has; a rewrite has no ancestor and ends in a conflict copy (reconcile.c). */
static struct node *meet_local(struct cache *cache, const struct service_note *note) {
    struct node *dir = place_shown_folder(cache, place_folder(cache, note->folder_id));
    char shown[NAMES_MAX_SHOWN + 1];
    struct node *node;

    names_show(note->filename, note->id, false, shown);
    node = tree_child(dir, shown);
    if (!node || node->r.folder || node->r.id || node->r.scratch || node->frozen)
        return NULL;
    node->r.ancestor_updated_at = -1;
    node->r.ancestor_bytes = -1;
    node->r.error = 0; /* its name was taken: by this note */
    tree_mark_dirty(&cache->tree, node);
    return node;
}

static struct node *new_note(struct cache *cache) {
    struct store_node rec = {.uid = UINT32_MAX, .gid = UINT32_MAX, .base_size = -1};

    rec.ino = store_next_number(cache->store);
    return rec.ino ? tree_add(&cache->tree, &rec) : NULL;
}

static int add_note(struct cache *cache, const struct service_note *note) {
    struct node *node = meet_local(cache, note);
    bool local = node != NULL;
    int err;

    if (!node)
        node = new_note(cache);
    if (!node)
        return -ENOMEM;
    tree_set_id(&cache->tree, node, note->id);
    apply_flags(node, note);
    apply_version(node, note);
    if (local) {
        err = place_set_name(cache, node, note->filename, NULL);
        node->r.base_folder = note->folder_id;
        node->r.base_dir = place_folder(cache, note->folder_id)->r.ino;
        node->r.append_born = false;
        cache_kick(cache);
    } else {
        apply_times(cache, node);
        err = apply_place(cache, node, note);
    }
    if (node->r.base_name && node->r.base_shown)
        return err < 0 ? err : cache_save(cache, node);
    /* Without memory it wasn't told of: a later list does so again. */
    tree_set_id(&cache->tree, node, 0);
    if (!local)
        tree_remove(&cache->tree, node);
    cache->pull.sweep_wanted = true;
    return -ENOMEM;
}

/* May the note be the answer to a create of ours that is still open? Then the reply will tell. */
static bool may_be_ours(struct cache *cache, const struct service_note *note) {
    struct node *node;

    for (node = cache->tree.dirty; node; node = node->dirty_next) {
        if (!node->frozen || node->r.id || node->r.folder)
            continue;
        if (!node->frozen->title || names_is_rendering(node->frozen->title, note->filename) ||
            strcmp(node->frozen->title, note->filename) == 0)
            return true;
    }
    return false;
}

static bool must_defer(struct cache *cache, const struct node *node, const struct service_note *item,
                       uint64_t sequence) {
    if (!node)
        return may_be_ours(cache, item);
    return node->frozen || node->own_change > sequence;
}

/* The next poll must tell of the item again, unless it is older than what is known. */
static void hold_mark(struct cache *cache, const struct node *node, const struct service_note *item) {
    if (node && item->updated_at < node->r.updated_at)
        return;
    if (item->updated_at && item->updated_at < cache->pull.mark)
        cache->pull.mark = item->updated_at;
    cache->pull.mark_held = true;
}

static bool is_known(const struct node *node, const struct service_note *item) {
    if ((item->has & SERVICE_HAS_APPEND_ONLY) && node->r.locked != item->append_only)
        return false;
    if ((item->has & SERVICE_HAS_FOLDER) && node->r.base_folder != item->folder_id)
        return false;
    return node->r.rich == item->rich && strcmp(node->r.base_name, item->filename) == 0 &&
           news_same_version(node, item);
}

int news_item(struct cache *cache, const struct service_note *item, uint64_t sequence) {
    struct node *node = tree_find_note(&cache->tree, item->id);
    int err = 0;

    if (node && is_known(node, item))
        return 0;
    if (must_defer(cache, node, item, sequence)) {
        hold_mark(cache, node, item);
        return 0;
    }
    if (!node)
        return add_note(cache, item);
    node->own_change = ++cache->pull.sequence;
    apply_flags(node, item);
    err = apply_place(cache, node, item);
    if (!news_same_version(node, item))
        apply_cold_version(cache, node, item);
    else
        cache_tell_inode(cache, node, false);
    return err < 0 ? err : cache_save(cache, node);
}

static bool is_settled(const struct service_note *note, int64_t date) {
    return (note->has & SERVICE_HAS_UPDATED) && date > note->updated_at + 1;
}

int news_full(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
              int64_t date, bool ours) {
    bool known = news_same_version(node, note), had_body = node->r.body != 0;
    bool same = known && had_body && number && node->r.body_size == note->body_size;
    int err = apply_place(cache, node, note);

    if (!known && !ours)
        pin(cache, node);
    apply_flags(node, note);
    apply_version(node, note);
    if (!(note->has & SERVICE_HAS_SIZE) && note->body)
        node->r.base_size = (int64_t)note->body_size;
    node->read_at_ms = cache_now_ms(cache);
    node->r.inexact = (note->has & SERVICE_HAS_BODY) && !note->body_exact;
    node->r.settled =
        is_settled(note, date) || (ours && !cache->pull.sizeless) || (same && node->reread && !date);
    node->reread = same;
    if (number) {
        bool equal = false;
        uint32_t crc = node->r.body_crc;

        (void)base_set_body(cache, node, number, note->body_size);
        equal = same && crc == node->r.body_crc;
        if (!equal && !ours) {
            bool other = !known || had_body; /* else the version that we knew, only its bytes are new */

            node->r.exact = node->r.exact && !other;
            if (node->r.content != STORE_CONTENT_DRAFT && other)
                apply_times(cache, node);
            cache_tell_inode(cache, node, other);
        }
    }
    if (err == -EEXIST)
        err = 0;
    return err < 0 ? err : cache_save(cache, node);
}

static void hide(struct cache *cache, struct node *node) {
    struct node *dir = node->dir;
    char name[NAMES_MAX_SHOWN + 1];

    (void)snprintf(name, sizeof(name), "%s", node->r.name);
    tree_unplace(&cache->tree, node);
    cache_tell_entry(cache, dir, name, NULL);
    dir->r.mtime_ns = dir->r.ctime_ns = cache_time_ns(cache);
    dir->unsaved = true;
    cache_tell_inode(cache, dir, true);
}

/* Notes of a folder that is gone are in the root now. */
static void empty_folder(struct cache *cache, struct node *folder) {
    struct node *node, *next;

    HASH_ITER(hh_name, folder->children, node, next) {
        if (node->r.id && place_follows(node)) {
            node->r.base_folder = 0;
            node->r.base_dir = cache->tree.root->r.ino;
            (void)place_node(cache, node, cache->tree.root);
            (void)cache_save(cache, node);
        }
    }
    HASH_ITER(hh_ino, cache->tree.by_ino, node, next) {
        if (node->r.id && !node->r.folder && node->r.base_dir == folder->r.ino) {
            node->r.base_folder = 0;
            node->r.base_dir = cache->tree.root->r.ino;
            (void)cache_save(cache, node);
        }
    }
}

void news_gone(struct cache *cache, struct node *node) {
    bool changed = node->r.content != STORE_CONTENT_BASE || node->children;

    cache_begin(cache);
    if (node->r.folder) {
        empty_folder(cache, node);
        changed = node->children != NULL;
    }
    /* Local edit against remote delete: it is made again. */
    if (changed && node->dir && !node->r.folder && !content_cached(node) &&
        node->r.content == STORE_CONTENT_TAIL)
        cache_log(cache, LOG_NOTICE, "a note was deleted elsewhere; its unsent lines become a new note");
    if (!changed && node->dir)
        hide(cache, node);
    base_clear(cache, node);
    if (changed && node->dir) {
        node->r.append_born = node->r.content == STORE_CONTENT_TAIL;
        (void)cache_want_changed(cache, node);
    } else {
        tree_mark_clean(&cache->tree, node);
        node->r.changed_at = 0;
        (void)cache_save(cache, node);
    }
    (void)cache_commit(cache);
    cache_wake_all(&node->waiters, -ENOENT);
    cache_reap(cache, node);
}

/* A local folder of this name is the same one from now on. */
static struct node *meet_local_folder(struct cache *cache, const struct service_folder *folder) {
    struct node *node = tree_folder_named(&cache->tree, folder->name, NULL);

    if (!node || node->r.id)
        return NULL;
    node->r.error = 0; /* that there is one was no obstacle */
    return node;
}

/* May the folder be the answer to a create of ours that is still open? Then the reply will tell. */
static bool folder_may_be_ours(const struct cache *cache, const char *name) {
    char key[NAMES_KEY_SIZE], asked[NAMES_KEY_SIZE];
    const struct node *node;

    if (names_fold(name, key) < 0)
        return false;
    for (node = cache->tree.folder_list; node; node = node->folder_next) {
        if (node->frozen && !node->r.id && node->frozen->title &&
            names_fold(node->frozen->title, asked) == 0 && strcmp(key, asked) == 0)
            return true;
    }
    return false;
}

static int apply_folder(struct cache *cache, const struct service_folder *folder) {
    struct node *node = tree_find_folder(&cache->tree, folder->id);
    struct store_node rec = {.folder = true, .uid = UINT32_MAX, .gid = UINT32_MAX, .base_size = -1};
    bool follow = true;
    int err;

    if (node && (node->frozen || strcmp(node->r.base_name, folder->name) == 0))
        return 0;
    if (!node && folder_may_be_ours(cache, folder->name))
        return 0;
    if (node)
        follow = place_follows(node);
    else
        node = meet_local_folder(cache, folder);
    if (!node) {
        rec.ino = store_next_number(cache->store);
        rec.atime_ns = rec.mtime_ns = rec.ctime_ns =
            folder->updated_at ? folder->updated_at * 1000000000 : cache_time_ns(cache);
        node = rec.ino ? tree_add(&cache->tree, &rec) : NULL;
    }
    if (!node)
        return -ENOMEM;
    tree_set_id(&cache->tree, node, folder->id);
    node->r.updated_at = folder->updated_at;
    err = place_set_name(cache, node, folder->name, NULL);
    if (err < 0 && !node->r.base_shown) { /* without memory it wasn't told of: the next list does so again */
        tree_set_id(&cache->tree, node, 0);
        cache->pull.folders_wanted = true;
        if (!node->dir)
            tree_remove(&cache->tree, node);
        return err;
    }
    node->r.base_dir = cache->tree.root->r.ino;
    if (err == 0 && follow && !node->r.gone_at)
        err = place_node(cache, node, cache->tree.root);
    if (err == 0 && node->dirty_prev)
        cache_kick(cache);
    return err < 0 ? err : cache_save(cache, node);
}

static bool is_listed(const struct service_reply *reply, int64_t id) {
    for (size_t i = 0; i < reply->folder_count; i++) {
        if (reply->folders[i].id == id)
            return true;
    }
    return false;
}

/* Is the note shown in the root only because its folder wasn't there? */
static bool is_stray(const struct cache *cache, const struct node *node, const struct node *folder) {
    return node->dir == cache->tree.root && node->r.base_dir == folder->r.ino && !node->dirty_prev &&
           node->r.base_shown && strcmp(node->r.name, node->r.base_shown) == 0;
}

void news_rehome(struct cache *cache) {
    struct node *node, *next;

    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        struct node *folder =
            node->r.base_folder ? tree_find_folder(&cache->tree, node->r.base_folder) : NULL;
        bool stray = folder && is_stray(cache, node, folder);

        if (!folder || !folder->dir || (folder->r.ino == node->r.base_dir && !stray))
            continue;
        if (stray || place_follows(node)) {
            node->r.base_dir = folder->r.ino;
            (void)place_node(cache, node, folder);
        }
        node->r.base_dir = folder->r.ino;
        (void)cache_save(cache, node);
    }
}

int news_folders(struct cache *cache, const struct service_reply *reply) {
    struct node *node, *next;
    int err = 0;

    cache_begin(cache);
    for (size_t i = 0; i < reply->folder_count && err == 0; i++)
        err = apply_folder(cache, &reply->folders[i]);
    HASH_ITER(hh_id, cache->tree.folder_by_id, node, next) {
        if (!node->frozen && !reply->partial && !is_listed(reply, node->r.id))
            news_gone(cache, node);
    }
    news_rehome(cache);
    if (cache_commit(cache) < 0)
        err = -EIO;
    return err;
}
