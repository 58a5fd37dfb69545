#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "cache/cache_internal.h"
#include "cache/sync.h"

enum {
    SETTLE_MS = 600000,
    IDLE_ROUNDS = 2000, /* rounds at one instant that do nothing: it spins */
    HELD_MS = 1000,     /* what is held is asked about that often */
    NAME_SIZE = 256,
};

static void log_line(int level, const char *text, void *arg) {
    struct rig *rig = arg;

    rig->complaints += level <= LOG_ERR;
    if (getenv("TEST_LOG"))
        fprintf(stderr, "[%lld] %d %s\n", (long long)rig->clock.now_ms, level, text);
}

void rig_make(struct rig *rig, uint64_t seed) {
    *rig = (struct rig){0};
    fake_clock_init(&rig->clock, seed);
    rig->face = fake_clock_face(&rig->clock);
    model_init(&rig->model, &rig->clock);
    if (access("/dev/shm", W_OK) == 0) /* syncs cost nothing there */
        (void)setenv("TMPDIR", "/dev/shm", 0);
    scratch_make(rig->top);
    snprintf(rig->dir, sizeof rig->dir, "%s/0", rig->top);
    rig->config = (struct cache_config){
        .ttl_ms = 5000,
        .settle_ms = 1000,
        .settle_delete_ms = 10000,
        .uid = 1000,
        .gid = 1000,
        .umask = 022,
        .log = log_line,
    };
}

void rig_open(struct rig *rig) {
    char *why = NULL;

    assert_null(rig->cache);
    rig->config.state_dir = rig->dir;
    rig->config.clock = &rig->face;
    rig->config.log_arg = rig;
    rig->service = model_service(&rig->model);
    int err = cache_create(&rig->config, rig->service, &rig->cache, &why);
    if (err)
        fail_msg("cache_create: %s (%s)", strerror(-err), why ? why : "");
    rig_run(rig, 0);
}

void rig_close(struct rig *rig) {
    cache_destroy(rig->cache);
    rig->cache = NULL;
    rig->service = NULL;
}

void rig_free(struct rig *rig) {
    if (rig->cache)
        rig_close(rig);
    model_release(&rig->model);
    scratch_remove(rig->top);
}

/* --- kills --- */

static void copy_tree(const char *from, const char *to) {
    DIR *dir = opendir(from);
    struct dirent *entry;

    assert_non_null(dir);
    assert_int_equal(mkdir(to, 0700), 0);
    while ((entry = readdir(dir))) {
        char source[SCRATCH_PATH + 2 * NAME_SIZE], target[SCRATCH_PATH + 2 * NAME_SIZE];
        struct stat status;
        size_t size;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        assert_int_equal(lstat(source, &status), 0);
        if (S_ISDIR(status.st_mode))
            copy_tree(source, target);
        if (!S_ISREG(status.st_mode) || strstr(entry->d_name, "-shm"))
            continue; /* a socket; the shared memory of SQLite is made anew */
        char *data = scratch_read(source, &size);
        scratch_write(target, data, size);
        free(data);
    }
    closedir(dir);
}

void rig_snapshot(struct rig *rig) {
    char next[SCRATCH_PATH + 16];

    snprintf(next, sizeof next, "%s/%u", rig->top, rig->lives + 1);
    copy_tree(rig->dir, next);
}

void rig_kill_back(struct rig *rig, bool arrives) {
    char former[SCRATCH_PATH + 16];

    model_cut(rig->service, arrives);
    rig_close(rig);
    snprintf(former, sizeof former, "%s", rig->dir);
    snprintf(rig->dir, sizeof rig->dir, "%s/%u", rig->top, ++rig->lives);
    scratch_remove(former);
}

void rig_kill(struct rig *rig, bool arrives) {
    rig_snapshot(rig);
    rig_kill_back(rig, arrives);
}

/* --- time --- */

static int64_t one_round(struct rig *rig) {
    int64_t at_ms;

    pthread_mutex_lock(&rig->cache->lock);
    sync_round(rig->cache, &at_ms);
    pthread_mutex_unlock(&rig->cache->lock);
    rig->rounds++;
    return at_ms;
}

/* Answers what is in the line now; what these answers set off comes next time. */
static bool answer(struct rig *rig) {
    size_t count = rig->manual ? 0 : model_waiting(rig->service), held = 0;

    for (size_t i = 0; i < count; i++)
        held += !model_answer(rig->service, held);
    return held < count;
}

