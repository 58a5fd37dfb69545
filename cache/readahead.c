/* readahead: bodies that will soon be wanted.
 *
 * Walks. `grep -r`, `cat *`, `cp -r` open the files of a directory one after the other, in the order of its listing, of its names or
 * of inode numbers (coreutils sort by them). An open that had to fetch, or that was fetched ahead, is compared with the one before in
 * that directory: is it its successor in one of these orders? Then the next ones are fetched, the more the longer this goes on
 * (twice as many at each step, AHEAD_MAX at most), AHEAD_IN_FLIGHT at a time. So a reader that stops early has cost
 * few GETs, and files that are cached cost nothing, not even the comparison.
 *
 * Prefetch. A note that was read here and changed elsewhere will be wanted again: it is fetched while the mount is in use, newest first,
 * one at a time, if it is not large, and once only until somebody opens it again.
 *
 * Both only while no call waits for budget, and below the priority of whoever waits (api/schedule.c). fetch.c raises the
 * priority when a reader comes to wait for such a GET.
 */
#include "cache/readahead.h"

#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/pull.h"

enum {
    WALKS = 4, /* at a time */
    AHEAD_IN_FLIGHT = 16,
    AHEAD_MAX = 48,
    WALK_PAUSE_MS = 10000, /* longer between two opens: not a walk */
    PREFETCH_SIZE_MAX = 131072,
    PREFETCH_MAX = 64, /* remembered */
};

enum order { ORDER_LISTING, ORDER_NAME, ORDER_INODE, ORDERS };

struct walk {
    uint64_t dir, last;
    int64_t at_ms;
    unsigned streak[ORDERS];
    uint64_t ahead[AHEAD_MAX]; /* what comes next */
    size_t count, at;
};

struct readahead {
    struct walk walks[WALKS];
    uint64_t changed[PREFETCH_MAX];
    size_t changed_count;
    unsigned in_flight, prefetching;
};

static struct readahead *get(struct cache *cache) {
    if (!cache->readahead)
        cache->readahead = calloc(1, sizeof(*cache->readahead));
    return cache->readahead;
}

/* --- orders --- */

static bool is_before(const struct node *a, const struct node *b, enum order order) {
    return order == ORDER_NAME ? strcmp(a->r.name, b->r.name) < 0 : a->r.ino < b->r.ino;
}

static struct node *listed_after(struct node *node) {
    do
        node = node->hh_name.next;
    while (node && node->r.folder);
    return node;
}

/* Keeps the COUNT first of those that come after AFTER, sorted. */
static size_t insert(struct node **first, size_t count, size_t max, struct node *node, enum order order) {
    size_t at = count;

    if (count == max && !is_before(node, first[max - 1], order))
        return count;
    if (count == max)
        at = --count;
    for (; at > 0 && is_before(node, first[at - 1], order); at--)
        first[at] = first[at - 1];
    first[at] = node;
    return count + 1;
}

/* The MAX files that come after NODE in its directory. */
static size_t next_ones(struct node *node, enum order order, struct node **out, size_t max) {
    struct node *other, *next;
    size_t count = 0;

    if (order == ORDER_LISTING) {
        for (other = listed_after(node); other && count < max; other = listed_after(other))
            out[count++] = other;
        return count;
    }
    HASH_ITER(hh_name, node->dir->children, other, next) {
        if (!other->r.folder && other->r.id && is_before(node, other, order))
            count = insert(out, count, max, other, order);
    }
    return count;
}

/* --- walks --- */

static struct walk *find_walk(struct readahead *readahead, const struct node *node) {
    struct walk *oldest = &readahead->walks[0];

    for (size_t i = 0; i < WALKS; i++) {
        struct walk *walk = &readahead->walks[i];

        if (walk->dir == node->r.dir)
            return walk;
        if (walk->at_ms < oldest->at_ms)
            oldest = walk;
    }
    memset(oldest, 0, sizeof(*oldest));
    oldest->dir = node->r.dir;
    return oldest;
}

