#include "watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scratch.h"

enum { MOST = 256 };

/* Which file it is: inode numbers are used again, so its birth counts too. */
struct identity {
    uint64_t inode;
    int64_t birth;
};

/* What is on disk for sure of a file. */
struct saved {
    struct identity identity;
    char path[SCRATCH_PATH]; /* when it was synced last */
    char *content;
    size_t size;
    bool cut; /* shortened to `cut_size` since */
    size_t cut_size;
    unsigned syncs, cuts;
};

/* An entry of a synced directory. */
struct name {
    char path[SCRATCH_PATH]; /* below root */
    struct identity identity;
    bool directory;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[SCRATCH_PATH];
static const char *failing;
static struct saved files[MOST];
static struct name names[MOST];
static size_t file_count, name_count;
static atomic_uint syncs;
static _Thread_local unsigned syncs_here;

unsigned watch_syncs_here(void) {
    return syncs_here;
}

unsigned watch_syncs(void) {
    return atomic_load(&syncs);
}

void watch_fail(const char *part) {
    pthread_mutex_lock(&lock);
    failing = part;
    pthread_mutex_unlock(&lock);
}

/* --- remembering --- */

static struct identity identify(int fd, const char *path) {
    struct statx status;
    int flags = AT_SYMLINK_NOFOLLOW | (*path ? 0 : AT_EMPTY_PATH);

    if (statx(fd, path, flags, STATX_INO | STATX_BTIME, &status) < 0)
        return (struct identity){0};
    return (struct identity){status.stx_ino, status.stx_btime.tv_sec * 1000000000 + status.stx_btime.tv_nsec};
}

static bool is_same(struct identity a, struct identity b) {
    return a.inode == b.inode && a.birth == b.birth;
}

static struct saved *find_file(struct identity identity) {
    for (size_t i = 0; i < file_count; i++)
        if (is_same(files[i].identity, identity))
            return &files[i];
    assert_true(file_count < MOST);
    files[file_count] = (struct saved){.identity = identity};
    return &files[file_count++];
}

static void save_file(int fd, const char *path, const struct stat *status) {
    struct saved *file = find_file(identify(fd, ""));

    free(file->content);
    file->size = (size_t)status->st_size;
    file->content = malloc(file->size + 1);
    assert_non_null(file->content);
    /* A shorter file was shortened beside us: its next sync tells. */
    ssize_t got = pread(fd, file->content, file->size, 0);
    file->size = got > 0 ? (size_t)got : 0;
    file->cut = false;
    file->syncs++;
    snprintf(file->path, sizeof file->path, "%s", path);
}

static const char *below_root(const char *path) {
    size_t size = strlen(root);

    if (size == 0 || strncmp(path, root, size) != 0 || (path[size] != 0 && path[size] != '/'))
        return NULL;
    return path[size] ? path + size + 1 : "";
}

static bool is_child(const char *path, const char *directory) {
    size_t size = strlen(directory);
    const char *slash = strrchr(path, '/');

    return size == 0 ? !slash : slash == path + size && strncmp(path, directory, size) == 0;
}

static void save_names(const char *path, const char *below) {
    DIR *directory = opendir(path);
    const struct dirent *entry;
    size_t kept = 0;

    assert_non_null(directory);
    for (size_t i = 0; i < name_count; i++)
        if (!is_child(names[i].path, below))
            names[kept++] = names[i];
    name_count = kept;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        assert_true(name_count < MOST);
        struct name *name = &names[name_count++];
        snprintf(name->path, sizeof name->path, "%.2000s%s%s", below, *below ? "/" : "", entry->d_name);
        name->identity = identify(dirfd(directory), entry->d_name);
        name->directory = entry->d_type == DT_DIR;
    }
    closedir(directory);
}

/* The path of FD, if it is watched. */
static const char *watched_path(int fd, char *path) {
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, SCRATCH_PATH - 1);
    path[size > 0 ? size : 0] = 0;
    return below_root(path);
}

