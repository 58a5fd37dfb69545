/* store_open: making, checking, opening and closing the database.
 *
 * Making. The database is made under the name state.db.new, closed, synced and renamed: a file called
 * state.db is always whole. A kill before that leaves a state.db.new that never held anything; the next
 * start makes it anew.
 *
 * Checking. Nothing is repaired or removed here. Before SQLite sees the file its header must show our
 * application_id and a version that we know; that refuses strangers' and newer files without touching them.
 * The version and the layout are then read again through SQLite, as the log may hold newer ones. A refused
 * database is closed without the checkpoint that SQLite does at the last close. A log without its database is
 * refused too: SQLite would play it into the new one. The whole database is read (quick_check) only when the
 * machine went down under it: as long as a process has it open, meta holds the boot's id. Kill -9 can't tear
 * pages, a power loss on a disk that lies can.
 *
 * Order of writes at open: log created (with its header synced) by the commit of the boot's id, log synced,
 * directory synced. From then on commits sync nothing (store.c).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/store_internal.h"

enum {
    STORE_APPLICATION = 0x4A6F7473, /* "Jots" */
    STORE_VERSION = 1,
    /* From the file format: offsets of big-endian fields, and the size, of the database header. */
    HEADER_SIZE = 100,
    HEADER_VERSION = 60,
    HEADER_APPLICATION = 68,
    /* Only programs of others (sqlite3 on the command line) can be in the way. */
    BUSY_MS = 2000,
    BOOT_ID_SIZE = 64,
};

static const char why_space[] = "no memory";
static const char why_path[] = "the path of the state directory is too long";
static const char why_create[] = "the state database can't be made";
static const char why_open[] = "the state database can't be opened";
static const char why_lost[] = "state.db is missing beside its log state.db-wal";
static const char why_foreign[] = "state.db isn't a database of jotsfs";
static const char why_newer[] = "state.db was written by a newer version of jotsfs";
static const char why_corrupt[] = "state.db is damaged";
static const char why_boot[] = "the state database can't be written";

/* DIR/state.db and its companions. */
struct paths {
    char database[PATH_MAX], log[PATH_MAX], fresh[PATH_MAX];
};

static int paths_init(struct paths *paths, const char *dir) {
    /* With room for the longest suffix, "-journal". */
    if (strlen(dir) + sizeof "/state.db.new-journal" > sizeof paths->fresh)
        return -ENAMETOOLONG;
    snprintf(paths->database, sizeof paths->database, "%s/state.db", dir);
    snprintf(paths->log, sizeof paths->log, "%s/state.db-wal", dir);
    snprintf(paths->fresh, sizeof paths->fresh, "%s/state.db.new", dir);
    return 0;
}

static int sync_directory(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Opens a connection that leaves the log alone when it is closed. */
static int connect_to(const char *path, sqlite3 **out) {
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(path, &db, flags, NULL);

    rc = db ? store_error(db, rc) : -ENOMEM;
    if (rc == 0)
        rc = store_error(db, sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL));
    if (rc < 0) {
        sqlite3_close(db);
        return rc;
    }
    *out = db;
    return 0;
}

/* --- making --- */

/* An empty file, in place of what a killed run left. */
static int make_file(const char *path) {
    static const char *const suffixes[] = {"", "-journal", "-wal", "-shm"};
    char name[PATH_MAX + 16];

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        if (unlink(name) < 0 && errno != ENOENT)
            return -errno;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int make_tables(sqlite3 *db) {
    const char *name;
    char *sql = NULL;
    char number[96];
    int rc = store_execute(db, "PRAGMA synchronous=FULL; BEGIN IMMEDIATE");

    for (size_t i = 0; rc == 0 && (sql = store_layout(i, &name)) != NULL; i++) {
        rc = store_execute(db, sql);
        sqlite3_free(sql);
    }
    snprintf(number, sizeof number, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
             STORE_APPLICATION, STORE_VERSION);
    rc = rc ? rc : store_execute(db, number);
    return rc ? rc : store_execute(db, "PRAGMA journal_mode=WAL");
}

static int make_database(const char *dir, const struct paths *paths) {
    sqlite3 *db = NULL;
    int rc = make_file(paths->fresh);

    rc = rc ? rc : connect_to(paths->fresh, &db);
    rc = rc ? rc : make_tables(db);
    /* Here the log shall go. */
    rc = rc ? rc : store_error(db, sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL));
    sqlite3_close(db);
    if (rc == 0 && rename(paths->fresh, paths->database) < 0)
        rc = -errno;
    return rc ? rc : sync_directory(dir);
}