/* Everything that can happen now. Gives the time of what comes next. */
static int64_t do_all(struct rig *rig) {
    int64_t at_ms;
    unsigned spins = 0;

    do {
        at_ms = one_round(rig);
        assert_true(spins++ < IDLE_ROUNDS);
    } while (answer(rig) || rig->cache->kicked || at_ms <= rig->clock.now_ms);
    return at_ms;
}

static void run_until(struct rig *rig, int64_t end_ms, const bool *stop) {
    int64_t at_ms = do_all(rig);

    while (rig->clock.now_ms < end_ms && !(stop && *stop)) {
        int64_t again_ms = rig->clock.now_ms + HELD_MS;

        if (!rig->manual && model_waiting(rig->service) && again_ms < at_ms)
            at_ms = again_ms;
        fake_clock_advance(&rig->clock, (at_ms < end_ms ? at_ms : end_ms) - rig->clock.now_ms);
        at_ms = do_all(rig);
    }
}

void rig_run(struct rig *rig, int64_t ms) {
    run_until(rig, rig->clock.now_ms + ms, NULL);
}

unsigned rig_dirty(struct rig *rig) {
    unsigned count = 0;

    for (const struct node *node = rig->cache->tree.dirty; node; node = node->dirty_next)
        count += !(node->r.scratch && node->dir);
    return count;
}

static bool only_parked(const struct rig *rig) {
    for (const struct node *node = rig->cache->tree.dirty; node; node = node->dirty_next)
        if (!node->r.error && !node->bad_text)
            return false;
    return true;
}

bool rig_settle(struct rig *rig) {
    int64_t end_ms = rig->clock.now_ms + SETTLE_MS;

    rig_run(rig, 0);
    while (rig_dirty(rig) && rig->clock.now_ms < end_ms && !only_parked(rig))
        rig_run(rig, 1000);
    return rig_dirty(rig) == 0;
}

/* --- waiting as a program does --- */

struct wait {
    struct cache_waiter waiter; /* first */
    bool woken;
};

static void wake(struct cache_waiter *waiter) {
    ((struct wait *)waiter)->woken = true;
}

static void wait_on(struct rig *rig, struct wait *wait) {
    int64_t end_ms = wait->waiter.deadline_ms;

    if (end_ms == INT64_MAX)
        end_ms = rig->clock.now_ms + SETTLE_MS;
    if (!wait->woken)
        run_until(rig, end_ms, &wait->woken);
    if (!wait->woken && wait->waiter.deadline_ms == INT64_MAX && !rig->manual)
        fail_msg("a request waits forever");
    cache_cancel(rig->cache, &wait->waiter);
    wait->woken = false;
}

/* Repeats CALL, which uses wait.waiter, as cache.h wants it. */
#define AWAIT(rig, result, call)                                                                             \
    do {                                                                                                     \
        struct wait wait = {.waiter = {.wake = wake}};                                                       \
        while (((result) = (call)) == CACHE_WAIT)                                                            \
            wait_on((rig), &wait);                                                                           \
    } while (0)

/* --- files --- */

static int lookup_in(struct rig *rig, uint64_t dir, const char *name, uint64_t *out_ino) {
    struct cache_entry entry;
    int err;

    AWAIT(rig, err, cache_lookup(rig->cache, dir, name, &wait.waiter, &entry));
    if (err == 0) {
        *out_ino = entry.attr.st_ino;
        cache_forget(rig->cache, *out_ino, 1);
    }
    return err;
}

/* The directory and the last component of PATH. */
static int split(struct rig *rig, const char *path, uint64_t *out_dir, const char **out_name) {
    const char *slash = strchr(path, '/');
    char folder[NAME_SIZE];

    *out_dir = CACHE_ROOT_INO;
    *out_name = slash ? slash + 1 : path;
    if (!slash)
        return 0;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return lookup_in(rig, CACHE_ROOT_INO, folder, out_dir);
}

int rig_lookup(struct rig *rig, const char *path, uint64_t *out_ino) {
    const char *name;
    uint64_t dir;
    int err = split(rig, path, &dir, &name);

    return err ? err : lookup_in(rig, dir, name, out_ino);
}

