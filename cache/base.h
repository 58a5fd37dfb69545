/* base: the service's version of a node as it is cached, and how it changes.
 *
 * All functions need the cache's lock; they change node->r and leave saving to the caller, so that a reply is applied in one
 * transaction. Files are removed by base_commit's caller through cache_release_body once the row no longer names them.
 */
#ifndef JOTSFS_CACHE_BASE_H
#define JOTSFS_CACHE_BASE_H

#include "cache/cache_internal.h"

/* Base's body becomes body file NUMBER, SIZE bytes (0: none cached, end unknown). The former one is released. -EIO when the
 * file can't be read: then none is cached. */
int base_set_body(struct cache *cache, struct node *node, uint64_t number, uint64_t size);
/* Our append of TEXT was acknowledged as predicted: extends the cached body in place (nothing is done without one). */
int base_extend_body(struct cache *cache, struct node *node, const char *text, size_t size);
/* The service has the tail's bytes before TO; the content becomes base when nothing is left. */
void base_consume_tail(struct cache *cache, struct node *node, uint64_t to);
/* Forgets draft and ancestor: the content is base again. */
void base_drop_draft(struct cache *cache, struct node *node);
/* Replaces what is shown by the draft file NUMBER (SIZE bytes); the former draft is released. */
void base_take_draft(struct cache *cache, struct node *node, uint64_t number, uint64_t size);
/* The node has no base any more (deleted remotely, adopted, moved to another node). What it shows stays if it was
 * cached: it becomes a draft. */
void base_clear(struct cache *cache, struct node *node);
/* Moves FROM's base to TO, which has none: adoption. TO's ancestor is what FROM showed of it. -errno: nothing changed. */
int base_adopt(struct cache *cache, struct node *to, struct node *from);

#endif
