/* store: transactions, meta, numbers and durability; store_open.c opens, store_rows.c knows the rows.
 *
 * One SQLite database in WAL mode, one process (statedir's lock), three connections:
 *
 *   writer        of the callers, who hold the cache's lock. synchronous=OFF: it writes the log and never
 *                 syncs, so that a commit costs a few pwrites. What is in the log is safe from kill -9.
 *   checkpointer  of the thread that calls store_checkpoint, synchronous=FULL: moves the log to the database.
 *   pin           of the same thread: a read transaction that keeps the log from being restarted meanwhile.
 *
 * store_sync is an fdatasync of the log through a descriptor of our own. That covers every commit before it:
 * a commit is frames in the log and nothing else; the log is the same file all the time (only the last
 * connection to close removes it); a frame counts only with the checksums of all before it, so what survives
 * a power loss is a prefix of the commits. Closing that descriptor drops no locks of SQLite: those are fcntl
 * locks on the database and on -shm, and POSIX ties them to these inodes.
 *
 * Order of writes. A checkpoint syncs the log, writes the database, syncs it, and only then counts the frames
 * as moved (walCheckpoint in SQLite's wal.c). The danger is what follows: a commit that finds everything
 * moved starts the log again from its beginning. Should new frames reach the disk before the new header, a
 * power loss leaves the old header with a part of the old frames, which are older than the database. SQLite
 * syncs the header in that commit; with synchronous=OFF it doesn't. So no commit may ever restart the log.
 * While the checkpoint runs the pin's read transaction forbids it. Afterwards, between two transactions, the
 * log is cut to nothing if all is moved; if commits came meanwhile there is something to move, which forbids
 * it too. Cut, there are no old frames, and a cut that is itself lost in a power loss leaves the whole old
 * log, which says what the database says. (File systems keep a cut and what is written after it in order: no
 * block is used again before its release is on disk.) Should a cut fail, because somebody else reads the
 * database, the writer runs with synchronous=NORMAL until one succeeds.
 *
 * A failed sync is remembered: the kernel reports it once and then forgets the pages. store_sync fails from
 * then on until a checkpoint has brought everything into the database and has cut the log.
 */
#include "cache/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/disk.h"

enum {
    NUMBER_BLOCK = 1000,
    /* Times that a checkpoint runs after commits that came meanwhile, and the length of the log (64 MiB) from
     * which the last time makes them wait. */
    CHECKPOINT_ROUNDS = 4,
    LONG_LOG_FRAMES = 16384,
};

int store_error(sqlite3 *db, int rc) {
    int system = sqlite3_system_errno(db);

    switch (rc & 0xFF) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CANTOPEN:
        return system ? -system : -EIO;
    default:
        if (sqlite3_extended_errcode(db) == SQLITE_IOERR_NOMEM)
            return -ENOMEM;
        return system == ENOSPC || system == EDQUOT ? -ENOSPC : -EIO;
    }
}

