/* body: numbered files of the state directory that hold note bodies: cached versions, drafts, frozen texts.
 *
 * A body that serves as a base version is immutable but for growing at its end (the length in the
 * database rules); a draft is written anywhere. Reference counted: a body that was
 * dropped (body_drop) disappears from disk at once and from memory with its last reference. Each body that is
 * open costs a descriptor.
 * Reference counts are guarded by the cache's lock; all else needs only a reference.
 */
#ifndef JOTSFS_CACHE_BODY_H
#define JOTSFS_CACHE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body;

/* -EEXIST: a file that a power loss left is in the way, take another number (body_each finds such files at
 * the start). The name is safe from power loss after statedir_sync. */
int body_create(int dirfd, uint64_t number, struct body **out);
/* -ENOENT when the file is gone. */
int body_open(int dirfd, uint64_t number, struct body **out);
struct body *body_get(struct body *body);
void body_put(struct body *body); /* NULL is fine */
uint64_t body_number(const struct body *body);
/* Removes file NUMBER (also when nobody has it open). -ENOENT is success. */
int body_drop(int dirfd, uint64_t number);

/* Size of the file, -errno. */
int64_t body_size(const struct body *body);
/* Whole or error: 0, -EIO (also when the file is shorter than asked), -ENOSPC, -EFBIG. */
int body_read(const struct body *body, uint64_t offset, void *out, size_t size);
int body_write(struct body *body, uint64_t offset, const void *data, size_t size);
int body_truncate(struct body *body, uint64_t size);
/* fdatasync. Any thread; blocks on disk. Once it failed it fails for good. */
int body_sync(struct body *body);
/* Writes the first SIZE bytes of FROM to another body at OFFSET (copy_file_range, reflinks where the disk
 * can). */
int body_copy(const struct body *from, uint64_t size, struct body *to, uint64_t offset);
/* CRC-32 (zlib) of SIZE bytes at OFFSET, continuing from CRC (0 at the start). */
int body_crc(const struct body *body, uint64_t offset, uint64_t size, uint32_t crc, uint32_t *out);
/* *OUT: SIZE bytes of A at A_OFFSET equal those of B at B_OFFSET. 0 or -EIO. */
int body_equal(const struct body *a, uint64_t a_offset, const struct body *b, uint64_t b_offset,
               uint64_t size, bool *out);
/* Calls EACH with the number of every body file in the directory. */
int body_each(int dirfd, void (*each)(uint64_t number, void *arg), void *arg);

#endif
