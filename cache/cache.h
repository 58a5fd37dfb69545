/* cache: the account as jotsfs knows it and what it owes the service: the face that fs/ uses.
 *
 * All functions are thread-safe. None waits for the network, for budget or for another
 * caller: a call that would have to wait registers its waiter, returns CACHE_WAIT, and
 * is repeated by the caller with the same waiter once `wake` was called. Errors are
 * negative errno (DESIGN.md section 5).
 */
#ifndef JOTSFS_CACHE_CACHE_H
#define JOTSFS_CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "api/service.h"

enum { CACHE_ROOT_INO = 1 };
enum { CACHE_WAIT = 1 };

struct cache;
struct cache_handle;
struct cache_listing;

/* One request that may wait. Zero-initialised by the caller except for `wake`; reused for every
 * repetition of the same request, so that nothing is waited for twice. */
struct cache_waiter {
    /* Called once per CACHE_WAIT, from any thread, with the cache's lock held: it may only
     * note the fact and signal. The waiter is then no longer registered. */
    void (*wake)(struct cache_waiter *waiter);
    /* Set by the cache with CACHE_WAIT: monotonic ms at which the caller repeats the request even
     * though nobody woke it (after cache_cancel). INT64_MAX: none. */
    int64_t deadline_ms;
    /* Below: the cache's own. */
    struct cache_waiter *next, **prev;
    unsigned stage;
    int error;
    uint64_t mark;
    struct cache *cache;
};

/* Unregisters WAITER: wake is not called any more after this returned. Harmless if it isn't registered. */
void cache_cancel(struct cache *cache, struct cache_waiter *waiter);

/* What the kernel must be told. Called with the cache's lock held: they may only queue. */
struct cache_events {
    /* Attributes changed; DATA: the content too. */
    void (*inode_changed)(uint64_t ino, bool data, void *arg);
    /* The name NAME of directory DIR appeared, vanished or is another file now (INO, 0 if vanished). */
    void (*entry_changed)(uint64_t dir, const char *name, uint64_t ino, void *arg);
    /* Others changed the content of a file or of a directory. Not for the kernel, but for who watches it. */
    void (*news)(uint64_t ino, void *arg);
    void *arg;
};

/* Passed in so that tests never wait (STYLE.md, Threads). */
struct cache_clock {
    int64_t (*monotonic_ms)(void *arg);
    void (*realtime)(struct timespec *out, void *arg);
    void (*random)(void *out, size_t size, void *arg);
    void *arg;
};

enum { CACHE_FINGERPRINT_SIZE = 384 };

enum cache_fsync { CACHE_FSYNC_LOCAL, CACHE_FSYNC_SERVER };

struct cache_config {
    const char *state_dir;       /* exists or is made, 0700 */
    unsigned ttl_ms;             /* DESIGN.md promise 6; default 5,000 */
    unsigned settle_ms;          /* 1,000 */
    unsigned settle_delete_ms;   /* 10,000 */
    unsigned request_timeout_ms; /* 10,000: what a killed run has sent may be under way for so long */
    uint64_t cache_size_bytes;   /* clean bodies kept at most; 0: no bound */
    enum cache_fsync fsync;
    bool read_only;           /* mounted read-only: nothing is ever sent that changes something */
    bool append_only;         /* notes born by >> are locked streams */
    char *const *local_globs; /* NULL-terminated or NULL */
    uid_t uid;
    gid_t gid;
    mode_t umask;
    /* Salted hash of the token: with the salt of SETTING (an earlier result), or a fresh one (NULL). 0 or -errno. May be NULL: then
     * the account isn't checked. */
    int (*fingerprint)(const char *setting, char *out, void *arg);
    void *fingerprint_arg;
    const struct cache_clock *clock; /* NULL: the system's */
    struct cache_events events;      /* members may be NULL */
    void (*log)(int level, const char *text,
                void *arg); /* level: syslog priority; any thread, lock held: must not block long */
    void *log_arg;
};

