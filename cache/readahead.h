/* readahead: bodies that will soon be wanted are fetched before anybody waits for them. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_READAHEAD_H
#define JOTSFS_CACHE_READAHEAD_H

#include "cache/cache_internal.h"

/* A reader opened NODE. COLD: its body had to be fetched first, by this open or ahead of it. */
void readahead_opened(struct cache *cache, struct node *node, bool cold);
/* NODE, which had been read, has a new version whose body isn't here. */
void readahead_changed(struct cache *cache, struct node *node);
/* A GET that was started here has been answered. */
void readahead_done(struct cache *cache, enum service_priority priority);
/* Starts what may be started now. */
void readahead_tick(struct cache *cache);
void readahead_release(struct cache *cache);

#endif
