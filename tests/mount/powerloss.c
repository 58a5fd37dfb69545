/* powerloss: what a program changed on disk and did not sync can be undone after its end.
 *
 * Preloaded into jotsfs. Each file below $POWERLOSS_ROOT that is written is copied, as it was when last synced, to
 * $POWERLOSS_JOURNAL/DEV-INO before its first change; fsync and fdatasync drop the copy. Names made, removed or moved are
 * noted (the removed file itself is linked away) and forgotten by fsync of their directory. After a kill the test
 * puts everything back (powerloss.py): the file system as if nothing unsynced had reached the disk. That is one of the
 * outcomes that a power loss may have, and the hardest for what claims to be synced.
 *
 * Nothing is undone for shared mappings (state.db-shm, which SQLite rebuilds). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *journal(void) { return getenv("POWERLOSS_JOURNAL"); }

static bool is_ours(const char *path) {
    const char *root = getenv("POWERLOSS_ROOT");
    return root && journal() && strncmp(path, root, strlen(root)) == 0 && !strstr(path, "-shm");
}

static bool path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    if (size < 0)
        return false;
    out[size] = '\0';
    return is_ours(out);
}

static bool path_at(int dirfd, const char *name, char *out) {
    char directory[PATH_MAX];
    if (*name == '/') {
        snprintf(out, PATH_MAX, "%s", name);
        return is_ours(out);
    }
    if (dirfd == AT_FDCWD ? !getcwd(directory, sizeof(directory)) : !path_of(dirfd, directory))
        return false;
    snprintf(out, PATH_MAX, "%s/%s", directory, name);
    return is_ours(out);
}

static void copy_name(const struct stat *status, char *out) {
    snprintf(out, PATH_MAX, "%s/%lu-%lu", journal(), (unsigned long)status->st_dev, (unsigned long)status->st_ino);
}

static void note(const char *format, ...) {
    char line[2 * PATH_MAX + 32], path[PATH_MAX];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    snprintf(path, sizeof(path), "%s/names", journal());
    int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0 && REAL(write)(fd, line, (size_t)size) == size)
        close(fd);
}

/* The state to go back to, unless there is one. */
static void keep(int fd) {
    char name[PATH_MAX], path[PATH_MAX], part[PATH_MAX], buffer[65536], source[64];
    struct stat status;
    ssize_t got;
    if (inside || !path_of(fd, path) || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return;
    inside = true;
    copy_name(&status, name);
    /* Whole or not at all: the kill may come now. */
    snprintf(part, sizeof(part), "%s/part", journal());
    int to = access(name, F_OK) == 0 ? -1 : REAL(open)(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to >= 0) {
        snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
        int from = REAL(open)(source, O_RDONLY);
        while (from >= 0 && (got = read(from, buffer, sizeof(buffer))) > 0)
            if (REAL(write)(to, buffer, (size_t)got) != got)
                abort();
        if (from >= 0)
            close(from);
        close(to);
        if (rename(part, name) < 0)
            abort();
    }
    inside = false;
}

#define CHANGES(fd, call)             \
    do {                              \
        pthread_mutex_lock(&lock);    \
        keep(fd);                     \
        __typeof__(call) rc = (call); \
        int error = errno;            \
        pthread_mutex_unlock(&lock);  \
        errno = error;                \
        return rc;                    \
    } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    if (inside)
        return REAL(write)(fd, data, size);
    CHANGES(fd, REAL(write)(fd, data, size));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { CHANGES(fd, REAL(pwrite)(fd, data, size, at)); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { CHANGES(fd, REAL(pwrite64)(fd, data, size, at)); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { CHANGES(fd, REAL(pwritev)(fd, parts, count, at)); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { CHANGES(fd, REAL(pwritev64)(fd, parts, count, at)); }
int ftruncate(int fd, off_t size) { CHANGES(fd, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off_t size) { CHANGES(fd, REAL(ftruncate64)(fd, size)); }

static int synced(int fd, int rc) {
    char name[PATH_MAX], path[PATH_MAX];
    struct stat status;
    if (rc < 0 || !path_of(fd, path) || fstat(fd, &status) < 0)
        return rc;
    pthread_mutex_lock(&lock);
    inside = true;
    if (S_ISDIR(status.st_mode)) {
        note("synced %s\n", path);
    } else {
        copy_name(&status, name);
        REAL(unlink)(name);
    }
    inside = false;
    pthread_mutex_unlock(&lock);
    return rc;
}
int fsync(int fd) { return synced(fd, REAL(fsync)(fd)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)(fd)); }

static unsigned long sequence;

/* Before PATH is removed or replaced: the file is kept under a name of its own. */
static void keep_name(const char *path) {
    char kept[PATH_MAX];
    inside = true;
    snprintf(kept, sizeof(kept), "%s/gone-%d-%lu", journal(), getpid(), ++sequence);
    if (REAL(link)(path, kept) == 0)
        note("removed %s %s\n", path, kept);
    inside = false;
}

int unlink(const char *name) {
    char path[PATH_MAX];
    if (inside || !path_at(AT_FDCWD, name, path))
        return REAL(unlink)(name);
    pthread_mutex_lock(&lock);
    keep_name(path);
    int rc = REAL(unlink)(name), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

int unlinkat(int dirfd, const char *name, int flags) {
    char path[PATH_MAX];
    if (inside || (flags & AT_REMOVEDIR) || !path_at(dirfd, name, path))
        return REAL(unlinkat)(dirfd, name, flags);
    pthread_mutex_lock(&lock);
    keep_name(path);
    int rc = REAL(unlinkat)(dirfd, name, flags), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return rc;
}

/* A file made by open(2): its name may be lost. Truncation by open(2) is a change. */
static int opened(int dirfd, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    bool ours = !inside && (flags & O_CREAT) && path_at(dirfd, name, path);
    if (!ours)
        return REAL(openat)(dirfd, name, flags, mode);
    pthread_mutex_lock(&lock);
    bool was_there = access(path, F_OK) == 0;
    int fd = REAL(openat)(dirfd, name, flags, mode), error = errno;
    inside = true;
    if (fd >= 0 && !was_there)
        note("made %s\n", path);
    inside = false;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN(name, at, ...)                                     \
    int name(__VA_ARGS__, const char *path, int flags, ...) {   \
        va_list args;                                           \
        va_start(args, flags);                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0; \
        va_end(args);                                           \
        return opened(at, path, flags, mode);                   \
    }
OPEN(openat, dirfd, int dirfd)
OPEN(openat64, dirfd, int dirfd)

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return opened(AT_FDCWD, path, flags, mode);
}
