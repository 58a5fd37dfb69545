/* inotify for remote changes. The kernel raises events only for system calls, so something has to call: truncate(2) to the
 * current size raises IN_MODIFY (on the file and on its directory), utimensat(2) with the current times IN_ATTRIB, for
 * directories and for files that can't be truncated.
 *
 * Not by a thread of ours: one that waits for an answer of its own process, which is killed then, keeps /dev/fuse open and
 * never ends, nor does the mount (notify.c). So a child does it: this program, started anew with nothing
 * open but a pipe. It begins when its process id is known here; requests that carry it look at memory only, and its SETATTR
 * changes nothing, whatever size it names: a truncate that came late could cut what was just written.
 *
 * And only if somebody watches: /proc/PID/fdinfo of inotify descriptors names the inodes and their device. It
 * is looked at only when something changed, SCAN_MS apart. Watchers of other users are seen by root only.
 *
 * The lock is a leaf. Events that come faster than the queue holds are lost; they are hints.
 */
#include "fs/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"

enum { QUEUE_MAX = 256, WATCHED_MAX = 1024, SCAN_MS = 300 };

struct watch {
    struct cache *cache;
    char *path;
    unsigned device; /* as the kernel prints it in fdinfo */
    pthread_t thread;
    atomic_int child;     /* 0: none */
    pthread_mutex_t lock; /* takes nothing after it; guards all below */
    pthread_cond_t changed;
    uint64_t queue[QUEUE_MAX];
    size_t count;
    bool ending;
};

/* --- who watches --- */

struct watched {
    unsigned device;
    uint64_t inos[WATCHED_MAX];
    size_t count;
};

/* "inotify wd:1 ino:2 sdev:3 mask:..." (proc(5)). */
static void read_marks(const char *path, struct watched *watched) {
    FILE *file = fopen(path, "re");
    char line[512];
    uint64_t ino;
    unsigned device;

    while (file && watched->count < WATCHED_MAX && fgets(line, sizeof(line), file))
        if (sscanf(line, "inotify wd:%*x ino:%" SCNx64 " sdev:%x", &ino, &device) == 2 &&
            device == watched->device)
            watched->inos[watched->count++] = ino;
    if (file)
        fclose(file);
}

static void read_process(const char *pid, struct watched *watched) {
    char path[320], target[32];

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    DIR *directory = opendir(path);
    if (!directory)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) { // NOLINT(concurrency-mt-unsafe): our own stream
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        if (size <= 0)
            continue;
        target[size] = '\0';
        if (strcmp(target, "anon_inode:inotify") != 0)
            continue;
        snprintf(path, sizeof(path), "/proc/%.32s/fdinfo/%.32s", pid, entry->d_name);
        read_marks(path, watched);
    }
    closedir(directory);
}

static void read_watched(struct watched *watched) {
    DIR *directory = opendir("/proc");
    const struct dirent *entry;

    while (directory && (entry = readdir(directory)) != NULL) // NOLINT(concurrency-mt-unsafe): our own stream
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            read_process(entry->d_name, watched);
    if (directory)
        closedir(directory);
}

static bool is_watched(const struct watched *watched, uint64_t ino) {
    for (size_t i = 0; i < watched->count; i++)
        if (watched->inos[i] == ino)
            return true;
    return false;
}