int store_execute(sqlite3 *db, const char *sql) {
    return store_error(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

void store_enter(struct store *store) {
    if (store->entered++ == 0)
        pthread_mutex_lock(&store->idle);
}

void store_leave(struct store *store) {
    if (--store->entered == 0)
        pthread_mutex_unlock(&store->idle);
}

int store_run(struct store *store, enum store_statement which, int bound) {
    sqlite3_stmt *statement = store->statements[which];
    /* SQLite may have rolled back by itself: what followed would be committed for itself. */
    int rc = store->failed;

    if (rc == 0)
        rc = store_error(store->writer, bound == SQLITE_OK ? sqlite3_step(statement) : bound);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    store->failed = rc;
    return rc;
}

/* --- transactions --- */

void store_begin(struct store *store) {
    assert(store->owner == getpid());
    store_enter(store);
    if (store->depth++ == 0)
        store_run(store, STORE_BEGIN, SQLITE_OK);
}

/* Commits or undoes the outermost transaction. */
static int finish(struct store *store) {
    int rc = store_run(store, STORE_COMMIT, SQLITE_OK);

    if (rc < 0 && !sqlite3_get_autocommit(store->writer))
        store_execute(store->writer, "ROLLBACK");
    /* A reservation of numbers may have been undone; those given out under it stay given out. */
    if (rc < 0)
        store->number_limit = store->next_number;
    store->failed = 0;
    return rc;
}

int store_commit(struct store *store) {
    assert(store->depth > 0);
    int rc = store->depth > 1 ? store->failed : finish(store);

    store->depth--;
    store_leave(store);
    return rc;
}

/* --- meta and numbers --- */

int store_put_meta(struct store *store, const char *key, const char *value) {
    enum store_statement which = value ? STORE_PUT_META : STORE_ERASE_META;

    assert(store->depth > 0);
    int bound = sqlite3_bind_text(store->statements[which], 1, key, -1, SQLITE_STATIC);
    if (bound == SQLITE_OK && value)
        bound = sqlite3_bind_text(store->statements[which], 2, value, -1, SQLITE_STATIC);
    return store_run(store, which, bound);
}

int store_get_meta(struct store *store, const char *key, char **out) {
    sqlite3_stmt *statement = store->statements[STORE_GET_META];
    char *value = NULL;

    store_enter(store);
    int result = sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    int rc = store_error(store->writer, result);
    if (result == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(statement, 0);
        value = text ? strdup((const char *)text) : NULL;
        rc = value ? 0 : -ENOMEM;
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    store_leave(store);
    if (rc == 0)
        *out = value;
    return rc;
}

/* Numbers are given out only after the commit that says where the next run begins. Should the power fail
 * before that commit is on disk, every later commit is lost with it, so that no row knows the numbers;
 * body files that do carry them belong to nobody, and body_create refuses to take one over. */
static int reserve_numbers(struct store *store) {
    char limit[24];

    snprintf(limit, sizeof limit, "%" PRIu64, store->next_number + NUMBER_BLOCK);
    store_begin(store);
    store_put_meta(store, STORE_META_NUMBER, limit);
    int rc = store_commit(store);
    if (rc == 0)
        store->number_limit = store->next_number + NUMBER_BLOCK;
    return rc;
}

uint64_t store_next_number(struct store *store) {
    if (store->next_number >= store->number_limit && reserve_numbers(store) < 0)
        return 0;
    return store->next_number++;
}

/* --- durability --- */

int store_sync(struct store *store) {
    return disk_sync(store->log_fd, &store->sync_failed);
}

/* Forbids a restart of the log until unpin. */
static int pin(struct store *store) {
    if (!sqlite3_get_autocommit(store->pin))
        return 0;
    return store_execute(store->pin, "BEGIN; SELECT 1 FROM meta LIMIT 1");
}

static int unpin(struct store *store) {
    return store_execute(store->pin, "COMMIT");
}

/* Cuts the log to nothing, after moving what isn't moved yet. -EBUSY when somebody reads it (sqlite3 on the
 * command line): later then. */
static int cut_log(struct store *store) {
    int rc = store_execute(store->writer, "PRAGMA synchronous=NORMAL");

    rc = rc ? rc : unpin(store);
    if (rc < 0)
        return rc;
    int result =
        sqlite3_wal_checkpoint_v2(store->checkpointer, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    rc = store_error(store->checkpointer, result);
    if (rc < 0)
        return rc;
    store->log_frames = 0;
    atomic_store(&store->sync_failed, 0);
    return store_execute(store->writer, "PRAGMA synchronous=OFF");
}

/* Moves what is in the log now. *OUT_DONE: the log is cut, or commits came meanwhile and this was the LAST
 * round. */
static int checkpoint_round(struct store *store, bool last, bool *out_done) {
    int moved = 0;

    pthread_mutex_lock(&store->idle);
    int rc = pin(store);
    pthread_mutex_unlock(&store->idle);
    if (rc < 0)
        return rc;
    int result =
        sqlite3_wal_checkpoint_v2(store->checkpointer, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, &moved);
    rc = store_error(store->checkpointer, result);
    pthread_mutex_lock(&store->idle);
    bool all = rc == 0 && moved == store->log_frames;
    if (all || (rc == 0 && last && store->log_frames > LONG_LOG_FRAMES))
        rc = cut_log(store);
    else if (unpin(store) < 0 && rc == 0)
        rc = -EIO;
    pthread_mutex_unlock(&store->idle);
    *out_done = all || last;
    return rc;
}

int store_checkpoint(struct store *store) {
    bool done = false;
    int rc = 0;

    for (int round = 1; rc == 0 && !done; round++)
        rc = checkpoint_round(store, round == CHECKPOINT_ROUNDS, &done);
    if (rc == -EBUSY)
        return 0;
    /* Makes the cut itself durable. */
    return rc < 0 ? rc : store_sync(store);
}
