/* push: sends what is owed. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_PUSH_H
#define JOTSFS_CACHE_PUSH_H

#include "cache/cache_internal.h"
#include "cache/plan.h"

/* Plans, carries out adoptions, freezes and queues what may go now. *OUT_AT_MS is lowered to the time at which more may go. */
void push_tick(struct cache *cache, int64_t *out_at_ms);

#endif
