/* tail: bytes appended to a note and not yet known to be on the server, one file of records per note.
 *
 * A record is one write(2): header and bytes, put there with one positioned write; the file starts at
 * its own zero, so that an append needs no base. Byte positions below count data only ("logical"), headers
 * excluded. Callers hold the cache's lock, except for tail_sync, which needs only a reference.
 */
#ifndef JOTSFS_CACHE_TAIL_H
#define JOTSFS_CACHE_TAIL_H

#include <stddef.h>
#include <stdint.h>

struct tail;

/* Makes an empty tail for EPOCH in directory DIRFD under the name INO, replacing what is there (which those
 * who have it open can go on reading). The name is safe from power loss after statedir_sync. */
int tail_create(int dirfd, uint64_t ino, uint64_t epoch, struct tail **out);
/* Opens what a former run left. Records of another epoch, and all from the first bad record on, are
 * cut off. A missing file is an empty tail. -EIO: can't be read, nothing is cut; -ENOTSUP: written by a newer
 * version. */
int tail_open(int dirfd, uint64_t ino, uint64_t epoch, struct tail **out);

struct tail *tail_get(struct tail *tail); /* one more reference */
void tail_put(struct tail *tail);         /* NULL is fine; the last one closes the file */
/* Nobody uses it for now: its descriptor may be closed and is opened again when needed. */
void tail_rest(struct tail *tail);
/* Removes the file; readers that hold a reference can go on. */
int tail_unlink(int dirfd, uint64_t ino);

/* Appends one record: one system call, then it is safe from kill -9. 0, or -ENOSPC, -EFBIG, -ENOMEM, -EIO
 * with the tail as before. */
int tail_append(struct tail *tail, const void *data, size_t size);
/* Logical size. */
uint64_t tail_size(const struct tail *tail);
uint64_t tail_epoch(const struct tail *tail);
/* Reads SIZE bytes at logical OFFSET; must lie within the size. 0 or -EIO. */
int tail_read(struct tail *tail, uint64_t offset, void *out, size_t size);
/* fdatasync of the records appended so far. Any thread; blocks on disk. Once it failed it fails for good. */
int tail_sync(struct tail *tail);

#endif
