/* reconcile: remote news against a pending rewrite or delete.
 *
 * A rewrite keeps its ancestor: what was shown when it began, unsent tail included. Only bytes of the service's version
 * that are neither the ancestor nor a beginning of it are news (our own appends, acknowledged after the rewrite began, are a
 * beginning). News is merged by lines; where both sides changed the same lines our file keeps the name and the service's
 * version becomes a new local file, sent as a note of its own. A delete against news: the note comes back.
 */
#include "cache/reconcile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"
#include "cache/merge.h"
#include "cache/names.h"
#include "cache/news.h"

/* A body as a file shows it: with its final newline. malloc'ed. */
static int load_shown(struct cache *cache, uint64_t number, uint64_t size, bool is_body,
                      struct merge_text *out) {
    char *data;
    int err = content_load(cache, number, size, &data);

    if (err < 0)
        return err;
    if (is_body && size > 0 && data[size - 1] != '\n')
        data[size++] = '\n'; /* over the NUL that content_load added */
    *out = (struct merge_text){data, size};
    return 0;
}

/* Is THEIRS, a body of SIZE bytes, a version that our side has gone through: the one that the rewrite began with (BEGUN bytes, -1 when
 * not known), or that with unsent lines of ours which were a part of the ANCESTOR? */
static bool within_ancestor(struct merge_text theirs, uint64_t size, struct merge_text ancestor,
                            int64_t begun) {
    if (size > ancestor.size || (int64_t)size < begun || memcmp(theirs.data, ancestor.data, size) != 0)
        return false;
    return (int64_t)size == begun || size == ancestor.size || ancestor.data[size] == '\n';
}

/* A free name in DIR that tells why there is another version of NODE. */
static void find_copy_name(struct cache *cache, const struct node *node, const struct node *dir,
                           enum names_why why, char out[NAMES_MAX_SHOWN + 1]) {
    for (unsigned attempt = 1;; attempt++) {
        names_copy_of(node->r.name ? node->r.name : node->r.base_shown, why, cache_time(cache), attempt, out);
        if (!tree_child(dir, out) && !tree_note_named(&cache->tree, out, NULL))
            return;
    }
}

/* A new local file beside NODE that holds body file NUMBER. */
static int make_copy(struct cache *cache, struct node *node, enum names_why why, uint64_t number,
                     uint64_t size) {
    struct store_node rec = {.uid = UINT32_MAX, .gid = UINT32_MAX, .base_size = -1};
    struct node *dir = node->dir ? node->dir : cache->tree.root;
    char name[NAMES_MAX_SHOWN + 1];
    struct node *copy;

    find_copy_name(cache, node, dir, why, name);
    rec.ino = store_next_number(cache->store);
    rec.atime_ns = rec.mtime_ns = rec.ctime_ns = cache_time_ns(cache);
    copy = rec.ino ? tree_add(&cache->tree, &rec) : NULL;
    if (!copy || tree_place(&cache->tree, copy, dir, name) < 0)
        return -ENOMEM;
    base_take_draft(cache, copy, number, size);
    cache_tell_entry(cache, dir, name, copy);
    cache_tell_inode(cache, dir, true);
    cache_log(cache, LOG_NOTICE, "kept both versions of a note: %s", name);
    return cache_want_changed(cache, copy);
}

/* What a body file shows, as a draft file of its own. */
static int copy_as_draft(struct cache *cache, struct merge_text text, uint64_t *out_number) {
    *out_number = store_next_number(cache->store);
    return content_store(cache, *out_number, text.data, text.size);
}

static int conflict(struct cache *cache, struct node *node, struct merge_text theirs) {
    uint64_t number;
    int err = copy_as_draft(cache, theirs, &number);

    return err < 0 ? err : make_copy(cache, node, NAMES_CONFLICT, number, theirs.size);
}

static int take_merged(struct cache *cache, struct node *node, const char *data, size_t size) {
    uint64_t number = store_next_number(cache->store);
    int err = content_store(cache, number, data, size);

    if (err < 0)
        return err;
    base_take_draft(cache, node, number, size);
    node->r.mtime_ns = node->r.ctime_ns = cache_time_ns(cache);
    cache_tell_inode(cache, node, true);
    return 0;
}

struct sides {
    struct merge_text ancestor, ours, theirs;
};

static void release_sides(struct sides *sides) {
    free((char *)(uintptr_t)sides->ancestor.data);
    free((char *)(uintptr_t)sides->ours.data);
    free((char *)(uintptr_t)sides->theirs.data);
}

/* Brings the draft together with THEIRS; afterwards the draft is what shall be sent. */
static int merge_draft(struct cache *cache, struct node *node, struct sides *sides) {
    enum merge_outcome outcome = MERGE_OVERLAP;
    char *merged = NULL;
    size_t size = 0;
    int err = 0;

    if (sides->ours.size == sides->theirs.size &&
        memcmp(sides->ours.data, sides->theirs.data, sides->ours.size) == 0)
        return 0;
    if (sides->ancestor.data)
        err = merge_lines(sides->ancestor, sides->ours, sides->theirs, &outcome, &merged, &size);
    if (err == -EFBIG)
        err = 0;
    if (err == 0 && outcome == MERGE_CLEAN)
        err = take_merged(cache, node, merged, size);
    else if (err == 0)
        err = conflict(cache, node, sides->theirs);
    free(merged);
    return err;
}

static bool version_is_ancestor(const struct node *node, const struct service_note *note) {
    return (note->has & SERVICE_HAS_UPDATED) && note->updated_at == node->r.ancestor_updated_at &&
           (node->r.ancestor_bytes < 0 || (int64_t)note->body_size == node->r.ancestor_bytes);
}

