/* fetch: GETs of single notes: for readers, to learn how a body ends, before a PATCH or DELETE, and to find out what became
 * of a request in doubt. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_FETCH_H
#define JOTSFS_CACHE_FETCH_H

#include "cache/cache_internal.h"

/* Makes sure that the node's bytes are cached before it is read. 0: they are; CACHE_WAIT; -ETIMEDOUT offline;
 * -ENOENT the note is gone; or the service's refusal. Concurrent callers share one GET. */
int fetch_await(struct cache *cache, struct node *node, struct cache_waiter *waiter);

/* Starts the node's query unless one is under way. 0 or -ENOMEM. */
int fetch_start(struct cache *cache, struct node *node, enum node_query query,
                enum service_priority priority);

struct completion;
/* The reply to a node's query. */
void fetch_done(struct cache *cache, struct node *node, struct completion *call);
/* A request of ours is done: a GET that crossed it is repeated. */
void fetch_again(struct cache *cache, struct node *node);

/* Drops cached bodies, least recently used first, until cache_size_bytes holds. Never what is not on the service. */
void fetch_evict(struct cache *cache);

#endif