static bool can_spare(struct cache *cache) {
    struct service_budget budget;

    cache->service->ops->budget(cache->service, SERVICE_READ, &budget);
    return cache->link.state != LINK_OFFLINE && budget.queued == 0 && budget.wait_ms == 0 &&
           !pull_is_slow(cache);
}

static bool start(struct cache *cache, uint64_t ino, enum service_priority priority) {
    struct node *node = tree_find(&cache->tree, ino);

    if (!node || !node->dir || node->r.folder || !node->r.id || node->frozen || content_cached(node) ||
        node->query != NODE_QUERY_NONE)
        return false;
    node->ahead = true;
    return fetch_start(cache, node, NODE_QUERY_FETCH, priority) == 0;
}

static void go_ahead(struct cache *cache, struct walk *walk) {
    struct readahead *readahead = cache->readahead;

    while (walk->at < walk->count && readahead->in_flight < AHEAD_IN_FLIGHT)
        readahead->in_flight += start(cache, walk->ahead[walk->at++], SERVICE_READ_AHEAD);
}

/* Looks further ahead: as far as the walk has proven to go. */
static void extend(struct walk *walk, struct node *node, enum order order) {
    struct node *next[AHEAD_MAX];
    unsigned streak = walk->streak[order];
    size_t max = streak < 5 ? (size_t)2 << streak : AHEAD_MAX;

    walk->count = next_ones(node, order, next, max < AHEAD_MAX ? max : AHEAD_MAX);
    for (size_t i = 0; i < walk->count; i++)
        walk->ahead[i] = next[i]->r.ino;
    walk->at = 0;
}

void readahead_opened(struct cache *cache, struct node *node, bool cold) {
    struct readahead *readahead = get(cache);
    int64_t now = cache_now_ms(cache);
    struct node *last, *next;
    struct walk *walk;

    cold = cold || node->ahead;
    node->ahead = false;
    if (!cold || !readahead || !node->dir)
        return;
    walk = find_walk(readahead, node);
    last = walk->last ? tree_find(&cache->tree, walk->last) : NULL;
    if (last == node)
        return;
    if (now - walk->at_ms > WALK_PAUSE_MS)
        last = NULL;
    for (int order = 0; order < ORDERS; order++) {
        bool follows =
            last && last->dir == node->dir && next_ones(last, (enum order)order, &next, 1) && next == node;

        walk->streak[order] = follows ? walk->streak[order] + 1 : 0;
    }
    walk->last = node->r.ino;
    walk->at_ms = now;
    for (int order = 0; order < ORDERS; order++) {
        if (!walk->streak[order])
            continue;
        extend(walk, node, (enum order)order);
        cache_kick(cache);
        return;
    }
}

/* --- prefetch --- */

void readahead_changed(struct cache *cache, struct node *node) {
    struct readahead *readahead = get(cache);

    if (!readahead || node->ahead || !node->dir || node->r.base_size > PREFETCH_SIZE_MAX)
        return;
    if (readahead->changed_count == PREFETCH_MAX)
        memmove(readahead->changed, readahead->changed + 1, --readahead->changed_count * sizeof(uint64_t));
    readahead->changed[readahead->changed_count++] = node->r.ino;
    cache_kick(cache);
}

static void prefetch(struct cache *cache) {
    struct readahead *readahead = cache->readahead;

    while (readahead->changed_count && !readahead->prefetching)
        readahead->prefetching +=
            start(cache, readahead->changed[--readahead->changed_count], SERVICE_PREFETCH);
}

/* --- in the sync thread's loop --- */

void readahead_done(struct cache *cache, enum service_priority priority) {
    if (priority == SERVICE_PREFETCH)
        cache->readahead->prefetching--;
    else
        cache->readahead->in_flight--;
}

void readahead_tick(struct cache *cache) {
    if (!cache->readahead || !can_spare(cache))
        return;
    for (size_t i = 0; i < WALKS; i++)
        go_ahead(cache, &cache->readahead->walks[i]);
    if (!cache->readahead->in_flight && pull_is_active(cache))
        prefetch(cache);
}

void readahead_release(struct cache *cache) {
    free(cache->readahead);
    cache->readahead = NULL;
}
