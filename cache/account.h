/* account: the state directory belongs to one account (DESIGN.md section 6, "State"). Needs the cache's lock. */
#ifndef JOTSFS_CACHE_ACCOUNT_H
#define JOTSFS_CACHE_ACCOUNT_H

#include "cache/sync.h"

/* At load: is the token the one that the state was last used with? If not, nothing is sent or applied until a known note
 * has been seen under it. 0 or -errno. */
int account_load(struct cache *cache);
/* Asks for a known note, while that is needed. */
void account_tick(struct cache *cache);
void account_done(struct cache *cache, const struct completion *call);

#endif
