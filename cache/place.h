/* place: where what the service has is shown: directory and name. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_PLACE_H
#define JOTSFS_CACHE_PLACE_H

#include "cache/cache_internal.h"

/* The folder ID (0: the root), or the root while it isn't known: then the folders are asked for. */
struct node *place_folder(struct cache *cache, int64_t id);
/* Where what belongs into FOLDER is shown: in the root while that folder is deleted here. */
struct node *place_shown_folder(struct cache *cache, struct node *folder);
/* Does want stand where base stands? Then it follows. */
bool place_follows(const struct node *node);
/* Base's shown name after the service named it FILENAME; ASKED: the title that we had sent, NULL none. */
int place_set_name(struct cache *cache, struct node *node, const char *filename, const char *asked);
/* Gives NODE a free name in DIR as near to base's shown name as can be, and tells the kernel. -EEXIST, -ENOMEM. */
int place_node(struct cache *cache, struct node *node, struct node *dir);
/* Notes that had to give way and needn't any more get their plain names. Cheap when there are none. */
void place_unclash(struct cache *cache);

#endif