/* Opens (or makes) the state directory, takes its lock (asking a draining daemon to hand over, 1 s), loads the state.
 * Takes ownership of SERVICE only on success. *OUT_WHY: malloc'ed line for people on failure, caller frees.
 * -EBUSY: another mount uses the state; -EUCLEAN: corrupt, kept; -ENOTSUP: written by a newer version, kept; else errno. Blocks on disk. */
int cache_create(const struct cache_config *config, struct service *service, struct cache **out,
                 char **out_why);

/* Starts the sync thread (call after daemonising). 0 or -EAGAIN. */
int cache_start(struct cache *cache);

/* Blocks up to TIMEOUT_MS until the service has accepted the token (0), refused it (-EACCES), or can't be
 * reached (-ETIMEDOUT). With state on disk an unreachable service is no failure: 0. *OUT_WHY as above. */
int cache_prove(struct cache *cache, int64_t timeout_ms, char **out_why);

/* Blocks until nothing more can be sent or TIMEOUT_MS passed, settle times cut short from the first call on (also used by
 * `flush` without a mount). Returns the number of changes that are left; *OUT_DONE: waiting longer is of no use (all is
 * sent, or what is left was refused). */
size_t cache_drain(struct cache *cache, int64_t timeout_ms, bool *out_done);
/* Like cache_drain, as a request that waits: CACHE_WAIT, then 0 when everything owed at the first call is on the service,
 * -EIO if something of it was refused for good, -ETIMEDOUT when offline. */
int cache_flush_all(struct cache *cache, struct cache_waiter *waiter);
/* Polls and sweeps at once and retries what is parked. CACHE_WAIT, then 0 or an errno. */
int cache_refresh(struct cache *cache, struct cache_waiter *waiter);
/* From now on (unmounted, draining) another process may ask for the state directory. 0 or -errno. */
int cache_offer_handover(struct cache *cache);
/* True once another process asked for the state directory (hand-over): drain no longer, destroy soon. */
bool cache_handover_requested(struct cache *cache);

/* Stops the threads, syncs, closes. Anything not sent stays in the state directory. */
void cache_destroy(struct cache *cache);

/* --- inodes. An entry given out counts one lookup; cache_forget gives lookups back. --- */

struct cache_entry {
    struct stat attr;
    int64_t valid_ms;      /* for how long the kernel may keep the name */
    int64_t attr_valid_ms; /* and the attributes: 0 while the size may be one off (API.md C6) */
};

/* -ENOENT sets out->valid_ms for the negative entry too. Here and in cache_getattr WAITER may be NULL: only what is known
 * counts, and nothing is asked for. */
int cache_lookup(struct cache *cache, uint64_t dir, const char *name, struct cache_waiter *waiter,
                 struct cache_entry *out);
void cache_forget(struct cache *cache, uint64_t ino, uint64_t lookups);
/* Path of an inode below the mount (the root: ""), malloc'ed; NULL: gone. *OUT_DIR: its directory. From memory. */
char *cache_path_of(struct cache *cache, uint64_t ino, uint64_t *out_dir);
int cache_getattr(struct cache *cache, uint64_t ino, struct cache_waiter *waiter, struct cache_entry *out);

enum cache_set {
    CACHE_SET_MODE = 1,
    CACHE_SET_UID = 2,
    CACHE_SET_GID = 4,
    CACHE_SET_SIZE = 8,
    CACHE_SET_ATIME = 16,
    CACHE_SET_MTIME = 32,
    CACHE_SET_ATIME_NOW = 64,
    CACHE_SET_MTIME_NOW = 128,
};

/* HANDLE: of ftruncate, may be NULL. Reads only the fields of ATTR that SET names. Waits (CACHE_WAIT) where a truncate
 * needs the body. */
int cache_setattr(struct cache *cache, uint64_t ino, const struct stat *attr, unsigned set,
                  struct cache_handle *handle, struct cache_waiter *waiter, struct cache_entry *out);

/* --- files --- */

struct cache_opened {
    struct cache_handle *handle;
    bool keep;   /* the kernel may keep its pages of the file */
    bool news;   /* it changed without the kernel's doing: attributes must be invalidated before the reply */
    bool direct; /* write-only view without known size: no page cache */
};

