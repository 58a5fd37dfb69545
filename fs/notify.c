/* The notifier. Some notifications wait in the kernel, uninterruptibly: one with data for the READs and WRITEs under way on that
 * inode, one of an entry for whoever holds its directory's lock, which is whoever waits for our answer to a
 * CREATE, UNLINK or LOOKUP there (LESSONS.md). So they are sent by a thread that nobody waits for and that holds nothing.
 *
 * That isn't enough: a daemon that is killed while a thread of it waits like this never dies. The thread keeps
 * /dev/fuse open, so the connection isn't aborted, so the requests that it waits for never end, and the mount hangs until
 * somebody writes to /sys/fs/fuse/connections/N/abort (seen with SIGSEGV under a storm of changes). Therefore
 *   - inodes are notified of attributes only, which never waits. That suffices: with AUTO_INVAL_DATA read(2) asks for new
 *     attributes first and drops the pages when mtime or size differ; only a mapping made before sees them later;
 *   - entries of a directory stay queued while a request that holds its lock is in our hands (notify_hold). What is left is a
 *     request that takes the lock just as the notification is sent, then waits, and a kill while it does.
 *
 * Changes are queued by the cache, under its lock, and coalesced per inode and per (directory, name).
 *
 * States: idle (no session; changes are dropped), armed (thread runs), disarmed (changes are dropped, the thread
 * ends after the call that it is in). At shutdown notify_stop comes while the workers and the park still
 * answer requests, so that this last call ends.
 *
 * ENOENT means that the kernel doesn't know the object, which is normal, and any other failure that
 * the mount is going away: results are ignored.
 *
 * The lock is taken under the cache's lock; only watch.c's is taken after it.
 */
#include "fs/notify.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* FNV: the default has unmarked fall-throughs. Short memory leaves hh.tbl NULL instead of exiting. */
#define HASH_FUNCTION(key, size, value) HASH_FNV(key, size, value)
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "fs/watch.h"

struct change {
    UT_hash_handle hh;
    /* The key, as bytes: an inode (name is empty), or a name in directory `ino`. */
    uint64_t ino;
    char name[];
};

struct notify {
    pthread_t thread;
    struct fuse_session *session;
    struct watch *watch;
    pthread_mutex_t lock; /* takes nothing after it; guards all below */
    pthread_cond_t changed;
    struct change *queue;     /* uthash, in the order of arrival */
    struct notify_hold holds; /* head of a ring */
    bool armed, ending;
};

/* --- the queue --- */

static size_t key_size(size_t name_size) {
    return offsetof(struct change, name) - offsetof(struct change, ino) + name_size;
}

static struct change *change_make(uint64_t ino, const char *name) {
    size_t size = strlen(name) + 1;
    struct change *change = calloc(1, sizeof(*change) + size);

    if (!change)
        return NULL;
    change->ino = ino;
    memcpy(change->name, name, size);
    return change;
}

/* Queues it, or joins it with an equal one. Memory that is short loses it: the timeouts bound the harm. */
static void notify_queue(struct notify *notify, uint64_t ino, const char *name) {
    struct change *change = change_make(ino, name), *known = NULL;

    if (!change)
        return;
    pthread_mutex_lock(&notify->lock);
    if (notify->armed) {
        size_t size = key_size(strlen(name) + 1);
        HASH_FIND(hh, notify->queue, &change->ino, size, known);
        if (!known) {
            HASH_ADD_KEYPTR(hh, notify->queue, &change->ino, size, change);
            if (change->hh.tbl)
                change = NULL;
            pthread_cond_signal(&notify->changed);
        }
    }
    pthread_mutex_unlock(&notify->lock);
    free(change);
}

void notify_news(uint64_t ino, void *arg) {
    struct notify *notify = arg;

    pthread_mutex_lock(&notify->lock);
    if (notify->armed && notify->watch)
        watch_changed(notify->watch, ino);
    pthread_mutex_unlock(&notify->lock);
}

void notify_set_watch(struct notify *notify, struct watch *watch) {
    notify->watch = watch;
}

void notify_inode(uint64_t ino, bool data, void *arg) {
    (void)data;
    notify_queue(arg, ino, "");
}

void notify_entry(uint64_t dir, const char *name, uint64_t ino, void *arg) {
    (void)ino;
    notify_queue(arg, dir, name);
}

