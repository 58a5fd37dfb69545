/* body: numbered files that hold one text each.
 *
 * A text that must survive is written to a file of its own and only then named in the database, so that a
 * kill between the two leaves a file that nobody knows (body_each finds it at the next start) and never a row
 * without its file. A file is removed only after the commit that forgets it. The length in the database
 * rules: bytes beyond it are an extension whose commit didn't come, or read ahead, and count for nothing.
 *
 * Order of writes for safety from power loss: body_sync and a sync of the directory (statedir_sync), then the
 * commit and store_sync.
 *
 * The descriptor is opened with the first reference and closed with the last, so that a body that is dropped
 * can be read to the end. How many are open at a time is for the callers to bound: one per open file and one
 * per transfer, not one per note.
 *
 * Called by content (reads, drafts), push (frozen texts) and pull (new versions).
 */
#include "cache/body.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "cache/disk.h"

enum { CHUNK = 32768 };

struct body {
    uint64_t number;
    int fd;
    unsigned references; /* guarded by the cache's lock */
    atomic_int sync_failed;
};

static int body_make(int dirfd, uint64_t number, int flags, struct body **out) {
    struct body *body = calloc(1, sizeof *body);

    if (!body)
        return -ENOMEM;
    body->number = number;
    body->references = 1;
    body->fd = disk_open(dirfd, number, flags);
    if (body->fd < 0) {
        int rc = body->fd;
        free(body);
        return rc == -EEXIST || rc == -ENOENT || rc == -EMFILE || rc == -ENFILE ? rc : disk_error(-rc);
    }
    *out = body;
    return 0;
}

int body_create(int dirfd, uint64_t number, struct body **out) {
    return body_make(dirfd, number, O_RDWR | O_CREAT | O_EXCL, out);
}

int body_open(int dirfd, uint64_t number, struct body **out) {
    return body_make(dirfd, number, O_RDWR, out);
}

struct body *body_get(struct body *body) {
    body->references++;
    return body;
}

void body_put(struct body *body) {
    if (!body || --body->references > 0)
        return;
    close(body->fd);
    free(body);
}

uint64_t body_number(const struct body *body) {
    return body->number;
}

int body_drop(int dirfd, uint64_t number) {
    return disk_unlink(dirfd, number);
}

int64_t body_size(const struct body *body) {
    struct stat status;

    return fstat(body->fd, &status) < 0 ? disk_error(errno) : status.st_size;
}

int body_read(const struct body *body, uint64_t offset, void *out, size_t size) {
    return disk_read(body->fd, offset, out, size);
}

int body_write(struct body *body, uint64_t offset, const void *data, size_t size) {
    return disk_write(body->fd, offset, data, size);
}

int body_truncate(struct body *body, uint64_t size) {
    while (ftruncate(body->fd, (off_t)size) < 0)
        if (errno != EINTR)
            return disk_error(errno);
    return 0;
}

int body_sync(struct body *body) {
    return disk_sync(body->fd, &body->sync_failed);
}

/* Copies through memory. */
static int copy_bytes(const struct body *from, uint64_t at, uint64_t size, struct body *to, uint64_t offset) {
    char chunk[CHUNK];
    int rc = 0;

    while (rc == 0 && size > 0) {
        size_t part = size < sizeof chunk ? (size_t)size : sizeof chunk;
        rc = body_read(from, at, chunk, part);
        if (rc == 0)
            rc = body_write(to, offset, chunk, part);
        at += part;
        offset += part;
        size -= part;
    }
    return rc;
}

int body_copy(const struct body *from, uint64_t size, struct body *to, uint64_t offset) {
    off_t in = 0, out = (off_t)offset;

    while ((uint64_t)in < size) {
        ssize_t copied = copy_file_range(from->fd, &in, to->fd, &out, (size_t)(size - (uint64_t)in), 0);
        if (copied < 0 && errno == EINTR)
            continue;
        /* Not every file system can; what remains is copied (or fails) the plain way. 0: the file is short.
         */
        if (copied <= 0)
            return copy_bytes(from, (uint64_t)in, size - (uint64_t)in, to, (uint64_t)out);
    }
    return 0;
}

int body_crc(const struct body *body, uint64_t offset, uint64_t size, uint32_t crc, uint32_t *out) {
    unsigned char chunk[CHUNK];
    uLong sum = crc;

    while (size > 0) {
        size_t part = size < sizeof chunk ? (size_t)size : sizeof chunk;
        int rc = body_read(body, offset, chunk, part);
        if (rc < 0)
            return rc;
        sum = crc32(sum, chunk, (uInt)part);
        offset += part;
        size -= part;
    }
    *out = (uint32_t)sum;
    return 0;
}

int body_equal(const struct body *a, uint64_t a_offset, const struct body *b, uint64_t b_offset,
               uint64_t size, bool *out) {
    char a_chunk[CHUNK], b_chunk[CHUNK];
    bool equal = true;

    for (uint64_t at = 0; equal && at < size; at += CHUNK) {
        size_t part = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        int rc = body_read(a, a_offset + at, a_chunk, part);
        if (rc == 0)
            rc = body_read(b, b_offset + at, b_chunk, part);
        if (rc < 0)
            return rc;
        equal = memcmp(a_chunk, b_chunk, part) == 0;
    }
    *out = equal;
    return 0;
}

/* True if NAME is a number as disk_open writes it. */
static bool parse_number(const char *name, uint64_t *out) {
    char *end;

    if (name[0] < '1' || name[0] > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(name, &end, 10);
    if (*end || errno)
        return false;
    *out = number;
    return true;
}

int body_each(int dirfd, void (*each)(uint64_t number, void *arg), void *arg) {
    /* A description of its own: the position of DIRFD is shared with whoever else has it. */
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    uint64_t number;

    if (!directory) {
        int rc = disk_error(errno);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (errno = 0, (entry = readdir(directory)) != NULL) // NOLINT(concurrency-mt-unsafe): our own stream
        if (parse_number(entry->d_name, &number))
            each(number, arg);
    int rc = errno ? disk_error(errno) : 0;
    closedir(directory);
    return rc;
}