/* What of the ancestor the service had: to a merge, unsent lines are ours, not lines that the service has dropped. */
static void cut_ancestor(const struct node *node, struct merge_text *ancestor) {
    char *data = (char *)(uintptr_t)ancestor->data;
    size_t size = node->r.ancestor_bytes < 0 ? SIZE_MAX : (size_t)node->r.ancestor_bytes;

    if (!data || size >= ancestor->size)
        return;
    if (size > 0 && data[size - 1] != '\n')
        data[size++] = '\n';
    ancestor->size = size;
}

/* Loads the sides; *OUT_NEWS tells whether theirs has something that the rewrite didn't start from. */
static int compare_sides(struct cache *cache, struct node *node, const struct service_note *note,
                         uint64_t number, struct sides *sides, bool *out_news) {
    int err = content_open(cache, node);

    if (err == 0)
        err = load_shown(cache, number, note->body_size, true, &sides->theirs);
    if (err == 0)
        err = load_shown(cache, node->r.draft, node->draft_size, false, &sides->ours);
    if (err == 0 && node->r.ancestor &&
        load_shown(cache, node->r.ancestor, node->r.ancestor_size, true, &sides->ancestor) < 0)
        sides->ancestor = (struct merge_text){0};
    if (sides->ancestor.data)
        *out_news = !within_ancestor(sides->theirs, note->body_size, sides->ancestor, node->r.ancestor_bytes);
    else
        *out_news = !version_is_ancestor(node, note);
    cut_ancestor(node, &sides->ancestor);
    return err;
}

void reconcile_set_ancestor(struct cache *cache, struct node *node, uint64_t number, uint64_t size) {
    uint64_t former = node->r.ancestor;

    node->r.ancestor = number;
    node->r.ancestor_size = size;
    node->r.ancestor_updated_at = node->r.updated_at;
    node->r.ancestor_bytes = number ? (int64_t)size : node->r.base_size;
    cache_release_body(cache, node, former);
}

static void check_rewrite(struct cache *cache, struct node *node, const struct service_note *note,
                          uint64_t number, int64_t date) {
    struct sides sides = {{0}, {0}, {0}};
    bool news = false;
    int err = compare_sides(cache, node, note, number, &sides, &news);

    /* What is shown stays as it is while somebody has the file open for writing. */
    if (err == 0 && news && node->writers > 0) {
        node->retry_at_ms = cache_now_ms(cache) + CACHE_AWAIT_MS;
        cache_release_body(cache, node, number);
        release_sides(&sides);
        return;
    }
    cache_begin(cache);
    if (err == 0 && news)
        err = merge_draft(cache, node, &sides);
    if (err == 0)
        err = news_full(cache, node, note, number, date, false);
    if (err == 0)
        reconcile_set_ancestor(cache, node, node->r.body, node->r.body_size);
    (void)cache_save(cache, node);
    if (cache_commit(cache) < 0)
        err = -EIO;
    release_sides(&sides);
    node->checked = err == 0;
    if (err < 0) {
        cache_log(cache, LOG_ERR, "cannot compare a note with the service's version: %s",
                  strerrordesc_np(-err));
        node->retry_at_ms = cache_now_ms(cache) + CACHE_AWAIT_MS;
    }
}

/* The name that was given up is wanted back; where another file has it, one beside it. */
static void come_back(struct cache *cache, struct node *node) {
    struct node *dir = tree_find(&cache->tree, node->r.base_dir);
    char name[NAMES_MAX_SHOWN + 1];

    node->r.gone_at = 0;
    node->delete_now = false;
    if (!dir || !dir->r.folder || (dir != cache->tree.root && !dir->dir))
        dir = cache->tree.root;
    (void)snprintf(name, sizeof(name), "%s", node->r.base_shown);
    if (tree_child(dir, name))
        find_copy_name(cache, node, dir, NAMES_CONFLICT, name);
    if (tree_place(&cache->tree, node, dir, name) == 0) {
        cache_tell_entry(cache, dir, node->r.name, node);
        cache_log(cache, LOG_NOTICE, "%s was changed elsewhere: it is not deleted", node->r.name);
    }
}

static void check_delete(struct cache *cache, struct node *node, const struct service_note *note,
                         uint64_t number, int64_t date) {
    bool news = !((note->has & SERVICE_HAS_UPDATED) ? note->updated_at == node->r.ancestor_updated_at
                                                    : news_same_version(node, note)) ||
                ((note->has & SERVICE_HAS_SIZE) && node->r.ancestor_bytes >= 0 &&
                 note->byte_size != node->r.ancestor_bytes);

    cache_begin(cache);
    if (news && !node->dir) {
        base_drop_draft(cache, node);
        base_consume_tail(cache, node, UINT64_MAX);
        come_back(cache, node);
    }
    (void)news_full(cache, node, note, number, date, false);
    (void)cache_commit(cache);
    node->checked = !news || node->dir != NULL;
}

void reconcile_check(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
                     int64_t date) {
    if (!node->dir || node->delete_now)
        check_delete(cache, node, note, number, date);
    else if (node->r.content == STORE_CONTENT_DRAFT && number)
        check_rewrite(cache, node, note, number, date);
    else {
        (void)news_full(cache, node, note, number, date, false);
        node->checked = true;
    }
}

void reconcile_locked(struct cache *cache, struct node *node) {
    uint64_t number = node->r.draft, size = node->draft_size;

    if (node->r.content != STORE_CONTENT_DRAFT || !number)
        return;
    cache_begin(cache);
    body_put(node->draft);
    node->draft = NULL;
    node->r.draft = 0;
    (void)make_copy(cache, node, NAMES_LOCAL, number, size);
    base_drop_draft(cache, node);
    (void)cache_save(cache, node);
    (void)cache_commit(cache);
    cache_tell_inode(cache, node, true);
}
