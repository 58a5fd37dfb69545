/* rig: a cache on a model service and a clock that the test moves: the whole synchroniser without a thread.
 *
 * The sync thread is never started. rig_run lets its rounds happen, answers calls as the model decides, and moves
 * the clock on when nothing is left to do at this instant: hours pass in milliseconds. Functions named
 * after system calls do what a program would see, waiting included; they give 0 or a negative errno. A path is
 * "name" or "folder/name".
 */
#ifndef JOTSFS_TESTS_RIG_H
#define JOTSFS_TESTS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"
#include "model_service.h"
#include "scratch.h"

struct rig {
    struct fake_clock clock;
    struct cache_clock face;
    struct cache_config config;
    struct model model;
    struct cache *cache; /* NULL while closed */
    struct service *service;
    char top[SCRATCH_PATH], dir[SCRATCH_PATH + 16];
    unsigned lives;      /* state directories so far */
    unsigned complaints; /* lines logged at LOG_ERR or worse */
    unsigned rounds;
    bool manual; /* rig_run answers nothing by itself, and nobody waits for ever */
};

/* Clock, account and an empty state directory; nothing is open yet. TEST_LOG=1 shows the cache's log. */
void rig_make(struct rig *rig, uint64_t seed);
void rig_free(struct rig *rig);
/* Opens the state directory and waits for the first list. */
void rig_open(struct rig *rig);
/* A clean end, as after unmounting without draining. */
void rig_close(struct rig *rig);
/* kill -9: what the files held at that instant is what the next run finds. Calls on the wire still reach the
 * service (ARRIVES) or don't. Handles that are open die with the program. Not open afterwards. */
void rig_kill(struct rig *rig, bool arrives);
/* The same, with the state directory as it was copied by rig_snapshot some time before. */
void rig_kill_back(struct rig *rig, bool arrives);
void rig_snapshot(struct rig *rig);

/* Lets MS pass. Fails the test if the cache spins. */
void rig_run(struct rig *rig, int64_t ms);
/* Until base and want agree everywhere; false if they don't within ten minutes, or if all that is left is parked. */
bool rig_settle(struct rig *rig);
/* The notes that are owed. */
unsigned rig_dirty(struct rig *rig);

int rig_lookup(struct rig *rig, const char *path, uint64_t *out_ino);
int rig_open_file(struct rig *rig, const char *path, int flags, struct cache_handle **out);
int rig_write(struct rig *rig, struct cache_handle *handle, const char *text, uint64_t offset, int flags);
int rig_truncate(struct rig *rig, const char *path, uint64_t size);
int rig_fsync(struct rig *rig, struct cache_handle *handle);
int rig_put(struct rig *rig, const char *path, const char *text);    /* echo -n text > path */
int rig_append(struct rig *rig, const char *path, const char *text); /* echo -n text >> path */
/* What a reader sees, malloc'ed; NULL and *OUT_ERROR. */
char *rig_get(struct rig *rig, const char *path, int *out_error);
int rig_unlink(struct rig *rig, const char *path);
int rig_rename(struct rig *rig, const char *from, const char *to, unsigned flags);
int rig_mkdir(struct rig *rig, const char *name);
int rig_rmdir(struct rig *rig, const char *name);
int rig_flush_all(struct rig *rig);
int rig_refresh(struct rig *rig);

/* Assertions that name what differs. */
void rig_assert_file(struct rig *rig, const char *path, const char *text);     /* as the mount shows it */
void rig_assert_note(struct rig *rig, const char *filename, const char *body); /* as the service has it */
/* Mount and service show the same: names, folders and texts (but for a final newline). Refreshes first. */
void rig_assert_same(struct rig *rig);
/* How often TEXT occurs in all notes of the service. */
unsigned rig_count(const struct rig *rig, const char *text);

#endif