/* The device of the mount at PATH, from the last line that names it: asking stat(2) would be a request to ourselves. */
static unsigned read_device(const char *path) {
    FILE *file = fopen("/proc/self/mountinfo", "re");
    unsigned major, minor, device = 0;
    char *line = NULL;
    size_t size = 0;

    while (file && getline(&line, &size, file) > 0) {
        char point[4096];
        size_t at = 0;
        if (sscanf(line, "%*s %*s %u:%u %*s %4095s", &major, &minor, point) != 3)
            continue;
        /* Blanks and backslashes are octal there. */
        for (const char *in = point; *in; at++) {
            bool escaped = in[0] == '\\' && in[1] && in[2] && in[3];
            point[at] = escaped ? (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0')) : *in;
            in += escaped ? 4 : 1;
        }
        point[at] = '\0';
        if (strcmp(point, path) == 0)
            device = major << 20 | minor;
    }
    free(line);
    if (file)
        fclose(file);
    return device;
}

/* --- the child --- */

static int spawn(char **arguments, int *out_pipe, pid_t *out_pid) {
    char *nothing[] = {NULL};
    posix_spawn_file_actions_t actions;
    int ends[2] = {-1, -1};

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    int rc = posix_spawn(out_pid, "/proc/self/exe", &actions, NULL, arguments, nothing);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    if (rc)
        close(ends[1]);
    else
        *out_pipe = ends[1];
    return rc ? -rc : 0;
}

static void run_child(struct watch *watch, char **paths) {
    int go = -1;
    pid_t pid = -1;

    if (spawn(paths, &go, &pid) < 0)
        return;
    pthread_mutex_lock(&watch->lock);
    atomic_store(&watch->child, pid);
    if (watch->ending)
        kill(pid, SIGKILL);
    pthread_mutex_unlock(&watch->lock);
    (void)!write(go, "", 1);
    close(go);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    atomic_store(&watch->child, 0);
}

static void touch(const char *path) {
    struct stat status;

    if (lstat(path, &status) < 0)
        return;
    if (S_ISREG(status.st_mode) && truncate(path, status.st_size) == 0)
        return;
    const struct timespec times[2] = {status.st_atim, status.st_mtim};
    utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

int watch_child(int argc, char **argv) {
    char byte;

    if (read(STDIN_FILENO, &byte, 1) != 1)
        return EXIT_FAILURE; /* the daemon is gone */
    for (int i = 2; i < argc; i++)
        touch(argv[i]);
    return EXIT_SUCCESS;
}

/* --- the thread --- */

/* The path to touch for INO, malloc'ed, or NULL: gone, or not watched. */
static char *path_if_watched(const struct watch *watch, const struct watched *watched, uint64_t ino) {
    uint64_t dir = 0;
    char *below = cache_path_of(watch->cache, ino, &dir), *path = NULL;

    if (below && (is_watched(watched, ino) || is_watched(watched, dir)) &&
        asprintf(&path, "%s/%s", watch->path, below) < 0)
        path = NULL;
    free(below);
    return path;
}

static void raise_events(struct watch *watch, const uint64_t *inos, size_t count) {
    struct watched watched = {.device = watch->device};
    char program[] = "jotsfs", command[] = WATCH_COMMAND;
    char *paths[QUEUE_MAX + 3] = {program, command};
    size_t used = 2;

    read_watched(&watched);
    if (!watched.count)
        return;
    for (size_t i = 0; i < count; i++)
        if ((paths[used] = path_if_watched(watch, &watched, inos[i])) != NULL)
            used++;
    if (used > 2)
        run_child(watch, paths);
    while (used > 2)
        free(paths[--used]);
}

/* Lets more come in, and not too many scans go on. */
static void pause_locked(struct watch *watch) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SCAN_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!watch->ending && pthread_cond_timedwait(&watch->changed, &watch->lock, &until) == 0)
        ;
}

static void *watch_main(void *arg) {
    struct watch *watch = arg;
    uint64_t inos[QUEUE_MAX];

    pthread_mutex_lock(&watch->lock);
    while (!watch->ending) {
        if (!watch->count) {
            pthread_cond_wait(&watch->changed, &watch->lock);
            continue;
        }
        pause_locked(watch);
        size_t count = watch->count;
        memcpy(inos, watch->queue, count * sizeof(inos[0]));
        watch->count = 0;
        if (watch->ending)
            break;
        pthread_mutex_unlock(&watch->lock);
        raise_events(watch, inos, count);
        pthread_mutex_lock(&watch->lock);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

void watch_changed(struct watch *watch, uint64_t ino) {
    bool known = false;

    pthread_mutex_lock(&watch->lock);
    for (size_t i = 0; i < watch->count && !known; i++)
        known = watch->queue[i] == ino;
    if (!known && watch->count < QUEUE_MAX) {
        watch->queue[watch->count++] = ino;
        pthread_cond_signal(&watch->changed);
    }
    pthread_mutex_unlock(&watch->lock);
}

bool watch_is_child(const struct watch *watch, pid_t pid) {
    return watch && pid > 0 && atomic_load(&watch->child) == pid;
}

/* --- life --- */

int watch_create(struct cache *cache, const char *path, struct watch **out) {
    struct watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return -ENOMEM;
    watch->cache = cache;
    watch->path = strdup(path);
    watch->device = read_device(path);
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->changed, NULL);
    int rc = watch->path ? pthread_create(&watch->thread, NULL, watch_main, watch) : ENOMEM;
    if (rc) {
        free(watch->path);
        free(watch);
        return -rc;
    }
    *out = watch;
    return 0;
}

void watch_stop(struct watch *watch) {
    pthread_mutex_lock(&watch->lock);
    watch->ending = true;
    pid_t child = atomic_load(&watch->child);
    if (child)
        kill(child, SIGKILL);
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
}

void watch_destroy(struct watch *watch) {
    if (!watch)
        return;
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch->path);
    free(watch);
}
