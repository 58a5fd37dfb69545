/* reconcile: remote news against a pending rewrite or delete (DESIGN.md section 3, "Merging"). Needs the cache's lock. */
#ifndef JOTSFS_CACHE_RECONCILE_H
#define JOTSFS_CACHE_RECONCILE_H

#include "cache/cache_internal.h"

/* The service's version just before a PATCH or DELETE of ours. Sets node->checked when the call may go; else want and base have been
 * brought together another way and the plan decides anew. NUMBER: body file with the note's body, 0 none. */
void reconcile_check(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
                     int64_t date);
/* Body file NUMBER, SIZE bytes of it, is from now on what the pending rewrite started from; base is that version, or one that
 * grew from it. */
void reconcile_set_ancestor(struct cache *cache, struct node *node, uint64_t number, uint64_t size);
/* The note can no longer be rewritten (locked, or turned rich): what is shown becomes a new note "NAME (local ...)". */
void reconcile_locked(struct cache *cache, struct node *node);

#endif
