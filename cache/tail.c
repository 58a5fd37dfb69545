/* tail: one file of records per note: what was appended and isn't known to be on the server.
 *
 * A record is a header of five little-endian fields and the bytes:
 *
 *   magic u32 | length u32 | epoch u64 | flags u32 | crc u32 | LENGTH bytes
 *
 * The checksum (zlib's CRC-32) covers the four fields before it and the bytes. Flags are 0; others belong to
 * a newer version.
 *
 * Order of writes. A record goes to the known end of the file in one pwritev and counts when that call has
 * returned whole: then kill -9 can't take it back. A kill within the call leaves a part, which is the end of
 * the file and fails its checksum, so tail_open cuts it off: nobody was told that it was written. A part that
 * an error left (disk full) is cut at once, or, if that fails too, before the next record: bytes beyond the
 * end are never kept, as they would follow a shorter record. After a power loss any block since the last
 * tail_sync may be missing; the records before the first missing one survive, and those are what tail_sync
 * had promised.
 *
 * Epochs. A tail whose bytes are all on the server is replaced by a new file of another epoch, first in the
 * database, then here: records of another epoch than the database's are what a kill between the two left, and
 * were sent. tail_create never touches the old file's bytes, so that those who hold a reference can read on.
 *
 * Descriptors. Thousands of tails may wait to be sent, each for a note of its own. One that nobody uses rests: it keeps
 * its index and gives up its descriptor, if many are open.
 *
 * In memory there is one number per record, where its bytes begin logically; the header's size gives the
 * place in the file.
 *
 * Called by content, under the cache's lock, except for tail_sync.
 */
#include "cache/tail.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

#include "cache/disk.h"

enum {
    MAGIC = 0x4C54544A, /* "JTTL" */
    CHUNK = 32768,
    FIRST_CAPACITY = 16,
    FD_MANY = 128, /* the lowest free number is given out: from here on, many are open */
};

struct header {
    uint32_t magic, length;
    uint64_t epoch;
    uint32_t flags, crc;
};

_Static_assert(sizeof(struct header) == 24, "the header has no holes");

struct tail {
    atomic_int fd; /* -1: resting */
    int dirfd;
    uint64_t ino;
    unsigned references;
    uint64_t epoch;
    uint64_t size;    /* logical: sum of all lengths */
    uint64_t *starts; /* logical position of each record, ascending */
    size_t count, capacity;
    bool torn; /* there may be bytes beyond the end */
    atomic_int sync_failed;
};

/* Where in the file the bytes of record INDEX begin. */
static uint64_t data_place(const struct tail *tail, size_t index) {
    return tail->starts[index] + (index + 1) * sizeof(struct header);
}

/* Where the next record goes. */
static uint64_t file_end(const struct tail *tail) {
    return tail->size + tail->count * sizeof(struct header);
}

/* Of the fields; that of the bytes continues it. */
static uint32_t header_checksum(const struct header *header) {
    return (uint32_t)crc32(0, (const Bytef *)header, offsetof(struct header, crc));
}

static int reserve_record(struct tail *tail) {
    if (tail->count < tail->capacity)
        return 0;
    size_t capacity = tail->capacity ? tail->capacity * 2 : FIRST_CAPACITY;
    uint64_t *starts = reallocarray(tail->starts, capacity, sizeof *starts);
    if (!starts)
        return -ENOMEM;
    tail->starts = starts;
    tail->capacity = capacity;
    return 0;
}

static void add_record(struct tail *tail, size_t size) {
    tail->starts[tail->count++] = tail->size;
    tail->size += size;
}

static int wake(struct tail *tail) {
    if (tail->fd < 0)
        tail->fd = disk_open(tail->dirfd, tail->ino, O_RDWR);
    if (tail->fd >= 0)
        return 0;
    int rc = tail->fd;
    tail->fd = -1;
    return rc == -EMFILE || rc == -ENFILE ? rc : disk_error(-rc);
}

void tail_rest(struct tail *tail) {
    if (tail->fd < FD_MANY || tail->references > 1)
        return;
    close(tail->fd);
    tail->fd = -1;
}

/* Makes the file end where the records do. */
static int cut(struct tail *tail) {
    tail->torn = true;
    while (ftruncate(tail->fd, (off_t)file_end(tail)) < 0)
        if (errno != EINTR)
            return disk_error(errno);
    tail->torn = false;
    return 0;
}

/* --- opening --- */