int rig_open_file(struct rig *rig, const char *path, int flags, struct cache_handle **out) {
    struct cache_opened opened = {0};
    struct cache_entry entry;
    const char *name;
    uint64_t dir, ino;
    int err = split(rig, path, &dir, &name);

    if (err)
        return err;
    err = lookup_in(rig, dir, name, &ino);
    if (err == -ENOENT && (flags & O_CREAT)) {
        AWAIT(rig, err, cache_make(rig->cache, dir, name, 0644, flags, &wait.waiter, &entry, &opened));
        if (err == 0)
            cache_forget(rig->cache, entry.attr.st_ino, 1);
    } else if (err == 0) {
        AWAIT(rig, err, cache_open(rig->cache, ino, flags, &wait.waiter, &opened));
    }
    *out = opened.handle;
    return err;
}

int rig_write(struct rig *rig, struct cache_handle *handle, const char *text, uint64_t offset, int flags) {
    int err;

    AWAIT(rig, err, cache_write(handle, text, strlen(text), offset, flags, &wait.waiter));
    return err;
}

static void log_deed(const struct rig *rig, const char *what, const char *path, const char *more, int err) {
    if (getenv("TEST_LOG"))
        fprintf(stderr, "[%lld] %s %s %s: %d\n", (long long)rig->clock.now_ms, what, path, more, err);
}

static int write_and_close(struct rig *rig, const char *path, const char *text, int flags) {
    struct cache_handle *handle;
    int err = rig_open_file(rig, path, flags | O_WRONLY | O_CREAT, &handle);

    if (err)
        return err;
    if (*text)
        err = rig_write(rig, handle, text, 0, flags & O_APPEND);
    if (err == 0)
        err = cache_flush(handle);
    cache_close(handle);
    log_deed(rig, flags & O_APPEND ? "append" : "put", path, text, err);
    return err;
}

int rig_put(struct rig *rig, const char *path, const char *text) {
    return write_and_close(rig, path, text, O_TRUNC);
}

int rig_append(struct rig *rig, const char *path, const char *text) {
    return write_and_close(rig, path, text, O_APPEND);
}

int rig_truncate(struct rig *rig, const char *path, uint64_t size) {
    struct stat attr = {.st_size = (off_t)size};
    struct cache_entry entry;
    uint64_t ino;
    int err = rig_lookup(rig, path, &ino);

    if (err == 0)
        AWAIT(rig, err, cache_setattr(rig->cache, ino, &attr, CACHE_SET_SIZE, NULL, &wait.waiter, &entry));
    log_deed(rig, "truncate", path, "", err);
    return err;
}

int rig_fsync(struct rig *rig, struct cache_handle *handle) {
    int err;

    AWAIT(rig, err, cache_fsync(handle, &wait.waiter));
    return err;
}

char *rig_get(struct rig *rig, const char *path, int *out_error) {
    struct cache_handle *handle;
    struct cache_entry entry;
    size_t got = 0;
    char *data = NULL;
    int err = rig_open_file(rig, path, O_RDONLY, &handle);

    *out_error = err;
    if (err)
        return NULL;
    AWAIT(rig, err, cache_getattr(rig->cache, cache_handle_ino(handle), &wait.waiter, &entry));
    if (err == 0) {
        size_t size = (size_t)entry.attr.st_size;

        data = malloc(size + 2);
        assert_non_null(data);
        /* One more than there should be. */
        AWAIT(rig, err, cache_read(handle, data, size + 1, 0, &wait.waiter, &got));
        if (err == 0)
            assert_int_equal(got, size);
        data[got] = '\0';
    }
    cache_close(handle);
    *out_error = err;
    if (err == 0)
        return data;
    free(data);
    return NULL;
}

/* --- names --- */

int rig_unlink(struct rig *rig, const char *path) {
    const char *name;
    uint64_t dir;
    int err = split(rig, path, &dir, &name);

    if (err == 0)
        AWAIT(rig, err, cache_unlink(rig->cache, dir, name, &wait.waiter));
    log_deed(rig, "unlink", path, "", err);
    return err;
}

int rig_rename(struct rig *rig, const char *from, const char *to, unsigned flags) {
    const char *name, *new_name;
    uint64_t dir, new_dir;
    int err = split(rig, from, &dir, &name);

    if (err == 0)
        err = split(rig, to, &new_dir, &new_name);
    if (err == 0)
        AWAIT(rig, err, cache_rename(rig->cache, dir, name, new_dir, new_name, flags, &wait.waiter));
    log_deed(rig, "rename", from, to, err);
    return err;
}

