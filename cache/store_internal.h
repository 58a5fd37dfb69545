/* store_internal: what the files of the store module share. */
#ifndef JOTSFS_CACHE_STORE_INTERNAL_H
#define JOTSFS_CACHE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sqlite3.h>

#include "cache/store.h"

/* Statements that are prepared once. */
enum store_statement {
    STORE_BEGIN,
    STORE_COMMIT,
    STORE_GET_META,
    STORE_PUT_META,
    STORE_ERASE_META,
    STORE_PUT_NODE,
    STORE_DELETE_NODE,
    STORE_EACH_NODE,
    STORE_PUT_FROZEN,
    STORE_ERASE_FROZEN,
    STORE_EACH_FROZEN,
    STORE_STATEMENTS,
};

struct store {
    sqlite3 *writer;             /* guarded by `idle`; never syncs (store.c) */
    sqlite3 *checkpointer, *pin; /* of the thread that calls store_checkpoint */
    sqlite3_stmt *statements[STORE_STATEMENTS];

    /* Held by the callers' side whenever it uses the writer: through whole transactions, never across a
     * sync. The checkpointing thread takes it for moments. Nothing is locked inside it. */
    pthread_mutex_t idle;
    unsigned entered, depth; /* the rest: guarded by the cache's lock, as all callers' calls */
    int failed;              /* of the transaction that is open, negative errno */
    uint64_t next_number, number_limit;
    pid_t owner; /* SQLite's locks don't survive fork */

    int log_frames;         /* in the write-ahead log after the last commit; guarded by `idle` */
    int log_fd;             /* a descriptor of our own on the log */
    atomic_int sync_failed; /* a sync failed: what it covered isn't known to be on disk */
};

/* Negative errno for SQLite's result RC (0 for success). */
int store_error(sqlite3 *db, int rc);
/* Runs SQL without results. */
int store_execute(sqlite3 *db, const char *sql);
/* The writer is ours until store_leave; pairs nest. */
void store_enter(struct store *store);
void store_leave(struct store *store);
/* Runs a bound statement that returns no rows, unless the transaction has failed, and makes it ready for the
 * next use. A failure fails the transaction. BOUND: SQLite's result of binding. */
int store_run(struct store *store, enum store_statement which, int bound);

/* --- store_rows.c: the layout --- */

/* The SQL that makes table number INDEX, in malloc'ed memory of SQLite (sqlite3_free); *OUT_NAME: constant.
 * NULL past the end (and when out of memory). */
char *store_layout(size_t index, const char **out_name);
/* Prepares all statements. */
int store_prepare(struct store *store);

/* Keys of table meta that belong to the store itself. */
#define STORE_META_NUMBER "store.next_number"
#define STORE_META_BOOT "store.boot"

enum { STORE_FIRST_NUMBER = 100 };

#endif
