/* statedir: who owns the state directory.
 *
 * The lock is flock(2) on state.lock: the kernel drops it with the process, however that ends, and it stays
 * with the process that daemonises. The file holds the owner's pid, for people. It is never removed.
 *
 * An owner is in one of two states: live (a mount: nobody may ask) or draining (statedir_offer was called: it
 * has only unsent data left to send). A draining owner listens on handover.sock. So a newcomer that finds the
 * lock taken tries to connect: no socket, or nobody behind it, is a live mount, -EBUSY at once. Otherwise it
 * was heard, and waits for the lock. The connection itself is the request. One that is just starting or about
 * to offer counts as live.
 *
 * Only the holder of the lock makes or removes the socket: an owner leaves it behind (it may have been killed
 * as well), and the next one removes it. Whoever asks must be of our user or root (SO_PEERCRED); the
 * directory's mode says the same.
 *
 * Addresses of sockets are short, paths aren't: both sides name the socket through /proc/self/fd/N of the
 * directory.
 *
 * Called by cache (create, destroy, drain) and by `jotsfs flush`.
 */
#include "cache/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 20, LOCK_TEXT_SIZE = 32 };

static const char lock_name[] = "state.lock";
static const char socket_name[] = "handover.sock";

struct statedir {
    char *path;
    int top, bodies, tails, lock;
    /* Of the offer: -1 and no thread before it. */
    int listener, stop;
    pthread_t thread;
    void (*requested)(void *arg);
    void *arg;
};

/* --- directories --- */

/* Refuses what isn't ours alone. */
static int check_private(int fd) {
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    return status.st_uid != geteuid() || (status.st_mode & 077) != 0 ? -EACCES : 0;
}

