/* Tests of cache/store: what is kept, and what is left of it after kills and power losses. TEST_SEED=N
 * repeats a random run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "cache/store.h"
#include "cache/tail.h"
#include "scratch.h"
#include "watch.h"

enum { PATH = SCRATCH_PATH + 32 };

static char directory[SCRATCH_PATH];
static char database[PATH], log_path[PATH];

static int set_up(void **state) {
    (void)state;
    scratch_make(directory);
    snprintf(database, sizeof database, "%s/state.db", directory);
    snprintf(log_path, sizeof log_path, "%s/state.db-wal", directory);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    watch_stop();
    scratch_remove(directory);
    return 0;
}

static struct store *open_at(const char *path) {
    struct store *store = NULL;
    const char *why = "";
    int rc = store_open(path, &store, &why);

    if (rc < 0)
        fail_msg("store_open: %d, %s", rc, why);
    return store;
}

static struct store *open_store(void) {
    return open_at(directory);
}

/* SQL from outside, while no store is open. */
static void execute(const char *sql) {
    sqlite3 *db;

    assert_int_equal(sqlite3_open(database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void put_ino(struct store *store, uint64_t ino) {
    struct store_node node = {.ino = ino};

    assert_int_equal(store_put_node(store, &node), 0);
}

/* --- all fields --- */

// clang-format off
#define NODE_NUMBERS(X)                                                                                      \
    X(dir)                                                                                                   \
    X(mode)                                                                                                  \
    X(uid)                                                                                                   \
    X(gid)                                                                                                   \
    X(atime_ns)                                                                                              \
    X(mtime_ns)                                                                                              \
    X(ctime_ns)                                                                                              \
    X(tail_epoch)                                                                                            \
    X(tail_from) X(draft) X(ancestor) X(ancestor_size) X(ancestor_updated_at) X(ancestor_bytes)              \
        X(changed_at) X(gone_at) X(error) X(id) X(base_dir) X(base_folder) X(updated_at) X(created_at)       \
            X(appended_at) X(base_size) X(end) X(body) X(body_size) X(body_crc) X(used_at)
#define NODE_FLAGS(X)                                                                                        \
    X(folder)                                                                                                \
    X(scratch)                                                                                               \
    X(want_locked) X(append_born) X(alias) X(locked) X(rich) X(encrypted) X(exact) X(settled) X(inexact)
#define NODE_STRINGS(X) X(name) X(error_code) X(error_message) X(base_name) X(base_shown)

#define FROZEN_NUMBERS(X)                                                                                    \
    X(op)                                                                                                    \
    X(position)                                                                                              \
    X(note_id)                                                                                               \
    X(place)                                                                                                 \
    X(folder_id)                                                                                             \
    X(fields)                                                                                                \
    X(body)                                                                                                  \
    X(text_size)                                                                                             \
    X(tail_epoch) X(tail_from) X(tail_to) X(draft_change) X(base_updated_at) X(base_size) X(first_sent_ms)   \
        X(last_sent_ms)
#define FROZEN_FLAGS(X) X(append_only) X(exact)
#define FROZEN_STRINGS(X) X(key) X(title)
// clang-format on

/* Often the extremes. */
static void random_number(void *out, size_t size) {
    unsigned char *bytes = out;
    uint32_t kind = scratch_random(4);

    for (size_t i = 0; i < size; i++)
        bytes[i] = kind == 0 ? 0 : kind == 1 ? 0xFF : (unsigned char)scratch_random(256);
    if (kind == 2)
        bytes[size - 1] = 0x80;
}

static char *random_string(bool text) {
    char string[301];
    size_t size = scratch_random(3) ? scratch_random(20) : scratch_random(301);

    if (scratch_random(4) == 0)
        return NULL;
    for (size_t i = 0; i < size; i++)
        string[i] = (char)(1 + scratch_random(text ? 127 : 255));
    string[size] = 0;
    return strdup(string);
}

#define FILL_NUMBER(field) random_number(&row->field, sizeof row->field);
#define FILL_FLAG(field) row->field = scratch_random(2) == 1;
#define FILL_STRING(field)                                                                                   \
    row->field = random_string(strncmp(#field, "error", 5) == 0 || strcmp(#field, "key") == 0);

static void fill_node(struct store_node *row, uint64_t ino) {
    *row = (struct store_node){.ino = ino, .content = scratch_random(3)};
    NODE_NUMBERS(FILL_NUMBER)
    NODE_FLAGS(FILL_FLAG)
    NODE_STRINGS(FILL_STRING)
}

static void fill_frozen(struct store_frozen *row, uint64_t ino) {
    *row = (struct store_frozen){.ino = ino};
    FROZEN_NUMBERS(FILL_NUMBER)
    FROZEN_FLAGS(FILL_FLAG)
    FROZEN_STRINGS(FILL_STRING)
}

static void assert_string(const char *a, const char *b) {
    assert_int_equal(a != NULL, b != NULL);
    if (a && b)
        assert_string_equal(a, b);
}

#define SAME_VALUE(field) assert_true(a->field == b->field);
#define SAME_STRING(field) assert_string(a->field, b->field);

static void assert_same_node(const struct store_node *a, const struct store_node *b) {
    assert_true(a->ino == b->ino && a->content == b->content);
    NODE_NUMBERS(SAME_VALUE)
    NODE_FLAGS(SAME_VALUE)
    NODE_STRINGS(SAME_STRING)
}

static void assert_same_frozen(const struct store_frozen *a, const struct store_frozen *b) {
    assert_true(a->ino == b->ino);
    FROZEN_NUMBERS(SAME_VALUE)
    FROZEN_FLAGS(SAME_VALUE)
    FROZEN_STRINGS(SAME_STRING)
}

struct expected {
    struct store_node *nodes;
    struct store_frozen *frozens;
    size_t next;
};

static int check_node(struct store_node *node, void *arg) {
    struct expected *expected = arg;

    assert_same_node(node, &expected->nodes[expected->next++]);
    store_node_release(node);
    return 0;
}

static int check_frozen(struct store_frozen *frozen, void *arg) {
    struct expected *expected = arg;

    assert_same_frozen(frozen, &expected->frozens[expected->next++]);
    store_frozen_release(frozen);
    return 0;
}

static void check_all(struct store *store, struct expected *expected, size_t count) {
    expected->next = 0;
    assert_int_equal(store_each_node(store, check_node, expected), 0);
    assert_int_equal(expected->next, count);
    expected->next = 0;
    assert_int_equal(store_each_frozen(store, check_frozen, expected), 0);
    assert_int_equal(expected->next, count);
}

static void test_all_fields_come_back(void **state) {
    enum { ROWS = 300 };
    static struct store_node nodes[ROWS];
    static struct store_frozen frozens[ROWS];
    struct expected expected = {nodes, frozens, 0};
    struct store *store = open_store();

    (void)state;
    scratch_seed(1);
    for (int round = 0; round < 2; round++) {
        store_begin(store);
        for (uint64_t i = 0; i < ROWS; i++) {
            store_node_release(&nodes[i]);
            store_frozen_release(&frozens[i]);
            /* Not in the order of inodes; over 2^63 too. */
            fill_node(&nodes[i], (i + 1) * 0x9E3779B97F4A7C15u);
            fill_frozen(&frozens[i], (i + 1) * 0x9E3779B97F4A7C15u);
            assert_int_equal(store_put_node(store, &nodes[i]), 0);
            assert_int_equal(store_put_frozen(store, &frozens[i]), 0);
        }
        assert_int_equal(store_commit(store), 0);
        check_all(store, &expected, ROWS);
        store_close(store);
        store = open_store();
        check_all(store, &expected, ROWS);
    }
    store_close(store);
    for (size_t i = 0; i < ROWS; i++) {
        store_node_release(&nodes[i]);
        store_frozen_release(&frozens[i]);
    }
}

static int count_node(struct store_node *node, void *arg) {
    ++*(unsigned *)arg;
    store_node_release(node);
    return 0;
}

struct list {
    uint64_t inos[16];
    size_t count, stop_after;
};

static int note_node(struct store_node *node, void *arg) {
    struct list *list = arg;

    assert_true(list->count < 16);
    list->inos[list->count++] = node->ino;
    store_node_release(node);
    return list->count == list->stop_after ? -EINTR : 0;
}

static void test_order_is_that_of_making(void **state) {
    static const uint64_t before[] = {500, 100, 300}, after[] = {500, 300, 100};
    struct store *store = open_store();
    struct list list = {0};

    (void)state;
    store_begin(store);
    for (size_t i = 0; i < 3; i++)
        put_ino(store, before[i]);
    put_ino(store, 500);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(store_each_node(store, note_node, &list), 0);
    assert_memory_equal(list.inos, before, sizeof before);
    store_begin(store);
    assert_int_equal(store_delete_node(store, 100), 0);
    assert_int_equal(store_delete_node(store, 999), 0);
    put_ino(store, 100);
    assert_int_equal(store_commit(store), 0);
    list = (struct list){0};
    assert_int_equal(store_each_node(store, note_node, &list), 0);
    assert_memory_equal(list.inos, after, sizeof after);
    list = (struct list){.stop_after = 2};
    assert_int_equal(store_each_node(store, note_node, &list), -EINTR);
    assert_int_equal(list.count, 2);
    store_close(store);
}

static void assert_meta(struct store *store, const char *key, const char *value) {
    char *got = NULL;

    assert_int_equal(store_get_meta(store, key, &got), 0);
    assert_string(got, value);
    free(got);
}

static void put_meta(struct store *store, const char *key, const char *value) {
    store_begin(store);
    assert_int_equal(store_put_meta(store, key, value), 0);
    assert_int_equal(store_commit(store), 0);
}

static void test_meta(void **state) {
    struct store *store = open_store();

    (void)state;
    assert_meta(store, "mark", NULL);
    put_meta(store, "mark", "");
    assert_meta(store, "mark", "");
    put_meta(store, "mark", "2026-01-01");
    store_close(store);
    store = open_store();
    assert_meta(store, "mark", "2026-01-01");
    put_meta(store, "mark", NULL);
    put_meta(store, "mark", NULL);
    assert_meta(store, "mark", NULL);
    store_close(store);
}

static size_t count_nodes(struct store *store) {
    struct list list = {0};

    assert_int_equal(store_each_node(store, note_node, &list), 0);
    return list.count;
}

/* --- transactions --- */

static void limit_files(rlim_t size) {
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_nested_transactions_commit_together(void **state) {
    struct store *store = open_store();

    (void)state;
    store_begin(store);
    put_ino(store, 100);
    store_begin(store);
    put_ino(store, 101);
    assert_int_equal(store_commit(store), 0);
    assert_meta(store, "x", NULL);
    assert_int_equal(store_commit(store), 0);
    store_begin(store);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(count_nodes(store), 2);
    store_close(store);
}

/* The log can't grow: everything of the transaction is undone, the store lives on. */
static void test_failed_commit_rolls_back(void **state) {
    struct store *store = open_store();

    (void)state;
    put_meta(store, "kept", "yes");
    limit_files(1);
    store_begin(store);
    store_begin(store);
    put_ino(store, 100);
    store_put_meta(store, "kept", "no");
    store_commit(store);
    int rc = store_commit(store);
    limit_files(RLIM_INFINITY);
    assert_true(rc == -EIO || rc == -ENOSPC);
    assert_int_equal(count_nodes(store), 0);
    assert_meta(store, "kept", "yes");
    store_begin(store);
    put_ino(store, 101);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(count_nodes(store), 1);
    store_close(store);
    store = open_store();
    assert_int_equal(count_nodes(store), 1);
    store_close(store);
}

/* Pages are spilled into the log while a large transaction runs: the failure comes from a put. What succeeds
 * later in the same transaction is undone too. */
static void test_failure_is_sticky(void **state) {
    struct store *store = open_store();
    struct store_node node = {.ino = 100};
    int failure = 0;

    (void)state;
    limit_files(100000);
    store_begin(store);
    for (; node.ino < 200000 && failure == 0; node.ino++)
        failure = store_put_node(store, &node);
    limit_files(RLIM_INFINITY);
    assert_true(failure == -EIO || failure == -ENOSPC);
    node.ino = 1;
    store_put_node(store, &node);
    assert_int_equal(store_commit(store), failure);
    assert_int_equal(count_nodes(store), 0);
    store_begin(store);
    put_ino(store, 7);
    assert_int_equal(store_commit(store), 0);
    assert_int_equal(count_nodes(store), 1);
    store_close(store);
}

/* --- numbers --- */

static void test_numbers_go_up(void **state) {
    struct store *store = open_store();
    uint64_t last = 0;

    (void)state;
    assert_int_equal(store_next_number(store), 100);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2500; i++) {
            uint64_t number = store_next_number(store);
            assert_true(number > last && number >= 100);
            last = number;
        }
        store_close(store);
        store = open_store();
    }
    store_close(store);
}

static void test_numbers_of_undone_transactions_stay_used(void **state) {
    struct store *store = open_store();
    uint64_t last = 0;

    (void)state;
    limit_files(1);
    store_begin(store);
    for (int i = 0; i < 1500; i++) {
        uint64_t number = store_next_number(store);
        assert_true(number > last);
        last = number;
    }
    assert_true(store_commit(store) < 0);
    assert_int_equal(store_next_number(store), 0);
    limit_files(RLIM_INFINITY);
    assert_true(store_next_number(store) > last);
    store_close(store);
    store = open_store();
    assert_true(store_next_number(store) > last);
    store_close(store);
}

/* --- refusals --- */

static void assert_refused(int expected) {
    struct store *store = NULL;
    const char *why = NULL;
    size_t size, after_size;
    char *before = scratch_read(database, &size);

    assert_int_equal(store_open(directory, &store, &why), expected);
    assert_null(store);
    assert_non_null(why);
    char *after = scratch_read(database, &after_size);
    assert_int_equal(after_size, size);
    assert_memory_equal(after, before, size);
    free(before);
    free(after);
}

static void make_store(unsigned rows) {
    struct store *store = open_store();

    store_begin(store);
    for (unsigned i = 0; i < rows; i++)
        put_ino(store, 100 + i);
    assert_int_equal(store_commit(store), 0);
    store_close(store);
}

static void test_newer_is_refused(void **state) {
    (void)state;
    make_store(10);
    execute("PRAGMA user_version=2");
    assert_refused(-ENOTSUP);
    execute("PRAGMA user_version=1");
    store_close(open_store());
    execute("PRAGMA user_version=0");
    assert_refused(-EUCLEAN);
}

static void test_strangers_are_refused(void **state) {
    (void)state;
    scratch_write(database, "", 0);
    assert_refused(-EUCLEAN);
    scratch_write(database, "SQLite format 3", 16);
    assert_refused(-EUCLEAN);
    scratch_write(database, directory, sizeof directory);
    assert_refused(-EUCLEAN);
    assert_int_equal(unlink(database), 0);
    execute("CREATE TABLE t(x); PRAGMA user_version=1");
    assert_refused(-EUCLEAN);
    assert_int_equal(unlink(database), 0);
    assert_int_equal(symlink("/dev/null", database), 0);
    struct store *store;
    const char *why;
    assert_int_equal(store_open(directory, &store, &why), -ELOOP);
}

static void test_other_layout_is_refused(void **state) {
    (void)state;
    make_store(10);
    execute("ALTER TABLE node ADD COLUMN more INTEGER");
    assert_refused(-EUCLEAN);
    execute("ALTER TABLE node DROP COLUMN more");
    execute("DROP TABLE frozen");
    assert_refused(-EUCLEAN);
}

static void test_log_without_database_is_refused(void **state) {
    struct store *store = NULL;
    const char *why = NULL;
    size_t size;

    (void)state;
    scratch_write(log_path, "log", 3);
    assert_int_equal(store_open(directory, &store, &why), -EUCLEAN);
    assert_non_null(why);
    free(scratch_read(log_path, &size));
    assert_int_equal(size, 3);
}

/* Pages in the middle are zeroed. Seen at once if the machine went down with the store open, else by whoever
 * reads it. */
static void test_damage_is_noticed(void **state) {
    struct store *store = NULL;
    static char zeros[100000];
    struct stat status;
    unsigned count = 0;

    (void)state;
    make_store(5000);
    assert_int_equal(stat(database, &status), 0);
    int fd = open(database, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, status.st_size / 2 / 4096 * 4096), sizeof zeros);
    close(fd);
    store = open_store();
    assert_int_equal(store_each_node(store, count_node, &count), -EUCLEAN);
    store_close(store);
    execute("INSERT INTO meta VALUES('store.boot', 'another')");
    assert_refused(-EUCLEAN);
}

/* What a damaged database may hold without SQLite minding. */
static void test_values_that_do_not_fit_are_damage(void **state) {
    static const char *const changes[] = {
        "UPDATE node SET folder=2",          "UPDATE node SET mode=4294967296", "UPDATE node SET content=3",
        "UPDATE node SET error=-3000000000", "UPDATE node SET name=x'410042'",
    };
    struct list list;

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_store(1);
        execute(changes[i]);
        struct store *store = open_store();
        list = (struct list){0};
        assert_int_equal(store_each_node(store, note_node, &list), -EUCLEAN);
        store_close(store);
        execute("DELETE FROM node");
    }
}

static void test_database_is_private(void **state) {
    struct stat status;

    (void)state;
    struct store *store = open_store();
    assert_int_equal(stat(database, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(stat(log_path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    store_close(store);
}

static void test_half_made_database_is_made_anew(void **state) {
    char fresh[PATH];

    (void)state;
    snprintf(fresh, sizeof fresh, "%s/state.db.new", directory);
    scratch_write(fresh, "half", 4);
    store_close(open_store());
    assert_int_equal(access(fresh, F_OK), -1);
}

/* --- durability --- */

static void test_commits_never_sync(void **state) {
    struct store *store = open_store();

    (void)state;
    watch_start(directory);
    for (int round = 0; round < 3; round++) {
        unsigned before = watch_syncs();
        for (uint64_t i = 0; i < 500; i++) {
            store_begin(store);
            put_ino(store, 100 + i % 7);
            assert_true(store_next_number(store) > 0);
            assert_int_equal(store_commit(store), 0);
        }
        assert_int_equal(watch_syncs(), before);
        unsigned log_syncs = watch_synced("-wal");
        assert_int_equal(store_sync(store), 0);
        assert_int_equal(watch_synced("-wal"), log_syncs + 1);
        /* The first commit after it mustn't sync the header of a new log. */
        assert_int_equal(store_checkpoint(store), 0);
        assert_true(watch_synced("state.db") > 0);
    }
    store_close(store);
}

static off_t log_size(void) {
    struct stat status;

    assert_int_equal(stat(log_path, &status), 0);
    return status.st_size;
}

static void test_checkpoint_empties_the_log(void **state) {
    struct store *store = open_store();

    (void)state;
    put_meta(store, "x", "1");
    assert_true(log_size() > 0);
    assert_int_equal(store_checkpoint(store), 0);
    assert_int_equal(log_size(), 0);
    assert_int_equal(store_checkpoint(store), 0);
    put_meta(store, "x", "2");
    assert_true(log_size() > 0);
    assert_meta(store, "x", "2");
    assert_int_equal(store_checkpoint(store), 0);
    assert_meta(store, "x", "2");
    store_close(store);
    assert_int_equal(access(log_path, F_OK), -1);
}

/* Somebody looks at the state with sqlite3: the log can't be cut, nothing else changes. */
static void test_checkpoint_beside_a_reader(void **state) {
    struct store *store = open_store();
    sqlite3 *db;

    (void)state;
    put_meta(store, "x", "1");
    assert_int_equal(sqlite3_open(database, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM meta", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(store_checkpoint(store), 0);
    put_meta(store, "x", "2");
    assert_int_equal(store_checkpoint(store), 0);
    assert_true(log_size() > 0);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(store_checkpoint(store), 0);
    assert_int_equal(log_size(), 0);
    assert_meta(store, "x", "2");
    store_close(store);
}

static void test_failed_sync_stays_until_a_checkpoint(void **state) {
    struct store *store = open_store();

    (void)state;
    watch_start(directory);
    put_meta(store, "x", "1");
    watch_fail("-wal");
    assert_int_equal(store_sync(store), -EIO);
    assert_int_equal(store_checkpoint(store), -EIO);
    watch_fail(NULL);
    assert_int_equal(store_sync(store), -EIO);
    assert_int_equal(store_checkpoint(store), 0);
    assert_int_equal(store_sync(store), 0);
    put_meta(store, "x", "2");
    assert_int_equal(store_sync(store), 0);
    store_close(store);
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct syncer {
    struct store *store;
    atomic_bool stop;
    atomic_int rc;
    atomic_uint checkpoints;
};

static void *sync_on(void *arg) {
    struct syncer *syncer = arg;

    while (!atomic_load(&syncer->stop)) {
        int rc = store_sync(syncer->store);
        rc = rc ? rc : store_checkpoint(syncer->store);
        if (rc < 0)
            atomic_store(&syncer->rc, rc);
        atomic_fetch_add(&syncer->checkpoints, 1);
    }
    return NULL;
}

/* What tells one generation of the log from the next; BEFORE if it was just cut. */
static uint64_t read_salt(int log, uint64_t before) {
    uint64_t salt = 0;

    return pread(log, &salt, sizeof salt, 16) == sizeof salt ? salt : before;
}

/* No commit ever syncs or restarts the log, however they meet. */
static void test_commits_beside_checkpoints(void **state) {
    struct syncer syncer = {.store = open_store()};
    int log = open(log_path, O_RDONLY | O_CLOEXEC);
    uint64_t salt = read_salt(log, 0);
    unsigned restarts = 0;
    int64_t end = now_ms() + 1000;
    uint64_t count = 0;
    pthread_t thread;
    char value[32];

    (void)state;
    watch_start(directory);
    unsigned before = watch_syncs_here();
    assert_int_equal(pthread_create(&thread, NULL, sync_on, &syncer), 0);
    for (; now_ms() < end; count++) {
        snprintf(value, sizeof value, "%llu", (unsigned long long)count);
        store_begin(syncer.store);
        put_ino(syncer.store, 100 + count % 10);
        assert_int_equal(store_put_meta(syncer.store, "count", value), 0);
        assert_int_equal(store_commit(syncer.store), 0);
        uint64_t now = read_salt(log, salt);
        restarts += now != salt;
        salt = now;
        /* So that they begin at every moment of a checkpoint, the end above all. */
        usleep(count % 64 ? scratch_random(200) : 20000);
    }
    atomic_store(&syncer.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&syncer.rc), 0);
    assert_true(atomic_load(&syncer.checkpoints) > 3);
    assert_int_equal(watch_syncs_here(), before);
    assert_true(restarts > 0);
    assert_true(restarts <= watch_shortened("-wal"));
    close(log);
    store_close(syncer.store);
    syncer.store = open_store();
    assert_meta(syncer.store, "count", value);
    store_close(syncer.store);
}

/* --- power loss --- */

enum { SLOTS = 40 };

static int note_times(struct store_node *node, void *arg) {
    int64_t *times = arg;

    assert_true(node->ino >= 100 && node->ino < 100 + SLOTS);
    times[node->ino - 100] = node->mtime_ns;
    store_node_release(node);
    return 0;
}

/* Commit number NUMBER: one row, and meta. */
static void commit_numbered(struct store *store, int64_t number) {
    struct store_node node = {.ino = 100 + (uint64_t)(number % SLOTS), .mtime_ns = number};
    char value[32];

    snprintf(value, sizeof value, "%lld", (long long)number);
    store_begin(store);
    assert_int_equal(store_put_node(store, &node), 0);
    assert_int_equal(store_put_meta(store, "last", value), 0);
    assert_int_equal(store_commit(store), 0);
}

/* The store holds exactly the first commits up to some number. That number. */
static int64_t check_prefix(struct store *store) {
    int64_t times[SLOTS] = {0};
    char *text = NULL;

    assert_int_equal(store_get_meta(store, "last", &text), 0);
    int64_t last = text ? strtoll(text, NULL, 10) : 0;
    free(text);
    assert_int_equal(store_each_node(store, note_times, times), 0);
    for (int64_t i = last > SLOTS ? last - SLOTS + 1 : 1; i <= last; i++)
        assert_int_equal(times[i % SLOTS], i);
    if (last < SLOTS)
        for (int64_t i = last + 1; i < SLOTS; i++)
            assert_int_equal(times[i % SLOTS], 0);
    return last;
}

static void check_power_loss(int64_t synced, int64_t committed, bool strict) {
    char after[SCRATCH_PATH];

    scratch_make(after);
    watch_power_loss(after, strict);
    struct store *store = open_at(after);
    int64_t last = check_prefix(store);
    assert_true(last >= synced && last <= committed);
    /* It lives on. */
    commit_numbered(store, last + 1);
    assert_int_equal(check_prefix(store), last + 1);
    store_close(store);
    scratch_remove(after);
}

static void run_until_power_loss(uint64_t seed, bool strict) {
    struct store *store = open_store();
    int64_t committed = check_prefix(store), synced = 0;

    scratch_seed(seed);
    for (uint32_t steps = 1 + scratch_random(60); steps > 0; steps--) {
        uint32_t step = scratch_random(20);
        if (step < 16) {
            commit_numbered(store, ++committed);
            if (scratch_random(6) == 0)
                check_power_loss(synced, committed, strict);
            continue;
        }
        if (step == 16)
            assert_int_equal(store_checkpoint(store), 0);
        else
            assert_int_equal(store_sync(store), 0);
        synced = committed;
        if (scratch_random(3) == 0)
            check_power_loss(synced, committed, strict);
    }
    check_power_loss(synced, committed, strict);
    store_close(store);
}

static void power_losses(bool strict) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        /* From the making of the database on. */
        watch_start(directory);
        run_until_power_loss(seed, strict);
        watch_stop();
        scratch_remove(directory);
        assert_int_equal(mkdir(directory, 0700), 0);
    }
}

static void test_power_losses(void **state) {
    (void)state;
    power_losses(true);
}

static void test_power_losses_with_luck(void **state) {
    (void)state;
    power_losses(false);
}

/* --- kills --- */

enum { RECORD = 10 };

/* What the victim tells once it is true, the first time when it has opened everything. */
struct answer {
    uint64_t records, commits, number;
};

static void tell(int answers, const struct answer *answer) {
    if (write(answers, answer, sizeof *answer) != sizeof *answer)
        _exit(1);
}

static void work_forever(int answers) {
    struct syncer syncer = {0};
    struct answer answer = {0};
    struct tail *tail;
    pthread_t thread;
    const char *why;
    char record[RECORD + 1], *last = NULL;
    int top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (tail_open(top, 50, 1, &tail) < 0 || store_open(directory, &syncer.store, &why) < 0)
        _exit(1);
    if (store_get_meta(syncer.store, "last", &last) < 0)
        _exit(1);
    answer.records = tail_size(tail) / RECORD;
    answer.commits = last ? strtoull(last, NULL, 10) : 0;
    answer.number = store_next_number(syncer.store);
    tell(answers, &answer);
    if (pthread_create(&thread, NULL, sync_on, &syncer) != 0)
        _exit(1);
    for (;;) {
        snprintf(record, sizeof record, "%09llu\n", (unsigned long long)answer.records % 1000000000);
        if (tail_append(tail, record, RECORD) < 0)
            _exit(1);
        answer.records++;
        if (answer.records % 3 == 0)
            commit_numbered(syncer.store, (int64_t)++answer.commits);
        if (answer.records % 5 == 0)
            answer.number = store_next_number(syncer.store);
        tell(answers, &answer);
    }
}

/* Takes in an answer: none of what TOLD says is lost. */
static void note_answer(struct answer *told, const struct answer *next, bool first) {
    assert_true(next->records >= told->records && next->commits >= told->commits);
    assert_true(first ? next->number > told->number : next->number >= told->number);
    *told = *next;
}

static void run_and_kill(unsigned delay_us, struct answer *told) {
    struct answer next;
    int fds[2], status;
    bool first = true;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        work_forever(fds[1]);
    close(fds[1]);
    /* Opening is attacked as well: every other time the clock starts when it is done. */
    if (delay_us % 2 == 0 && read(fds[0], &next, sizeof next) == sizeof next) {
        note_answer(told, &next, first);
        first = false;
    }
    usleep(delay_us);
    kill(child, SIGKILL);
    for (; read(fds[0], &next, sizeof next) == sizeof next; first = false)
        note_answer(told, &next, first);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void check_records(int top, uint64_t told) {
    struct tail *tail;
    char expected[RECORD + 1];

    assert_int_equal(tail_open(top, 50, 1, &tail), 0);
    size_t size = tail_size(tail);
    char *read = malloc(size + 1);
    assert_non_null(read);
    assert_true(size / RECORD >= told && size % RECORD == 0);
    assert_int_equal(tail_read(tail, 0, read, size), 0);
    for (size_t i = 0; i < size / RECORD; i++) {
        snprintf(expected, sizeof expected, "%09llu\n", (unsigned long long)i % 1000000000);
        assert_memory_equal(read + i * RECORD, expected, RECORD);
    }
    free(read);
    tail_put(tail);
}

static void test_kills(void **state) {
    enum { KILLS = 220 };
    int top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct answer told = {0};

    (void)state;
    scratch_seed(7);
    for (int i = 1; i <= KILLS; i++) {
        run_and_kill(scratch_random(12000), &told);
        if (i % 10 != 0)
            continue;
        /* All of the content; and some runs begin after a clean close. */
        check_records(top, told.records);
        struct store *store = open_store();
        assert_true((uint64_t)check_prefix(store) >= told.commits);
        assert_true(store_next_number(store) > told.number);
        store_close(store);
        assert_int_equal(tail_unlink(top, 50), 0);
        told.records = 0;
    }
    close(top);
}

/* --- size --- */

static void test_large_account_loads_fast(void **state) {
    enum { NODES = 50000, BOUND_MS = 500 };
    struct store *store = open_store();
    char name[40], shown[40], base[40];
    struct store_node node = {.dir = 1, .name = name, .base_name = base, .base_shown = shown, .base_dir = 1};
    unsigned count = 0;
    int64_t slack = getenv("TEST_SLOW") ? 20 : 1;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    slack = 20;
#endif
    store_begin(store);
    for (int i = 0; i < NODES; i++) {
        snprintf(name, sizeof name, "a-note-of-some-length-%d.md", i);
        memcpy(shown, name, sizeof name);
        memcpy(base, name, sizeof name);
        node.ino = store_next_number(store);
        node.id = i + 1;
        node.updated_at = node.created_at = 1700000000 + i;
        assert_int_equal(store_put_node(store, &node), 0);
    }
    assert_int_equal(store_commit(store), 0);
    store_close(store);
    int64_t begin = now_ms();
    store = open_store();
    assert_int_equal(store_each_node(store, count_node, &count), 0);
    assert_true(now_ms() - begin < BOUND_MS * slack);
    assert_int_equal(count, NODES);
    store_close(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_fields_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_is_that_of_making, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_meta, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nested_transactions_commit_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_commit_rolls_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure_is_sticky, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_go_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_of_undone_transactions_stay_used, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_newer_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strangers_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_layout_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log_without_database_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values_that_do_not_fit_are_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_database_is_private, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_made_database_is_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commits_never_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoint_empties_the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoint_beside_a_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_sync_stays_until_a_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commits_beside_checkpoints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_power_losses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_power_losses_with_luck, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kills, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_account_loads_fast, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
