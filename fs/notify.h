/* notify: tells the kernel what changed without it, from a thread of its own. */
#ifndef JOTSFS_FS_NOTIFY_H
#define JOTSFS_FS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/fuse.h"

struct notify;
struct watch;

struct notify_hold {
    struct notify_hold *next, *prev;
    uint64_t dir;
};

/* -ENOMEM. Changes told before notify_start are dropped: the kernel has nothing then. */
int notify_create(struct notify **out);
/* Starts the thread. SESSION must live until notify_stop has returned. -EAGAIN. */
int notify_start(struct notify *notify, struct fuse_session *session);

/* Whoever watches hears of changes too (may be NULL). Before notify_start. */
void notify_set_watch(struct notify *notify, struct watch *watch);

/* For struct cache_events; ARG is the struct notify. They only queue. */
void notify_inode(uint64_t ino, bool data, void *arg);
void notify_entry(uint64_t dir, const char *name, uint64_t ino, void *arg);
void notify_news(uint64_t ino, void *arg);

/* Tells the kernel at once that what it knows of the inode's attributes is old. Doesn't wait; no lock may be held. */
void notify_attributes(struct notify *notify, uint64_t ino);

/* For as long as a request is in our hands that makes the kernel hold directory DIR's lock: entries of DIR stay queued. HOLD is
 * the caller's memory, in use until notify_let_go. */
void notify_hold(struct notify *notify, struct notify_hold *hold, uint64_t dir);
/* Harmless if HOLD (zero-initialised) isn't in use. */
void notify_let_go(struct notify *notify, struct notify_hold *hold);

/* Drops what is queued and takes nothing more. Doesn't wait for the notification under way. */
void notify_disarm(struct notify *notify);
/* notify_disarm, then waits for the thread: for the notification under way, thus until the requests that it waits for
 * are answered. */
void notify_stop(struct notify *notify);
/* After notify_stop. NULL is fine. */
void notify_destroy(struct notify *notify);

#endif
