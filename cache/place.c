/* place: where what the service has is shown.
 *
 * The shown name is the rendering of the service's name (names.c); where that is taken, `NAME~ID`. A name that was taken only
 * because lists tell one change before the other (a note deleted and made anew, two that swapped) becomes free again:
 * then the plain name is given back (place_unclash).
 */
#include "cache/place.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cache/names.h"

struct node *place_folder(struct cache *cache, int64_t id) {
    struct node *folder = id ? tree_find_folder(&cache->tree, id) : cache->tree.root;

    if (folder)
        return folder;
    if (!cache->pull.listing_folders)
        cache->pull.folders_wanted = true;
    return cache->tree.root;
}

struct node *place_shown_folder(struct cache *cache, struct node *folder) {
    return folder->dir ? folder : cache->tree.root;
}

bool place_follows(const struct node *node) {
    return node->dir && node->r.base_shown && node->r.dir == node->r.base_dir &&
           strcmp(node->r.name, node->r.base_shown) == 0;
}

int place_set_name(struct cache *cache, struct node *node, const char *filename, const char *asked) {
    char shown[NAMES_MAX_SHOWN + 1];
    int err;

    if (!asked && node->r.base_name && strcmp(node->r.base_name, filename) == 0)
        return 0;
    (void)cache;
    names_show(filename, node->r.id, false, shown);
    node->r.alias = asked && strcmp(asked, shown) != 0;
    err = tree_set_string(&node->r.base_name, filename);
    if (err == 0)
        err = tree_set_string(&node->r.base_shown, node->r.alias ? asked : shown);
    return err;
}

/* A note that stands where a folder's name belongs gives way. */
static void yield_name(struct cache *cache, struct node *note) {
    char shown[NAMES_MAX_SHOWN + 1];

    names_show(note->r.base_name, note->r.id, true, shown);
    cache->clashes = true;
    if (tree_set_string(&note->r.base_shown, shown) < 0)
        return;
    (void)place_node(cache, note, note->dir);
    (void)cache_save(cache, note);
}

int place_node(struct cache *cache, struct node *node, struct node *dir) {
    char shown[NAMES_MAX_SHOWN + 1], former[NAMES_MAX_SHOWN + 1] = "";
    struct node *former_dir = node->dir, *other;
    int err;

    assert(dir);
    if (!node->r.base_shown)
        return -EINVAL;
    (void)snprintf(shown, sizeof(shown), "%s", node->r.base_shown);
    other = tree_child(dir, shown);
    if (other && node->r.folder && !other->r.folder && other->r.id && place_follows(other)) {
        yield_name(cache, other);
        other = tree_child(dir, shown);
    }
    cache->clashes |= other && other != node;
    if ((other && other != node) || strcmp(shown, ".jotsfs") == 0)
        names_show(node->r.base_name, node->r.id, true, shown);
    other = tree_child(dir, shown);
    if (other && other != node)
        return -EEXIST;
    if (node->dir == dir && strcmp(node->r.name, shown) == 0)
        return 0;
    if (former_dir)
        (void)snprintf(former, sizeof(former), "%s", node->r.name);
    err = tree_place(&cache->tree, node, dir, shown);
    if (err < 0)
        return err;
    if (strcmp(shown, node->r.base_shown) != 0)
        err = tree_set_string(&node->r.base_shown, shown);
    if (former_dir)
        cache_tell_entry(cache, former_dir, former, NULL);
    cache_tell_entry(cache, dir, shown, node);
    dir->r.mtime_ns = dir->r.ctime_ns = cache_time_ns(cache);
    dir->unsaved = true;
    cache_tell_inode(cache, dir, true);
    return err;
}

static void unclash(struct cache *cache, struct node *node) {
    char shown[NAMES_MAX_SHOWN + 1];

    if (!place_follows(node) || node->r.alias)
        return;
    names_show(node->r.base_name, node->r.id, false, shown);
    if (strcmp(shown, node->r.base_shown) == 0 || strcmp(shown, ".jotsfs") == 0)
        return;
    if (tree_child(node->dir, shown)) {
        cache->clashes = true;
        return;
    }
    if (tree_set_string(&node->r.base_shown, shown) == 0 && place_node(cache, node, node->dir) == 0)
        (void)cache_save(cache, node);
}

void place_unclash(struct cache *cache) {
    struct node *node, *next;

    if (!cache->clashes)
        return;
    cache->clashes = false;
    cache_begin(cache);
    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        unclash(cache, node);
    }
    (void)cache_commit(cache);
}
