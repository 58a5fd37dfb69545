/* pull: learns what changed on the service: head poll, sweep, folders. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_PULL_H
#define JOTSFS_CACHE_PULL_H

#include "cache/cache_internal.h"
#include "cache/sync.h"

/* Waits for a due poll, at most once a request and CACHE_AWAIT_MS. 0: go on with what is known; CACHE_WAIT; -ETIMEDOUT when
 * nothing is known at all. */
int pull_await(struct cache *cache, struct cache_waiter *waiter);
/* The same when a name isn't found in DIR, which may be the name of a new folder. */
int pull_await_name(struct cache *cache, const struct node *dir, struct cache_waiter *waiter);
/* The same before a directory is listed: in accounts that no head poll covers also its own listing. */
int pull_await_directory(struct cache *cache, struct node *dir, struct cache_waiter *waiter);

/* Somebody has looked within ttl. */
bool pull_is_active(struct cache *cache);
/* The service takes its time: what is cached is not read again now. */
bool pull_is_slow(struct cache *cache);

/* An account that fits one page: a head poll is a snapshot of it. */
bool pull_is_small(const struct cache *cache);

/* A note that a list missed has been asked for. */
void pull_confirmed(struct cache *cache);
/* For sweep.c: asks for a page; a page failed; the first complete list has been read. */
void pull_ask(struct cache *cache, enum call_kind kind, enum service_sort sort, unsigned limit,
              unsigned offset);
void pull_failed(struct cache *cache, const struct service_reply *reply);
void pull_listed(struct cache *cache);

/* Starts what is due. *OUT_AT_MS is lowered to the time of the next thing to do. */
void pull_tick(struct cache *cache, int64_t *out_at_ms);
/* Replies. */
void pull_poll_done(struct cache *cache, const struct completion *call);
void pull_folders_done(struct cache *cache, const struct completion *call);
void pull_probe_done(struct cache *cache, const struct completion *call);

#endif
