/* sweep: complete lists, read page by page, and what they no longer hold. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_SWEEP_H
#define JOTSFS_CACHE_SWEEP_H

#include "cache/cache_internal.h"
#include "cache/sync.h"

/* Books a page: its items become news. True if it certainly was the last one. */
bool sweep_page(struct cache *cache, struct scan *scan, const struct completion *call);
/* As far as is known, are there as many items on the page as can be? */
bool sweep_is_full(const struct cache *cache, const struct completion *call);
/* How many known notes (of FOLDER; NULL: all) no list has held since SINCE. */
size_t sweep_count_missing(struct cache *cache, const struct node *folder, uint64_t since);
/* What becomes of them. CERTAIN: the list was a snapshot, they are gone; otherwise they are asked for, or looked for by a
 * second sweep if they are many. */
void sweep_handle_missing(struct cache *cache, const struct node *folder, uint64_t since, bool certain);

/* Starts a sweep of the whole account, or its next page, when it is due. *OUT_AT_MS as in pull_tick. */
void sweep_tick(struct cache *cache, bool due, int64_t *out_at_ms);
void sweep_done(struct cache *cache, const struct completion *call);

/* Is the directory's own listing too old? Only in accounts that no head poll covers. */
bool sweep_folder_due(struct cache *cache, const struct node *dir, int64_t ttl_ms);
/* Starts it. 0 or -ENOMEM. */
int sweep_folder_start(struct cache *cache, struct node *dir, enum node_query query);
/* A page of a folder's listing. True when it was the last one; *OUT_EMPTY: nothing is in the folder on the service. */
bool sweep_folder_done(struct cache *cache, struct node *dir, struct completion *call, bool *out_empty);

#endif
