/* outcome: what a reply to a frozen request does to the node. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_OUTCOME_H
#define JOTSFS_CACHE_OUTCOME_H

#include "cache/sync.h"

/* The reply to frozen requests of one key. */
void outcome_done(struct cache *cache, struct completion *call);

/* The node's frozen PATCH or create is known to have made NOTE, whose body is in body file NUMBER (0: it is the text sent): applies and
 * forgets it. */
void outcome_made(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
                  int64_t date);
/* The node's frozen append is known to have happened; nothing else is known. */
void outcome_appended(struct cache *cache, struct node *node);
/* The node's frozen DELETE is known to have happened. */
void outcome_deleted(struct cache *cache, struct node *node);
/* The frozen request is known not to have happened: want and base are as they were. */
void outcome_thaw(struct cache *cache, struct node *node);
/* Refused for good: flagged, visible, kept. */
void outcome_park(struct cache *cache, struct node *node, int error, const char *code, const char *message);

/* If base and want agree: the node is clean, those who wait for it are woken. True then; the node may be gone. */
bool outcome_settle(struct cache *cache, struct node *node);
/* Wakes those who wait for everything to be on the service, when it is (or can't be). */
void outcome_flush_waiters(struct cache *cache);

#endif
