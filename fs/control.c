/* The control directory. Its inode numbers have the top bit set, which the cache's never have; it counts no
 * lookups, and FORGET of its inodes is dropped. Nothing here has state but the texts that are
 * made when `status` is opened: they live with the handle, so a reader sees one
 * moment, and the files are direct_io, so their size of 0 doesn't matter (as in /proc).
 *
 * Called by the handlers in ops_*.c, each of which asks control_is_ino or control_has first.
 */
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/report.h"

#define INO_BIT (UINT64_C(1) << 63)

/* Files of the directory are this plus their place in `files`. */
#define INO_DIR (INO_BIT | 1)
#define INO_FILES (INO_BIT | 2)

enum { VALID_MS = 60000 };

struct control {
    struct cache *cache;
    const char *url;
    struct stat attr; /* owner and times of all of it */
    mode_t umask;
};

struct control_file {
    struct control *control;
    const struct control_kind *kind;
    char *text; /* NULL for what is written to */
    size_t size;
};

struct control_kind {
    const char *name;
    report_text *text;                                            /* read from, or */
    int (*act)(struct cache *cache, struct cache_waiter *waiter); /* written to */
};

static const struct control_kind files[] = {
    {.name = "status", .text = report_json},
    {.name = "status.txt", .text = report_plain},
    {.name = "flush", .act = cache_flush_all},
    {.name = "refresh", .act = cache_refresh},
};

enum { FILES = sizeof(files) / sizeof(files[0]) };

int control_create(struct cache *cache, const char *url, uid_t uid, gid_t gid, mode_t umask,
                   struct control **out) {
    struct control *control = calloc(1, sizeof(*control));
    struct timespec now;

    if (!control)
        return -ENOMEM;
    clock_gettime(CLOCK_REALTIME, &now);
    control->cache = cache;
    control->url = url;
    control->umask = umask;
    control->attr =
        (struct stat){.st_uid = uid, .st_gid = gid, .st_atim = now, .st_mtim = now, .st_ctim = now};
    *out = control;
    return 0;
}

void control_destroy(struct control *control) {
    free(control);
}

bool control_is_ino(uint64_t ino) {
    return (ino & INO_BIT) != 0;
}

bool control_has(uint64_t dir, const char *name) {
    return dir == INO_DIR || (dir == CACHE_ROOT_INO && strcmp(name, CONTROL_NAME) == 0);
}

const char *control_name_at(uint64_t index, uint64_t *out_ino, bool *out_directory) {
    if (index >= FILES)
        return NULL;
    *out_ino = INO_FILES + index;
    *out_directory = false;
    return files[index].name;
}

/* NULL for the directory and for numbers that nobody has. */
static const struct control_kind *kind_of(uint64_t ino) {
    return ino >= INO_FILES && ino - INO_FILES < FILES ? &files[ino - INO_FILES] : NULL;
}

int control_getattr(struct control *control, uint64_t ino, struct cache_entry *out) {
    const struct control_kind *kind = kind_of(ino);
    mode_t mode = S_IFDIR | 0555;

    if (!kind && ino != INO_DIR)
        return -ENOENT;
    if (kind)
        mode = S_IFREG | (kind->text ? 0444 : 0200);
    *out = (struct cache_entry){.attr = control->attr, .valid_ms = VALID_MS, .attr_valid_ms = VALID_MS};
    out->attr.st_ino = ino;
    out->attr.st_mode = mode & ~control->umask;
    out->attr.st_nlink = kind ? 1 : 2;
    return 0;
}

int control_lookup(struct control *control, uint64_t dir, const char *name, struct cache_entry *out) {
    if (dir == CACHE_ROOT_INO)
        return control_getattr(control, INO_DIR, out);
    for (size_t i = 0; i < FILES; i++)
        if (strcmp(name, files[i].name) == 0)
            return control_getattr(control, INO_FILES + i, out);
    *out = (struct cache_entry){.valid_ms = VALID_MS};
    return -ENOENT;
}

int control_setattr(struct control *control, uint64_t ino, unsigned set, struct cache_entry *out) {
    const unsigned harmless =
        CACHE_SET_SIZE | CACHE_SET_ATIME | CACHE_SET_MTIME | CACHE_SET_ATIME_NOW | CACHE_SET_MTIME_NOW;

    if (set & ~harmless)
        return -EPERM;
    return control_getattr(control, ino, out);
}

/* Fills in FILE's text as of now. */
static int file_load(struct control_file *file) {
    struct cache_status *status;
    int rc = cache_status(file->control->cache, &status);

    if (rc < 0)
        return rc;
    rc = file->kind->text(status, file->control->url, &file->text, &file->size);
    cache_status_destroy(status);
    return rc;
}

int control_open(struct control *control, uint64_t ino, int flags, struct control_file **out) {
    const struct control_kind *kind = kind_of(ino);
    int rc = 0;

    if (!kind)
        return -EISDIR;
    if ((flags & O_ACCMODE) != (kind->text ? O_RDONLY : O_WRONLY))
        return -EACCES;
    struct control_file *file = calloc(1, sizeof(*file));
    if (!file)
        return -ENOMEM;
    file->control = control;
    file->kind = kind;
    if (kind->text)
        rc = file_load(file);
    if (rc < 0)
        control_close(file);
    else
        *out = file;
    return rc;
}

int control_read(struct control_file *file, void *data, size_t size, uint64_t offset, size_t *out_size) {
    size_t left = offset < file->size ? file->size - (size_t)offset : 0;

    if (size > left)
        size = left;
    if (size > 0)
        memcpy(data, file->text + offset, size);
    *out_size = size;
    return 0;
}

int control_write(struct control_file *file, struct cache_waiter *waiter) {
    return file->kind->act(file->control->cache, waiter);
}

void control_close(struct control_file *file) {
    free(file->text);
    free(file);
}