/* --- checking --- */

static uint32_t header_field(const unsigned char *header, size_t at) {
    return (uint32_t)header[at] << 24 | (uint32_t)header[at + 1] << 16 | (uint32_t)header[at + 2] << 8 |
           header[at + 3];
}

static int check_version(uint32_t version, const char **out_why) {
    if (version == STORE_VERSION)
        return 0;
    *out_why = version > STORE_VERSION ? why_newer : why_corrupt;
    return version > STORE_VERSION ? -ENOTSUP : -EUCLEAN;
}

/* Looks at the file itself. Closing it drops this process's locks on it: no connection may be open yet. */
static int check_header(const char *path, const char **out_why) {
    unsigned char header[HEADER_SIZE];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0) {
        *out_why = why_open;
        return -errno;
    }
    ssize_t size = pread(fd, header, sizeof header, 0);
    int rc = size < 0 ? -errno : 0;
    close(fd);
    if (rc < 0) {
        *out_why = why_open;
        return rc;
    }
    if (size < HEADER_SIZE || memcmp(header, "SQLite format 3", 16) != 0 ||
        header_field(header, HEADER_APPLICATION) != STORE_APPLICATION) {
        *out_why = why_foreign;
        return -EUCLEAN;
    }
    return check_version(header_field(header, HEADER_VERSION), out_why);
}

/* Compares the one value that SQL yields with WISH. Anything else but equality: *OUT_EQUAL false. */
static int query_equals(sqlite3 *db, const char *sql, const char *parameter, const char *wish,
                        bool *out_equal) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

    if (result == SQLITE_OK && parameter)
        result = sqlite3_bind_text(statement, 1, parameter, -1, SQLITE_STATIC);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const unsigned char *value = result == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
    *out_equal = value && strcmp((const char *)value, wish) == 0;
    int rc = store_error(db, result);
    sqlite3_finalize(statement);
    return rc;
}

static int check_layout(sqlite3 *db) {
    const char *name;
    char *sql;
    bool equal = true;
    int rc = 0;

    for (size_t i = 0; rc == 0 && equal && (sql = store_layout(i, &name)) != NULL; i++) {
        rc = query_equals(db, "SELECT sql FROM sqlite_schema WHERE type='table' AND name=?1", name, sql,
                          &equal);
        sqlite3_free(sql);
    }
    return rc ? rc : equal ? 0 : -EUCLEAN;
}

static int read_version(sqlite3 *db, uint32_t *out) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL);

    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        *out = (uint32_t)sqlite3_column_int64(statement, 0);
    int rc = store_error(db, result);
    sqlite3_finalize(statement);
    return rc;
}

/* As check_header, but with what is in the log. */
static int check_database(sqlite3 *db, const char **out_why) {
    uint32_t version = 0;
    bool is_log = false;
    int rc = read_version(db, &version);

    if (rc == 0)
        rc = check_version(version, out_why);
    if (rc == 0)
        rc = query_equals(db, "PRAGMA journal_mode", NULL, "wal", &is_log);
    if (rc == 0)
        rc = is_log ? check_layout(db) : -EUCLEAN;
    if (rc < 0 && !*out_why)
        *out_why = rc == -EUCLEAN ? why_corrupt : why_open;
    return rc;
}

/* --- the boot's id --- */

static void read_boot_id(char *out, size_t size) {
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (!file || !fgets(out, (int)size, file))
        snprintf(out, size, "unknown");
    if (file)
        fclose(file);
    out[strcspn(out, "\n")] = 0;
}

/* Reads all pages if the last process that had the database open didn't close it and the machine was started
 * since. */
static int check_after_power_loss(struct store *store, const char *boot) {
    char *last = NULL;
    bool sound = true;
    int rc = store_get_meta(store, STORE_META_BOOT, &last);

    if (rc == 0 && last && (strcmp(last, boot) != 0 || strcmp(boot, "unknown") == 0))
        rc = query_equals(store->writer, "PRAGMA quick_check(1)", NULL, "ok", &sound);
    free(last);
    return rc ? rc : sound ? 0 : -EUCLEAN;
}

static int mark_boot(struct store *store, const char *boot) {
    store_begin(store);
    store_put_meta(store, STORE_META_BOOT, boot);
    return store_commit(store);
}

/* --- opening and closing --- */

static int log_hook(void *arg, sqlite3 *db, const char *name, int frames) {
    struct store *store = arg;

    (void)db;
    (void)name;
    store->log_frames = frames;
    return SQLITE_OK;
}

