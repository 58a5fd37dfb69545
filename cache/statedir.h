/* statedir: the state directory: made 0700, locked against a second mount, handed over on request.
 *
 * Thread-safe but for open, offer and close, which belong to one thread. The lock survives a fork
 * (daemonising), the offer's thread doesn't.
 */
#ifndef JOTSFS_CACHE_STATEDIR_H
#define JOTSFS_CACHE_STATEDIR_H

#include <stdbool.h>
#include <stdint.h>

struct statedir;

/* Makes PATH and its parents (0700), takes the lock. When another process holds it: if that process is only
 * draining (statedir_offer was called) it is asked over the directory's socket to hand over, and up to
 * WAIT_MS are waited. -EBUSY: a live mount has it (*OUT_OWNER: its pid, 0 unknown); -EACCES: not ours or open
 * to others; else errno. */
int statedir_open(const char *path, int64_t wait_ms, struct statedir **out, int *out_owner);
void statedir_close(struct statedir *dir);

/* Directory descriptors: the top (state.db is opened by path), bodies/ and tails/. */
int statedir_bodies(const struct statedir *dir);
int statedir_tails(const struct statedir *dir);
const char *statedir_path(const struct statedir *dir);
/* fsync of the directories: names of files made so far are safe from power loss. */
int statedir_sync(struct statedir *dir);

/* From now on the lock may be asked for: REQUESTED is called at most once, on a thread of statedir's own, not
 * after statedir_close has returned. The holder then closes soon. -EALREADY: was called before. */
int statedir_offer(struct statedir *dir, void (*requested)(void *arg), void *arg);

#endif