/* Reads a file from its begin to its end. */
struct scan {
    int fd;
    uint64_t file_size;
    uint64_t at; /* place of the buffer in the file */
    size_t filled;
    unsigned char buffer[CHUNK];
};

/* At least the WISH (CHUNK at most) bytes at OFFSET, which lie within the file, in the buffer. */
static int scan_look(struct scan *scan, uint64_t offset, size_t wish, const unsigned char **out) {
    if (offset < scan->at || offset + wish > scan->at + scan->filled) {
        uint64_t left = scan->file_size - offset;
        scan->at = offset;
        scan->filled = left < CHUNK ? (size_t)left : CHUNK;
        int rc = disk_read(scan->fd, offset, scan->buffer, scan->filled);
        if (rc < 0) {
            scan->filled = 0;
            return rc;
        }
    }
    *out = scan->buffer + (offset - scan->at);
    return 0;
}

static int scan_checksum(struct scan *scan, uint64_t offset, size_t size, uint32_t *crc) {
    const unsigned char *data;

    while (size > 0) {
        size_t part = size < CHUNK ? size : CHUNK;
        int rc = scan_look(scan, offset, part, &data);
        if (rc < 0)
            return rc;
        *crc = (uint32_t)crc32_z(*crc, data, part);
        offset += part;
        size -= part;
    }
    return 0;
}

/* Looks at the record at OFFSET. *OUT_SIZE: that of its bytes, 0 if it is a bad one. -ENOTSUP: a good one
 * with flags that we don't know. */
static int scan_record(struct scan *scan, uint64_t offset, uint64_t epoch, size_t *out_size) {
    const unsigned char *bytes;
    struct header header;
    uint64_t left = scan->file_size - offset;

    *out_size = 0;
    if (left <= sizeof header)
        return 0;
    int rc = scan_look(scan, offset, sizeof header, &bytes);
    if (rc < 0)
        return rc;
    memcpy(&header, bytes, sizeof header);
    size_t length = le32toh(header.length);
    if (header.magic != htole32(MAGIC) || header.epoch != htole64(epoch) || length == 0 ||
        length > left - sizeof header)
        return 0;
    uint32_t crc = header_checksum(&header);
    rc = scan_checksum(scan, offset + sizeof header, length, &crc);
    if (rc < 0 || header.crc != htole32(crc))
        return rc;
    if (header.flags != 0)
        return -ENOTSUP;
    *out_size = length;
    return 0;
}

/* Fills the index with the good records. */
static int load(struct tail *tail, struct scan *scan) {
    size_t size = 1;
    int rc = 0;

    while (rc == 0 && size > 0) {
        rc = scan_record(scan, file_end(tail), tail->epoch, &size);
        if (rc == 0 && size > 0)
            rc = reserve_record(tail);
        if (rc == 0 && size > 0)
            add_record(tail, size);
    }
    return rc;
}

static int load_file(struct tail *tail) {
    struct stat status;

    if (fstat(tail->fd, &status) < 0)
        return disk_error(errno);
    struct scan *scan = malloc(sizeof *scan);
    if (!scan)
        return -ENOMEM;
    scan->fd = tail->fd;
    scan->file_size = (uint64_t)status.st_size;
    scan->at = scan->filled = 0;
    int rc = load(tail, scan);
    free(scan);
    if (rc == 0 && file_end(tail) < (uint64_t)status.st_size)
        rc = cut(tail);
    return rc;
}

static int make(int dirfd, uint64_t ino, uint64_t epoch, int flags, struct tail **out) {
    struct tail *tail = calloc(1, sizeof *tail);

    if (!tail)
        return -ENOMEM;
    tail->epoch = epoch;
    tail->references = 1;
    tail->dirfd = dirfd;
    tail->ino = ino;
    tail->fd = disk_open(dirfd, ino, flags);
    if (tail->fd < 0) {
        int rc = tail->fd;
        free(tail);
        return rc == -EMFILE || rc == -ENFILE ? rc : disk_error(-rc);
    }
    int rc = load_file(tail);
    if (rc < 0) {
        tail_put(tail);
        return rc;
    }
    *out = tail;
    return 0;
}

int tail_create(int dirfd, uint64_t ino, uint64_t epoch, struct tail **out) {
    int rc = disk_unlink(dirfd, ino);

    return rc < 0 ? rc : make(dirfd, ino, epoch, O_RDWR | O_CREAT | O_EXCL, out);
}