/* FLAGS: open(2). Waits for a due poll and for the body where the open needs it. */
int cache_open(struct cache *cache, uint64_t ino, int flags, struct cache_waiter *waiter,
               struct cache_opened *out);
int cache_make(struct cache *cache, uint64_t dir, const char *name, mode_t mode, int flags,
               struct cache_waiter *waiter, struct cache_entry *out_entry, struct cache_opened *out);
/* 0 with the number of bytes read in *OUT_SIZE (a count as result would read as CACHE_WAIT when it is 1), or errno.
 * Never waits for the network (OPEN has fetched); an evicted body waits. */
int cache_read(struct cache_handle *handle, void *data, size_t size, uint64_t offset,
               struct cache_waiter *waiter, size_t *out_size);
/* FLAGS: the WRITE's own flags; with O_APPEND the offset is ignored. 0 (all is written) or an errno. In the state
 * directory when it returns. */
int cache_write(struct cache_handle *handle, const void *data, size_t size, uint64_t offset, int flags,
                struct cache_waiter *waiter);
/* close(2) of one descriptor: reports a final upload error once per handle that wrote. Never waits. */
int cache_flush(struct cache_handle *handle);
/* fsync(2): local durability; waits for the server only with CACHE_FSYNC_SERVER. Blocks on the local disk. */
int cache_fsync(struct cache_handle *handle, struct cache_waiter *waiter);
/* fsync of a directory: of everything below it. */
int cache_fsync_dir(struct cache *cache, uint64_t dir);
/* Reserves nothing; checks that a file may grow to SIZE (fallocate mode 0 extends the file). */
int cache_allocate(struct cache_handle *handle, uint64_t size, struct cache_waiter *waiter);
void cache_close(struct cache_handle *handle);
uint64_t cache_handle_ino(const struct cache_handle *handle);

/* --- names --- */

int cache_mkdir(struct cache *cache, uint64_t dir, const char *name, mode_t mode, struct cache_waiter *waiter,
                struct cache_entry *out);
int cache_unlink(struct cache *cache, uint64_t dir, const char *name, struct cache_waiter *waiter);
int cache_rmdir(struct cache *cache, uint64_t dir, const char *name, struct cache_waiter *waiter);
/* FLAGS: RENAME_NOREPLACE, RENAME_EXCHANGE (linux/fs.h). */
int cache_rename(struct cache *cache, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
                 unsigned flags, struct cache_waiter *waiter);

/* A directory as it was when it was listed. */
int cache_list(struct cache *cache, uint64_t dir, struct cache_waiter *waiter, struct cache_listing **out);
size_t cache_listing_count(const struct cache_listing *listing);
/* NULL past the end. *OUT_INO, *OUT_DIRECTORY as of the listing. */
const char *cache_listing_name(const struct cache_listing *listing, size_t index, uint64_t *out_ino,
                               bool *out_directory);
/* Attributes of an entry now, counting one lookup; -ENOENT when it is gone meanwhile. */
int cache_listing_entry(struct cache *cache, const struct cache_listing *listing, size_t index,
                        struct cache_entry *out);
void cache_listing_destroy(struct cache_listing *listing);

/* From memory, never waits. */
void cache_statfs(struct cache *cache, struct statvfs *out);

/* --- what is owed, for people (fs/control) --- */

struct cache_pending {
    char *path; /* relative to the mount */
    const char
        *kind; /* "append", "create", "rewrite", "rename", "move", "delete", "settings", ... constant */
    uint64_t bytes;
    int64_t since;        /* seconds since the epoch */
    char *code, *message; /* final error, or NULL */
    int error;            /* negative errno, 0 */
};

struct cache_status {
    bool online;
    bool saved;            /* nothing pending, no error */
    const char *account;   /* "ok", "unauthenticated", "forbidden", "read-only", "unknown"; constant */
    char *account_message; /* may be NULL */
    struct cache_pending *pending;
    size_t pending_count;
    struct service_budget budget[SERVICE_CLASSES];
    uint64_t notes, folders, bodies, bytes;
};

int cache_status(struct cache *cache, struct cache_status **out);
void cache_status_destroy(struct cache_status *status);

#endif
