/* content: what a file shows, byte by byte, and how it differs from the service's version.
 *
 * Content is one of three (store.h): base; base and tail; draft. All functions need the cache's lock
 * but where they say otherwise.
 */
#ifndef JOTSFS_CACHE_CONTENT_H
#define JOTSFS_CACHE_CONTENT_H

#include "cache/cache_internal.h"

/* Size of the file. May be one off while a base's body isn't cached (API.md C6). */
uint64_t content_size(const struct node *node);
/* False while the bytes must be fetched before they can be read. */
bool content_cached(const struct node *node);
/* What base shows, in bytes; 0 without base. */
uint64_t content_base_size(const struct node *node);
/* Bytes of the tail that the service has not acknowledged. */
uint64_t content_unsent(const struct node *node);

/* Opens the files behind the content; content_close lets go of them when no handle and no request needs them. A
 * cached body that turns out to be missing or damaged is forgotten: -ESTALE, to be fetched again. */
int content_open(struct cache *cache, struct node *node);
/* The same for what was written here, tail and draft: all that an append needs. */
int content_open_written(struct cache *cache, struct node *node);
/* Makes unsent bytes safe from power loss; a commit that names their file is another matter (sync_log). The lock is
 * given up meanwhile. */
int content_sync(struct cache *cache, struct node *node);
/* Copies all that is shown into the empty body file TO. */
int content_copy(struct cache *cache, struct node *node, struct body *to);
void content_close(struct cache *cache, struct node *node);

/* Reads up to SIZE bytes; gives the number. Called without the lock. */
int64_t content_read(struct cache *cache, struct node *node, void *out, size_t size, uint64_t offset);

/* Adds bytes at the end: one positioned write, and one small transaction when the node was clean.
 * -EILSEQ, -EFBIG, -EDQUOT are decided before anything is accepted. */
int content_append(struct cache *cache, struct node *node, const void *data, size_t size);
/* Writes bytes anywhere; turns the content into a draft first. Needs the content cached. */
int content_write(struct cache *cache, struct node *node, const void *data, size_t size, uint64_t offset);
/* Truncates or extends. Size 0 needs no cached content. */
int content_resize(struct cache *cache, struct node *node, uint64_t size);
/* Turns any content into a draft that shows the same (EMPTY: shows nothing). Keeps the ancestor. */
int content_draft(struct cache *cache, struct node *node, bool empty);
/* Keeps what is shown as the ancestor: the cached body itself when nothing waits behind it, else a copy. */
int content_keep_ancestor(struct cache *cache, struct node *node);
/* Whole-file check of a draft's text at the last close: sets node->bad_text. 0 or -EILSEQ. */
int content_check(struct cache *cache, struct node *node);

/* Reads a whole body file into memory (NUL added). malloc'ed. Lock not needed. */
int content_load(struct cache *cache, uint64_t number, uint64_t size, char **out);
/* Writes DATA into a new body file. Lock not needed. */
int content_store(struct cache *cache, uint64_t number, const char *data, size_t size);

#endif