int tail_open(int dirfd, uint64_t ino, uint64_t epoch, struct tail **out) {
    return make(dirfd, ino, epoch, O_RDWR | O_CREAT, out);
}

struct tail *tail_get(struct tail *tail) {
    tail->references++;
    return tail;
}

void tail_put(struct tail *tail) {
    if (!tail || --tail->references > 0)
        return;
    if (tail->fd >= 0)
        close(tail->fd);
    free(tail->starts);
    free(tail);
}

int tail_unlink(int dirfd, uint64_t ino) {
    return disk_unlink(dirfd, ino);
}

/* --- appending --- */

/* One system call, but for signals that came before anything was written. */
static int write_record(struct tail *tail, const struct header *header, const void *data, size_t size) {
    union {
        const void *in;
        void *out;
    } bytes = {data}, head = {header};
    struct iovec parts[] = {{head.out, sizeof *header}, {bytes.out, size}};
    ssize_t put;

    do
        put = pwritev(tail->fd, parts, 2, (off_t)file_end(tail));
    while (put < 0 && errno == EINTR);
    if (put < 0)
        return disk_error(errno);
    return (size_t)put == sizeof *header + size ? 0 : -ENOSPC;
}

int tail_append(struct tail *tail, const void *data, size_t size) {
    struct header header = {
        .magic = htole32(MAGIC),
        .length = htole32((uint32_t)size),
        .epoch = htole64(tail->epoch),
    };

    if (size == 0)
        return 0;
    if (size > INT32_MAX)
        return -EFBIG;
    int rc = reserve_record(tail);
    if (rc == 0)
        rc = wake(tail);
    if (rc == 0 && tail->torn)
        rc = cut(tail);
    if (rc < 0)
        return rc;
    header.crc = htole32((uint32_t)crc32_z(header_checksum(&header), data, size));
    rc = write_record(tail, &header, data, size);
    if (rc < 0) {
        cut(tail);
        return rc;
    }
    add_record(tail, size);
    return 0;
}

uint64_t tail_size(const struct tail *tail) {
    return tail->size;
}

uint64_t tail_epoch(const struct tail *tail) {
    return tail->epoch;
}

/* Without the lock: a resting tail is left so. */
int tail_sync(struct tail *tail) {
    if (tail->fd >= 0)
        return disk_sync(tail->fd, &tail->sync_failed);
    int fd = disk_open(tail->dirfd, tail->ino, O_RDWR);
    if (fd < 0)
        return fd;
    int rc = disk_sync(fd, &tail->sync_failed);
    close(fd);
    return rc;
}

/* --- reading --- */

/* The record that holds logical OFFSET (below the size). */
static size_t find_record(const struct tail *tail, uint64_t offset) {
    size_t low = 0, high = tail->count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (tail->starts[middle] <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static uint64_t record_end(const struct tail *tail, size_t index) {
    return index + 1 < tail->count ? tail->starts[index + 1] : tail->size;
}

/* Copies bytes from OFFSET on out of FILE, which holds FILLED bytes of the file from those on, headers
 * included. The number copied. */
static size_t pick(const struct tail *tail, uint64_t offset, const char *file, size_t filled, char *out,
                   size_t size) {
    size_t index = find_record(tail, offset);
    size_t from = 0, done = 0;

    while (done < size && from < filled) {
        size_t part = (size_t)(record_end(tail, index) - (offset + done));
        part = part < size - done ? part : size - done;
        part = part < filled - from ? part : filled - from;
        memcpy(out + done, file + from, part);
        done += part;
        from += part + sizeof(struct header);
        index++;
    }
    return done;
}

int tail_read(struct tail *tail, uint64_t offset, void *out, size_t size) {
    char chunk[CHUNK];
    char *at = out;

    if (offset > tail->size || size > tail->size - offset)
        return -EIO;
    int awake = wake(tail);
    if (awake < 0)
        return awake;
    /* Records are often short lines: what lies between them is read along, not skipped with a call for each.
     */
    while (size > 0) {
        size_t index = find_record(tail, offset);
        uint64_t place = data_place(tail, index) + (offset - tail->starts[index]);
        uint64_t left = file_end(tail) - place;
        size_t filled = left < sizeof chunk ? (size_t)left : sizeof chunk;
        int rc = disk_read(tail->fd, place, chunk, filled);
        if (rc < 0)
            return rc;
        size_t done = pick(tail, offset, chunk, filled, at, size);
        at += done;
        offset += done;
        size -= done;
    }
    return 0;
}