static int load_number(struct store *store) {
    char *text = NULL;
    int rc = store_get_meta(store, STORE_META_NUMBER, &text);

    if (rc < 0)
        return rc;
    store->next_number = text ? strtoull(text, NULL, 10) : STORE_FIRST_NUMBER;
    store->number_limit = store->next_number;
    free(text);
    return store->next_number < STORE_FIRST_NUMBER ? -EUCLEAN : 0;
}

static int open_writer(struct store *store, const char *path, const char **out_why) {
    int rc = connect_to(path, &store->writer);

    if (rc == 0)
        rc = store_error(store->writer, sqlite3_busy_timeout(store->writer, BUSY_MS));
    if (rc < 0) {
        *out_why = rc == -EUCLEAN ? why_corrupt : why_open;
        return rc;
    }
    rc = check_database(store->writer, out_why);
    if (rc < 0)
        return rc;
    sqlite3_wal_hook(store->writer, log_hook, store);
    rc = store_prepare(store);
    rc = rc ? rc : load_number(store);
    if (rc < 0)
        *out_why = rc == -EUCLEAN ? why_corrupt : why_open;
    return rc;
}

/* The first commit, as durable as a directory entry, and the other connections. */
static int start(struct store *store, const char *dir, const struct paths *paths, const char **out_why) {
    char boot[BOOT_ID_SIZE];

    read_boot_id(boot, sizeof boot);
    int rc = check_after_power_loss(store, boot);
    if (rc < 0) {
        *out_why = rc == -EUCLEAN ? why_corrupt : why_open;
        return rc;
    }
    *out_why = why_boot;
    rc = store_execute(store->writer, "PRAGMA synchronous=NORMAL");
    rc = rc ? rc : mark_boot(store, boot);
    store->log_fd = rc ? -1 : open(paths->log, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (rc == 0 && store->log_fd < 0)
        rc = -errno;
    rc = rc ? rc : store_sync(store);
    rc = rc ? rc : sync_directory(dir);
    rc = rc ? rc : store_execute(store->writer, "PRAGMA synchronous=OFF");
    rc = rc ? rc : connect_to(paths->database, &store->pin);
    rc = rc ? rc : connect_to(paths->database, &store->checkpointer);
    return rc ? rc : store_execute(store->checkpointer, "PRAGMA synchronous=FULL; SELECT 1 FROM meta");
}

static void release(struct store *store) {
    for (size_t i = 0; i < STORE_STATEMENTS; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->writer);
    sqlite3_close(store->pin);
    sqlite3_close(store->checkpointer);
    if (store->log_fd >= 0)
        close(store->log_fd);
    pthread_mutex_destroy(&store->idle);
    free(store);
}

static int open_or_make(const char *dir, const struct paths *paths, const char **out_why) {
    struct stat status;

    if (lstat(paths->database, &status) == 0)
        return check_header(paths->database, out_why);
    *out_why = why_create;
    if (errno != ENOENT)
        return -errno;
    if (lstat(paths->log, &status) == 0 && status.st_size > 0) {
        *out_why = why_lost;
        return -EUCLEAN;
    }
    return make_database(dir, paths);
}

int store_open(const char *dir, struct store **out, const char **out_why) {
    struct paths paths;
    const char *why = NULL;
    int rc = paths_init(&paths, dir);

    if (rc < 0) {
        *out_why = why_path;
        return rc;
    }
    rc = open_or_make(dir, &paths, &why);
    if (rc < 0) {
        *out_why = why;
        return rc;
    }
    struct store *store = calloc(1, sizeof *store);
    if (!store) {
        *out_why = why_space;
        return -ENOMEM;
    }
    store->log_fd = -1;
    store->owner = getpid();
    pthread_mutex_init(&store->idle, NULL);
    why = NULL;
    rc = open_writer(store, paths.database, &why);
    rc = rc ? rc : start(store, dir, &paths, &why);
    if (rc < 0) {
        release(store);
        *out_why = why;
        return rc;
    }
    *out = store;
    return 0;
}

/* The checkpointer closes last: SQLite then moves the whole log, syncs the database and removes the log. When
 * that fails the log stays, and the next open reads it. */
void store_close(struct store *store) {
    if (!store)
        return;
    assert(store->depth == 0);
    store_begin(store);
    store_put_meta(store, STORE_META_BOOT, NULL);
    store_commit(store);
    sqlite3_db_config(store->checkpointer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    release(store);
}
