/* link: is the service reachable, does it accept the token? Needs the cache's lock. */
#ifndef JOTSFS_CACHE_LINK_H
#define JOTSFS_CACHE_LINK_H

#include "cache/cache_internal.h"

/* Every reply passes here: keeps online/offline and the account's state, and when to try again. */
void link_heard(struct cache *cache, const struct service_reply *reply, bool write);
/* Try again now (refresh, flush). */
void link_retry_now(struct cache *cache);
/* A write was not refused: the token may write. */
void link_writable(struct cache *cache);
const char *link_account_name(enum account_state state);

#endif
