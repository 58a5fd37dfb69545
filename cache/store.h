/* store: the SQLite side of the state directory: nodes, frozen requests, facts learned.
 *
 * Not thread-safe but for store_sync and store_checkpoint: callers hold the cache's lock. Every
 * change is made inside store_begin .. store_commit. A commit is safe from kill -9 when it returns
 * and costs no fsync; store_sync makes all earlier commits safe from power loss.
 *
 * SQLite's locks belong to the process: a store must be opened and used by the same process (open
 * it after daemonising).
 */
#ifndef JOTSFS_CACHE_STORE_H
#define JOTSFS_CACHE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

enum store_content {
    STORE_CONTENT_BASE,  /* shown = base's body */
    STORE_CONTENT_TAIL,  /* shown = base's body (if any) and the tail's bytes */
    STORE_CONTENT_DRAFT, /* shown = the draft file */
};

/* A node as it is kept. Strings are malloc'ed and belong to the record. */
struct store_node {
    uint64_t ino;
    bool folder;

    /* want: where the file system shows it; name NULL (and dir 0) = gone */
    uint64_t dir;
    char *name;
    uint32_t mode, uid, gid;
    int64_t atime_ns, mtime_ns, ctime_ns;
    bool scratch;     /* has no base and never gets one under this name */
    bool want_locked; /* to be created append-only */
    bool append_born; /* no base: written by appends only */
    enum store_content content;
    uint64_t tail_epoch, tail_from; /* tail file's epoch; bytes of it that the server has */
    uint64_t draft;                 /* body file number, 0 = none */
    uint64_t ancestor; /* body file that begins with what was shown when the rewrite began, 0 = not known */
    uint64_t ancestor_size;                      /* its first bytes that count */
    int64_t ancestor_updated_at, ancestor_bytes; /* base's version then */
    int64_t changed_at;                          /* oldest unsent change, seconds since the epoch, 0 = none */
    int64_t gone_at;                             /* when the name was given up, 0 = not */
    int error;                                   /* negative errno of a final refusal, 0 = none */
    char *error_code, *error_message;

    /* base: the server's version as last seen; id 0 = none */
    int64_t id;
    char *base_name;     /* the service's filename or folder name */
    char *base_shown;    /* how it appears in base_dir */
    uint64_t base_dir;   /* inode */
    int64_t base_folder; /* folder id, also when that folder isn't known yet; 0 = root */
    int64_t updated_at, created_at, appended_at, base_size; /* base_size -1 = unknown */
    bool alias; /* base_shown is the user's name, not derived from base_name */
    bool locked, rich, encrypted, exact, settled,
        inexact;   /* inexact: body holds what a file can't show: read-only */
    int end;       /* enum text_end */
    uint64_t body; /* body file number, 0 = not cached */
    uint64_t body_size;
    uint32_t body_crc;
    int64_t used_at; /* nanoseconds since the epoch, for eviction */
};

/* Frees the strings. */
void store_node_release(struct store_node *node);

/* A request that has been (or is about to be) sent: exactly one per busy node. Nodes of one
 * bulk call share the key and are ordered by `position`. */
struct store_frozen {
    uint64_t ino;
    int op;    /* enum service_op */
    char *key; /* idempotency key */
    unsigned position;
    int64_t note_id; /* note or folder addressed, 0 for creates */
    char *title;     /* title or name sent, NULL = none */
    int place;       /* enum service_place */
    int64_t folder_id;
    unsigned fields; /* enum plan_field, for a PATCH */
    bool append_only;
    uint64_t body; /* body file that holds the text sent, 0 = the text is in the tail or none */
    uint64_t text_size;
    bool exact;                              /* the version made is shown without a final newline */
    uint64_t tail_epoch, tail_from, tail_to; /* bytes of the tail dealt with, tail_to 0 = none */
    uint64_t draft_change; /* the node's change counter (of this run) when the draft was frozen */
    int64_t base_updated_at, base_size;  /* base's version when frozen */
    int64_t first_sent_ms, last_sent_ms; /* real time, ms since the epoch; 0 = not yet sent */
};

void store_frozen_release(struct store_frozen *frozen);

/* Opens or makes DIR/state.db; blocks on disk. Nothing of a database that is refused is changed. *OUT_WHY:
 * constant text on failure. -EUCLEAN corrupt or not ours, -ENOTSUP newer, else errno. */
int store_open(const char *dir, struct store **out, const char **out_why);
void store_close(struct store *store);

/* Transactions nest: only the outermost commits. A failure inside makes store_commit roll back and return it:
 * nothing of the transaction is kept then. */
void store_begin(struct store *store);
int store_commit(struct store *store);

/* 0, -EIO, -ENOSPC, -ENOMEM, -EUCLEAN (damage found); a failed call also fails the transaction. */
int store_put_node(struct store *store, const struct store_node *node);
int store_delete_node(struct store *store, uint64_t ino);
int store_put_frozen(struct store *store, const struct store_frozen *frozen);
int store_erase_frozen(struct store *store, uint64_t ino);
int store_put_meta(struct store *store, const char *key, const char *value); /* VALUE NULL erases */

/* *OUT is malloc'ed, NULL when there is no such key. */
int store_get_meta(struct store *store, const char *key, char **out);
/* Calls EACH for every row, rows in the order they were made; EACH takes over the strings and leaves
 * the store alone. A non-zero result stops and is returned. -EUCLEAN: damaged. */
int store_each_node(struct store *store, int (*each)(struct store_node *node, void *arg), void *arg);
int store_each_frozen(struct store *store, int (*each)(struct store_frozen *frozen, void *arg), void *arg);

/* A number never given out before, 100 at least, also after kill -9 (inodes, body files: one sequence).
 * Cheap: reserves blocks. 0 on failure. After a power loss, numbers may come again whose rows were lost. */
uint64_t store_next_number(struct store *store);

/* Power-loss safety of all commits so far: fdatasync of the write-ahead log. Any thread, no lock needed;
 * blocks on disk. A failure is an error to be reported, never ignored; it stays until a checkpoint has saved
 * everything. */
int store_sync(struct store *store);
/* Moves the log into the database, on a connection of its own. Any one thread, no lock needed; blocks on
 * disk. 0 also when somebody else's reading leaves a part for later. */
int store_checkpoint(struct store *store);

#endif