static void notify_clear_locked(struct notify *notify) {
    struct change *change, *next;

    /* NEXT is read before CHANGE is freed: the analyzer misses it. NOLINTBEGIN(clang-analyzer-unix.Malloc) */
    HASH_ITER(hh, notify->queue, change, next) {
        HASH_DEL(notify->queue, change);
        free(change);
    }
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
}

/* --- directories that are locked --- */

void notify_hold(struct notify *notify, struct notify_hold *hold, uint64_t dir) {
    pthread_mutex_lock(&notify->lock);
    hold->dir = dir;
    hold->prev = &notify->holds;
    hold->next = notify->holds.next;
    hold->next->prev = hold;
    notify->holds.next = hold;
    pthread_mutex_unlock(&notify->lock);
}

void notify_let_go(struct notify *notify, struct notify_hold *hold) {
    pthread_mutex_lock(&notify->lock);
    if (hold->next) {
        hold->prev->next = hold->next;
        hold->next->prev = hold->prev;
        hold->next = NULL;
        if (notify->queue)
            pthread_cond_signal(&notify->changed);
    }
    pthread_mutex_unlock(&notify->lock);
}

static bool is_held_locked(const struct notify *notify, uint64_t dir) {
    for (const struct notify_hold *hold = notify->holds.next; hold != &notify->holds; hold = hold->next)
        if (hold->dir == dir)
            return true;
    return false;
}

/* Takes the first change that can be sent at once off the queue, or NULL. */
static struct change *notify_take_locked(struct notify *notify) {
    for (struct change *change = notify->queue; change; change = change->hh.next) {
        if (change->name[0] && is_held_locked(notify, change->ino))
            continue;
        HASH_DEL(notify->queue, change);
        return change;
    }
    return NULL;
}

/* --- the thread --- */

static void notify_send(struct notify *notify, const struct change *change) {
    if (change->name[0])
        fuse_lowlevel_notify_inval_entry(notify->session, change->ino, change->name, strlen(change->name));
    else
        fuse_lowlevel_notify_inval_inode(notify->session, change->ino, -1, 0);
}

static void *notify_main(void *arg) {
    struct notify *notify = arg;

    pthread_mutex_lock(&notify->lock);
    while (!notify->ending) {
        struct change *change = notify_take_locked(notify);
        if (!change) {
            pthread_cond_wait(&notify->changed, &notify->lock);
            continue;
        }
        pthread_mutex_unlock(&notify->lock);
        notify_send(notify, change);
        free(change);
        pthread_mutex_lock(&notify->lock);
    }
    pthread_mutex_unlock(&notify->lock);
    return NULL;
}

void notify_attributes(struct notify *notify, uint64_t ino) {
    pthread_mutex_lock(&notify->lock);
    bool armed = notify->armed;
    pthread_mutex_unlock(&notify->lock);
    if (armed)
        fuse_lowlevel_notify_inval_inode(notify->session, ino, -1, 0);
}

/* --- life --- */

int notify_create(struct notify **out) {
    struct notify *notify = calloc(1, sizeof(*notify));

    if (!notify)
        return -ENOMEM;
    pthread_mutex_init(&notify->lock, NULL);
    pthread_cond_init(&notify->changed, NULL);
    notify->holds.next = notify->holds.prev = &notify->holds;
    *out = notify;
    return 0;
}

int notify_start(struct notify *notify, struct fuse_session *session) {
    notify->session = session;
    int rc = pthread_create(&notify->thread, NULL, notify_main, notify);
    if (rc)
        return -rc;
    pthread_mutex_lock(&notify->lock);
    notify->armed = true;
    pthread_mutex_unlock(&notify->lock);
    return 0;
}

void notify_disarm(struct notify *notify) {
    pthread_mutex_lock(&notify->lock);
    notify->armed = false;
    notify->ending = true;
    notify_clear_locked(notify);
    pthread_cond_signal(&notify->changed);
    pthread_mutex_unlock(&notify->lock);
}

void notify_stop(struct notify *notify) {
    notify_disarm(notify);
    pthread_join(notify->thread, NULL);
}

void notify_destroy(struct notify *notify) {
    if (!notify)
        return;
    notify_clear_locked(notify);
    pthread_cond_destroy(&notify->changed);
    pthread_mutex_destroy(&notify->lock);
    free(notify);
}