static int note_sync(int fd) {
    char path[SCRATCH_PATH];
    struct stat status;
    int rc = 0;

    atomic_fetch_add(&syncs, 1);
    syncs_here++;
    pthread_mutex_lock(&lock);
    const char *below = watched_path(fd, path);
    if (failing && strstr(path, failing)) {
        errno = EIO;
        rc = -1;
    } else if (below && fstat(fd, &status) == 0) {
        if (S_ISDIR(status.st_mode))
            save_names(path, below);
        else
            save_file(fd, below, &status);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void note_cut(int fd, off_t size) {
    char path[SCRATCH_PATH];
    struct stat status;

    pthread_mutex_lock(&lock);
    const char *below = watched_path(fd, path);
    if (below && fstat(fd, &status) == 0 && size < status.st_size) {
        struct saved *file = find_file(identify(fd, ""));
        if (!file->cut || (size_t)size < file->cut_size)
            file->cut_size = (size_t)size;
        file->cut = true;
        file->cuts++;
        snprintf(file->path, sizeof file->path, "%s", below);
    }
    pthread_mutex_unlock(&lock);
}

/* --- in place of the C library's --- */

/* While a tree is watched it needs no real syncs. */
static int sync_for_real(int fd, long call) {
    int rc = note_sync(fd);

    return rc < 0 || root[0] ? rc : (int)syscall(call, fd);
}

int fsync(int fd) {
    return sync_for_real(fd, SYS_fsync);
}

int fdatasync(int fd) {
    return sync_for_real(fd, SYS_fdatasync);
}

/* With _FILE_OFFSET_BITS=64 this is ftruncate64, which SQLite calls too. */
int ftruncate(int fd, off_t size) {
    note_cut(fd, size);
    return (int)syscall(SYS_ftruncate, fd, size);
}

/* --- the tests' side --- */

static bool ends_with(const char *path, const char *suffix) {
    size_t size = strlen(path), part = strlen(suffix);

    return size >= part && strcmp(path + size - part, suffix) == 0;
}

unsigned watch_synced(const char *suffix) {
    unsigned count = 0;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < file_count; i++)
        if (ends_with(files[i].path, suffix))
            count += files[i].syncs;
    pthread_mutex_unlock(&lock);
    return count;
}

unsigned watch_shortened(const char *suffix) {
    unsigned count = 0;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < file_count; i++)
        if (ends_with(files[i].path, suffix))
            count += files[i].cuts;
    pthread_mutex_unlock(&lock);
    return count;
}

void watch_start(const char *path) {
    watch_stop();
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s", path);
    save_names(root, "");
    pthread_mutex_unlock(&lock);
}

void watch_stop(void) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < file_count; i++)
        free(files[i].content);
    file_count = name_count = 0;
    root[0] = 0;
    failing = NULL;
    pthread_mutex_unlock(&lock);
}

/* Lays random blocks of the file as it is now over what is saved of it. */
static void mix(struct saved *file, const char *now, size_t now_size) {
    size_t size = file->size > now_size ? file->size : now_size;
    size_t block = scratch_random(2) ? 512 : 4096;
    uint32_t lost_percent = 1 + scratch_random(99);
    size_t end = 0;

    file->content = realloc(file->content, size + 1);
    assert_non_null(file->content);
    memset(file->content + file->size, 0, size - file->size);
    for (size_t at = 0; at < now_size; at += block) {
        size_t part = now_size - at < block ? now_size - at : block;
        if (scratch_random(100) < lost_percent)
            continue;
        memcpy(file->content + at, now + at, part);
        end = at + part;
    }
    file->size = file->size > end ? file->size : end;
}

/* What is left of FILE (a copy), whose name is PATH below the root. */
static void settle(struct saved *file, const char *path) {
    char full[2 * SCRATCH_PATH];

    snprintf(full, sizeof full, "%.2000s/%.2000s", root, path);
    if (!is_same(identify(AT_FDCWD, full), file->identity))
        return;
    if (file->cut) {
        /* Lost, and all that came after it with it? */
        if (scratch_random(2) == 0)
            return;
        file->size = file->size < file->cut_size ? file->size : file->cut_size;
    }
    size_t now_size;
    char *now = scratch_read(full, &now_size);
    mix(file, now, now_size);
    free(now);
}

void watch_power_loss(const char *into, bool strict) {
    char path[2 * SCRATCH_PATH];

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < name_count; i++) {
        snprintf(path, sizeof path, "%.2000s/%.2000s", into, names[i].path);
        if (names[i].directory) {
            assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
            continue;
        }
        /* SQLite's shared memory is made anew by whoever opens the database first. */
        if (strstr(names[i].path, "-shm"))
            continue;
        struct saved file = *find_file(names[i].identity);
        char *copy = malloc(file.size + 1);
        assert_non_null(copy);
        if (file.size > 0)
            memcpy(copy, file.content, file.size);
        file.content = copy;
        if (!strict)
            settle(&file, names[i].path);
        scratch_write(path, file.content, file.size);
        free(file.content);
    }
    pthread_mutex_unlock(&lock);
}
