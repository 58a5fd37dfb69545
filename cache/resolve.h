/* resolve: requests whose outcome is unknown (DESIGN.md section 3, "Frozen requests"). Needs the cache's lock. */
#ifndef JOTSFS_CACHE_RESOLVE_H
#define JOTSFS_CACHE_RESOLVE_H

#include "cache/cache_internal.h"

/* It is time to do something about NODE's unanswered request: sends it again under its key, or asks the service
 * what became of it. */
void resolve_retry(struct cache *cache, struct node *node);
/* The service's answer: the note is NOTE (body in body file NUMBER, 0 none), or there is none. */
void resolve_with_note(struct cache *cache, struct node *node, const struct service_note *note,
                       uint64_t number, int64_t date);
void resolve_not_found(struct cache *cache, struct node *node);

#endif