/* Opens directory NAME of PARENT, made if it isn't there. */
static int open_directory(int parent, const char *name, int *out) {
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = check_private(fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

/* Makes directory PATH if it isn't there. The name of a new one is synced: what is synced below it must be
 * found again. */
static int make_directory(const char *path) {
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int above = fd < 0 ? -1 : openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = above < 0 || fsync(above) < 0 ? -errno : 0;
    if (above >= 0)
        close(above);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Makes the directories above PATH (which it changes and restores). */
static int make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int rc = make_directory(path);
        *slash = '/';
        /* What can't be made may be there nevertheless; if not, the next one fails. */
        if (rc < 0 && rc != -EROFS && rc != -EACCES)
            return rc;
    }
    return 0;
}

static int open_top(struct statedir *dir) {
    int rc = *dir->path ? make_parents(dir->path) : -ENOENT;

    rc = rc ? rc : make_directory(dir->path);
    if (rc < 0)
        return rc;
    dir->top = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir->top < 0 ? -errno : check_private(dir->top);
}

/* --- the lock --- */

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int try_lock(struct statedir *dir) {
    while (flock(dir->lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    }
    return 0;
}

/* The pid in the lock file, 0 if there is none (yet). */
static int read_owner(int lock) {
    char text[LOCK_TEXT_SIZE];
    ssize_t size = pread(lock, text, sizeof text - 1, 0);

    if (size <= 0)
        return 0;
    text[size] = 0;
    long pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT_MAX ? (int)pid : 0;
}

static int write_owner(int lock) {
    char text[LOCK_TEXT_SIZE];
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (ftruncate(lock, 0) < 0 || pwrite(lock, text, (size_t)size, 0) != size)
        return errno ? -errno : -EIO;
    return 0;
}

/* The socket's address. The path is short as long as descriptors are. */
static struct sockaddr_un socket_address(int top) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", top, socket_name);
    return address;
}

/* Asks the owner to hand over. False: nobody listens, it is a live mount. */
static bool ask_owner(int top) {
    struct sockaddr_un address = socket_address(top);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return false;
    /* EAGAIN: so many ask that the queue is full. */
    bool heard = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(fd);
    return heard;
}

static void pause_ms(int64_t ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

static int take_lock(struct statedir *dir, int64_t wait_ms, int *out_owner) {
    int64_t deadline = now_ms() + wait_ms;
    bool heard = false;
    int rc;

    dir->lock = openat(dir->top, lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (dir->lock < 0)
        return -errno;
    while ((rc = try_lock(dir)) == -EBUSY) {
        *out_owner = read_owner(dir->lock);
        heard = ask_owner(dir->top) || heard;
        if (!heard)
            break;
        int64_t left = deadline - now_ms();
        if (left <= 0)
            break;
        pause_ms(left < RETRY_MS ? left : RETRY_MS);
    }
    return rc;
}

/* --- opening and closing --- */

static void release(struct statedir *dir) {
    const int fds[] = {dir->listener, dir->stop, dir->bodies, dir->tails, dir->lock, dir->top};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(dir->path);
    free(dir);
}

static int open_locked(struct statedir *dir, int64_t wait_ms, int *out_owner) {
    int rc = open_top(dir);

    rc = rc ? rc : take_lock(dir, wait_ms, out_owner);
    rc = rc ? rc : write_owner(dir->lock);
    if (rc == 0 && unlinkat(dir->top, socket_name, 0) < 0 && errno != ENOENT)
        rc = -errno;
    rc = rc ? rc : open_directory(dir->top, "bodies", &dir->bodies);
    rc = rc ? rc : open_directory(dir->top, "tails", &dir->tails);
    return rc ? rc : statedir_sync(dir);
}

int statedir_open(const char *path, int64_t wait_ms, struct statedir **out, int *out_owner) {
    struct statedir *dir = calloc(1, sizeof *dir);

    if (!dir)
        return -ENOMEM;
    dir->top = dir->bodies = dir->tails = dir->lock = dir->listener = dir->stop = -1;
    dir->path = strdup(path);
    *out_owner = 0;
    int rc = dir->path ? open_locked(dir, wait_ms, out_owner) : -ENOMEM;
    if (rc < 0) {
        release(dir);
        return rc;
    }
    *out = dir;
    return 0;
}

void statedir_close(struct statedir *dir) {
    const uint64_t one = 1;

    if (!dir)
        return;
    /* The lock goes before the listener: there is no moment at which a newcomer finds the lock taken and
     * nobody to ask. The socket file stays: without the lock it isn't ours to remove. */
    close(dir->lock);
    dir->lock = -1;
    if (dir->listener >= 0 && write(dir->stop, &one, sizeof one) == sizeof one)
        pthread_join(dir->thread, NULL);
    release(dir);
}

int statedir_bodies(const struct statedir *dir) {
    return dir->bodies;
}

int statedir_tails(const struct statedir *dir) {
    return dir->tails;
}

const char *statedir_path(const struct statedir *dir) {
    return dir->path;
}

int statedir_sync(struct statedir *dir) {
    const int fds[] = {dir->bodies, dir->tails, dir->top};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fsync(fds[i]) < 0)
            return -errno;
    return 0;
}

/* --- the offer --- */

/* True if a connection waits and comes from somebody who may ask. */
static bool accept_request(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (fd < 0)
        return false;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && size == sizeof peer;
    close(fd);
    return known && (peer.uid == geteuid() || peer.uid == 0);
}

static void *serve(void *arg) {
    struct statedir *dir = arg;
    struct pollfd fds[] = {{.fd = dir->stop, .events = POLLIN}, {.fd = dir->listener, .events = POLLIN}};
    bool told = false;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (fds[0].revents)
            return NULL;
        if (!fds[1].revents)
            continue;
        if (!accept_request(dir->listener)) {
            pause_ms(RETRY_MS);
        } else if (!told) {
            told = true;
            dir->requested(dir->arg);
        }
    }
}

/* The thread takes no signals. */
static int start_thread(struct statedir *dir) {
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = -pthread_create(&dir->thread, NULL, serve, dir);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int listen_at(int top, int *out) {
    struct sockaddr_un address = socket_address(top);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    /* Linux makes the socket file with this mode. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, SOMAXCONN) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

int statedir_offer(struct statedir *dir, void (*requested)(void *arg), void *arg) {
    if (dir->listener >= 0)
        return -EALREADY;
    dir->requested = requested;
    dir->arg = arg;
    dir->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = dir->stop < 0 ? -errno : listen_at(dir->top, &dir->listener);
    rc = rc ? rc : start_thread(dir);
    if (rc == 0)
        return 0;
    if (dir->listener >= 0) {
        unlinkat(dir->top, socket_name, 0);
        close(dir->listener);
    }
    if (dir->stop >= 0)
        close(dir->stop);
    dir->listener = dir->stop = -1;
    return rc;
}