int rig_mkdir(struct rig *rig, const char *name) {
    struct cache_entry entry;
    int err;

    AWAIT(rig, err, cache_mkdir(rig->cache, CACHE_ROOT_INO, name, 0755, &wait.waiter, &entry));
    if (err == 0)
        cache_forget(rig->cache, entry.attr.st_ino, 1);
    return err;
}

int rig_rmdir(struct rig *rig, const char *name) {
    int err;

    AWAIT(rig, err, cache_rmdir(rig->cache, CACHE_ROOT_INO, name, &wait.waiter));
    return err;
}

int rig_flush_all(struct rig *rig) {
    int err;

    AWAIT(rig, err, cache_flush_all(rig->cache, &wait.waiter));
    return err;
}

int rig_refresh(struct rig *rig) {
    int err;

    AWAIT(rig, err, cache_refresh(rig->cache, &wait.waiter));
    return err;
}

/* --- assertions --- */

void rig_assert_file(struct rig *rig, const char *path, const char *text) {
    int err;
    char *found = rig_get(rig, path, &err);

    if (!found)
        fail_msg("%s: %s", path, strerror(-err));
    assert_string_equal(found, text);
    free(found);
}

void rig_assert_note(struct rig *rig, const char *filename, const char *body) {
    const struct account_note *note = account_find(&rig->model.account, filename);

    if (!note)
        fail_msg("the service has no note %s", filename);
    assert_string_equal(note->body, body);
}

unsigned rig_count(const struct rig *rig, const char *text) {
    const struct account *account = &rig->model.account;
    unsigned count = 0;

    for (size_t i = 0; i < account->note_count; i++)
        for (const char *at = account->notes[i]->body; (at = strstr(at, text)); at++)
            count++;
    return count;
}

static void print_all(const struct rig *rig) {
    const struct account *account = &rig->model.account;

    for (size_t i = 0; i < account->note_count; i++)
        fprintf(stderr, "service: %lld in %lld: %s: \"%s\"\n", (long long)account->notes[i]->id,
                (long long)account->notes[i]->folder_id, account->notes[i]->filename,
                account->notes[i]->body);
}

static void assert_shows(struct rig *rig, const struct account_note *note) {
    const struct account *account = &rig->model.account;
    char path[2 * NAME_SIZE];
    int err;

    snprintf(path, sizeof path, "%s", note->filename);
    for (size_t i = 0; i < account->folder_count; i++)
        if (account->folders[i].id == note->folder_id)
            snprintf(path, sizeof path, "%s/%s", account->folders[i].name, note->filename);
    char *shown = rig_get(rig, path, &err);
    if (!shown) {
        print_all(rig);
        fail_msg("%s is on the service, here: %s", path, strerror(-err));
    }
    size_t size = strlen(shown);
    if (strncmp(shown, note->body, note->size) != 0 ||
        (size != note->size && strcmp(shown + note->size, "\n") != 0)) {
        print_all(rig);
        fail_msg("%s shows \"%s\", the service has \"%s\"", path, shown, note->body);
    }
    free(shown);
}

/* The entries of DIR; below the root those of its folders, too. PRINT: also for people. */
static size_t count_entries(struct rig *rig, uint64_t dir, bool print) {
    const char *name;
    struct cache_listing *listing;
    size_t count = 0;
    bool directory;
    uint64_t ino;
    int err;

    AWAIT(rig, err, cache_list(rig->cache, dir, &wait.waiter, &listing));
    assert_int_equal(err, 0);
    for (size_t i = 0; (name = cache_listing_name(listing, i, &ino, &directory)); i++) {
        count += 1 + (directory && dir == CACHE_ROOT_INO && ino != dir ? count_entries(rig, ino, print) : 0);
        if (print)
            fprintf(stderr, "mount: %s\n", name);
    }
    cache_listing_destroy(listing);
    return count;
}

void rig_assert_same(struct rig *rig) {
    const struct account *account = &rig->model.account;

    assert_int_equal(rig_refresh(rig), 0);
    rig_run(rig, 60000);
    for (size_t i = 0; i < account->note_count; i++)
        assert_shows(rig, account->notes[i]);
    size_t entries = count_entries(rig, CACHE_ROOT_INO, false);
    if (entries != account->note_count + account->folder_count) {
        print_all(rig);
        (void)count_entries(rig, CACHE_ROOT_INO, true);
        fail_msg("%zu entries are shown, the service has %zu notes and %zu folders", entries,
                 account->note_count, account->folder_count);
    }
}
