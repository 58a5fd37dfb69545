/* listing: a directory as it was when it was listed, and its entries' attributes now.
 *
 * One allocation for all names: a listing of 50,000 notes is a copy of their names, so that a reader of the directory
 * sees every entry once whatever changes meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/content.h"
#include "cache/pull.h"

struct listing_entry {
    uint64_t ino;
    uint32_t name; /* offset into names */
    bool directory;
};

struct cache_listing {
    size_t count;
    struct listing_entry *entries;
    char *names;
};

static int copy_children(const struct node *dir, struct cache_listing *listing) {
    const struct node *node;
    size_t count = 0, bytes = 0, at = 0;

    for (node = dir->children; node; node = node->hh_name.next) {
        count++;
        bytes += strlen(node->r.name) + 1;
    }
    listing->entries = calloc(count + 1, sizeof(*listing->entries));
    listing->names = malloc(bytes + 1);
    if (!listing->entries || !listing->names)
        return -ENOMEM;
    for (node = dir->children; node; node = node->hh_name.next) {
        struct listing_entry *entry = &listing->entries[listing->count++];
        size_t size = strlen(node->r.name) + 1;

        entry->ino = node->r.ino;
        entry->directory = node->r.folder;
        entry->name = (uint32_t)at;
        memcpy(listing->names + at, node->r.name, size);
        at += size;
    }
    return 0;
}

int cache_list(struct cache *cache, uint64_t dir_ino, struct cache_waiter *waiter,
               struct cache_listing **out) {
    struct cache_listing *listing = calloc(1, sizeof(*listing));
    struct node *dir;
    int err = listing ? 0 : -ENOMEM;

    pthread_mutex_lock(&cache->lock);
    dir = tree_find(&cache->tree, dir_ino);
    if (err == 0 && !dir)
        err = -ESTALE;
    if (err == 0)
        err = pull_await_directory(cache, dir, waiter);
    if (err == 0)
        err = dir->r.folder ? copy_children(dir, listing) : -ENOTDIR;
    pthread_mutex_unlock(&cache->lock);
    if (err) {
        cache_listing_destroy(listing);
        return err;
    }
    *out = listing;
    return 0;
}

size_t cache_listing_count(const struct cache_listing *listing) {
    return listing->count;
}

const char *cache_listing_name(const struct cache_listing *listing, size_t index, uint64_t *out_ino,
                               bool *out_directory) {
    if (index >= listing->count)
        return NULL;
    *out_ino = listing->entries[index].ino;
    *out_directory = listing->entries[index].directory;
    return listing->names + listing->entries[index].name;
}

int cache_listing_entry(struct cache *cache, const struct cache_listing *listing, size_t index,
                        struct cache_entry *out) {
    struct node *node;
    int err = -ENOENT;

    pthread_mutex_lock(&cache->lock);
    node = tree_find(&cache->tree, listing->entries[index].ino);
    if (node && node->dir && strcmp(node->r.name, listing->names + listing->entries[index].name) == 0) {
        node->lookups++;
        cache_fill_entry(cache, node, out);
        /* Sizes that are not known yet are not guessed here: the kernel asks again. */
        if (!node->r.folder && node->r.base_size < 0 && !content_cached(node))
            out->attr_valid_ms = 0;
        err = 0;
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

void cache_listing_destroy(struct cache_listing *listing) {
    if (!listing)
        return;
    free(listing->entries);
    free(listing->names);
    free(listing);
}
