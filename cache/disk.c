/* disk: what tail, body and store share about files.
 *
 * Bodies and tails are named by a number, so that no name of the service ever becomes a path. A
 * descriptor is close-on-exec, and the last component is never followed.
 */
#include "cache/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { NAME_SIZE = 24 };

int disk_error(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return -ENOSPC;
    case EFBIG:
        return -EFBIG;
    case ENOMEM:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

int disk_open(int dirfd, uint64_t number, int flags) {
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%" PRIu64, number);
    int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd;
}

int disk_unlink(int dirfd, uint64_t number) {
    char name[NAME_SIZE];

    snprintf(name, sizeof name, "%" PRIu64, number);
    return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? disk_error(errno) : 0;
}

int disk_read(int fd, uint64_t offset, void *out, size_t size) {
    char *at = out;

    while (size > 0) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return disk_error(errno);
        if (got == 0)
            return -EIO;
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int disk_write(int fd, uint64_t offset, const void *data, size_t size) {
    const char *at = data;

    while (size > 0) {
        ssize_t put = pwrite(fd, at, size, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return disk_error(errno);
        at += put;
        offset += (uint64_t)put;
        size -= (size_t)put;
    }
    return 0;
}

int disk_sync(int fd, atomic_int *failed) {
    int rc = atomic_load(failed);

    while (rc == 0 && fdatasync(fd) < 0) {
        if (errno == EINTR)
            continue;
        rc = disk_error(errno);
        atomic_store(failed, rc);
    }
    return rc;
}
