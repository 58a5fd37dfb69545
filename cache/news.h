/* news: what the service tells of notes and folders, applied to base (and to want where it follows). Needs the cache's lock. */
#ifndef JOTSFS_CACHE_NEWS_H
#define JOTSFS_CACHE_NEWS_H

#include "cache/cache_internal.h"

/* An item of a list that was requested at SEQUENCE. -ENOMEM. */
int news_item(struct cache *cache, const struct service_note *item, uint64_t sequence);
/* A full note about NODE: its metadata, and its body, stored in body file NUMBER (0: none came). DATE: the reply's, 0 unknown. OURS: it
 * answers our own write, times stay ours. */
int news_full(struct cache *cache, struct node *node, const struct service_note *note, uint64_t number,
              int64_t date, bool ours);
/* The note or folder is no longer on the service. */
void news_gone(struct cache *cache, struct node *node);
/* The complete list of folders. */
int news_folders(struct cache *cache, const struct service_reply *reply);
/* True if NOTE is the version that base holds. */
bool news_same_version(const struct node *node, const struct service_note *note);

/* Notes that were shown in the root because their folder was unknown, or deleted here, go into it now that it is there. */
void news_rehome(struct cache *cache);

#endif
