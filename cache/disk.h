/* disk: files of the state directory: numbered names, whole reads and writes, syncs whose failure stays
 * known. */
#ifndef JOTSFS_CACHE_DISK_H
#define JOTSFS_CACHE_DISK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* What an errno of the local disk means to a caller: -ENOSPC, -EFBIG, -ENOMEM, else -EIO. */
int disk_error(int error);
/* Opens file NUMBER of directory DIRFD (0600, never a symbolic link): its descriptor, or the errno as it is.
 */
int disk_open(int dirfd, uint64_t number, int flags);
/* Removes it. -ENOENT is success. */
int disk_unlink(int dirfd, uint64_t number);
/* All or an error; a file that is too short is -EIO. */
int disk_read(int fd, uint64_t offset, void *out, size_t size);
int disk_write(int fd, uint64_t offset, const void *data, size_t size);
/* fdatasync. The kernel reports a failure once and then forgets which pages it lost, so it is kept in *FAILED
 * (0 at first) and returned ever after. Any thread. */
int disk_sync(int fd, atomic_int *failed);

#endif
