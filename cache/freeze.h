/* freeze: turns a step of the plan into a request that can be repeated byte for byte. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_FREEZE_H
#define JOTSFS_CACHE_FREEZE_H

#include "cache/cache_internal.h"
#include "cache/plan.h"

/* Freezes STEP of NODE under KEY (one key a call; POSITION within a bulk call) on disk; not sent yet. -EAGAIN: there is nothing to
 * send (any more); else an errno: nothing changed. */
int freeze_step(struct cache *cache, struct node *node, const struct plan_step *step, const char *key,
                unsigned position);
/* Queues the frozen requests of COUNT nodes (more than one: a bulk call) for sending; they and what they refer to
 * are made durable before. */
int freeze_send(struct cache *cache, struct node **nodes, size_t count);
/* Forgets the node's frozen request, on disk too (joins an open transaction). */
void freeze_erase(struct cache *cache, struct node *node);
/* A fresh idempotency key: a UUID (API.md C3). */
enum { FREEZE_KEY_SIZE = 37 };
void freeze_key(struct cache *cache, char out[FREEZE_KEY_SIZE]);
/* The text of the node's frozen request. malloc'ed. */
int freeze_text(struct cache *cache, struct node *node, char **out);

#endif
