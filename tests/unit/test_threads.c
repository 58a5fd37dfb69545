/* The cache with its own thread, a service that answers on another, and eight threads of programs: for the thread
 * sanitizer, and for what can only deadlock or be freed too early. TEST_SECONDS=N runs longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"
#include "model_service.h"
#include "scratch.h"

enum { THREADS = 8, NAMES = 6, NAME_BYTES = 32, TICK_US = 500, DRAIN_MS = 30000 };

static struct cache *cache;
static struct service *service;
static struct model model;
static struct fake_clock model_clock; /* moved by the service's thread only */
static atomic_bool stop, stop_service;
static atomic_uint events;

static int64_t now_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static enum model_fate sometimes(const struct service_call *call, enum service_error *out_error, void *arg) {
    static unsigned turn;

    (void)call;
    (void)out_error;
    (void)arg;
    turn++;
    return turn % 13 == 0 ? MODEL_LOSE_REPLY : turn % 17 == 0 ? MODEL_LOSE_CALL : MODEL_ANSWER;
}

static void *serve(void *arg) {
    (void)arg;
    while (!atomic_load(&stop_service)) {
        model_clock.real_ms = (int64_t)time(NULL) * 1000;
        if (model_pump(service) == 0)
            usleep(TICK_US);
    }
    return NULL;
}

struct wait {
    struct cache_waiter waiter; /* first */
    atomic_bool woken;
};

static void wake(struct cache_waiter *waiter) {
    atomic_store(&((struct wait *)waiter)->woken, true);
}

static void wait_on(struct wait *wait) {
    while (!atomic_load(&wait->woken) && now_ms() < wait->waiter.deadline_ms)
        usleep(TICK_US);
    cache_cancel(cache, &wait->waiter);
    atomic_store(&wait->woken, false);
}

#define AWAIT(result, call)                                                                                  \
    do {                                                                                                     \
        struct wait wait = {.waiter = {.wake = wake}};                                                       \
        while (((result) = (call)) == CACHE_WAIT)                                                            \
            wait_on(&wait);                                                                                  \
    } while (0)

static void write_something(uint64_t dir, const char *name, int flags, const char *line) {
    struct cache_opened opened = {0};
    struct cache_entry entry;
    char data[256];
    size_t got;
    int err;

    AWAIT(err, cache_make(cache, dir, name, 0644, flags, &wait.waiter, &entry, &opened));
    if (err)
        return;
    if (opened.handle && (flags & O_ACCMODE) != O_RDONLY) {
        AWAIT(err, cache_write(opened.handle, line, strlen(line), 0, flags & O_APPEND, &wait.waiter));
        AWAIT(err, cache_fsync(opened.handle, &wait.waiter));
    }
    if ((flags & O_ACCMODE) != O_WRONLY)
        AWAIT(err, cache_read(opened.handle, data, sizeof data, 0, &wait.waiter, &got));
    (void)cache_flush(opened.handle);
    cache_close(opened.handle);
    cache_forget(cache, entry.attr.st_ino, 1);
}

static void look(uint64_t dir) {
    struct cache_listing *listing = NULL;
    struct cache_status *status = NULL;
    struct cache_entry entry;
    struct statvfs stats;
    int err;

    AWAIT(err, cache_list(cache, dir, &wait.waiter, &listing));
    for (size_t i = 0; err == 0 && i < cache_listing_count(listing); i++)
        if (cache_listing_entry(cache, listing, i, &entry) == 0)
            cache_forget(cache, entry.attr.st_ino, 1);
    if (err == 0)
        cache_listing_destroy(listing);
    if (cache_status(cache, &status) == 0)
        cache_status_destroy(status);
    cache_statfs(cache, &stats);
}

static void do_something(unsigned *seed, uint64_t box, const char *line) {
    static const int ways[] = {O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC, O_RDWR, O_RDONLY};
    uint64_t dir = rand_r(seed) % 2 ? CACHE_ROOT_INO : box;
    char name[NAME_BYTES], other[NAME_BYTES];
    int err;

    snprintf(name, sizeof name, "name%d", rand_r(seed) % NAMES);
    snprintf(other, sizeof other, "name%d", rand_r(seed) % NAMES);
    switch (rand_r(seed) % 8) {
    case 0:
        AWAIT(err, cache_unlink(cache, dir, name, &wait.waiter));
        break;
    case 1:
        AWAIT(err, cache_rename(cache, dir, name, CACHE_ROOT_INO, other,
                                rand_r(seed) % 3 ? 0 : RENAME_EXCHANGE, &wait.waiter));
        break;
    case 2:
        look(dir);
        break;
    case 3:
        (void)cache_fsync_dir(cache, dir);
        break;
    default:
        write_something(dir, name, ways[rand_r(seed) % 4], line);
    }
}

static void *run(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    struct cache_entry entry;
    uint64_t box = CACHE_ROOT_INO;
    int err;

    AWAIT(err, cache_mkdir(cache, CACHE_ROOT_INO, "box", 0755, &wait.waiter, &entry));
    if (err == -EEXIST)
        AWAIT(err, cache_lookup(cache, CACHE_ROOT_INO, "box", &wait.waiter, &entry));
    if (err == 0)
        box = entry.attr.st_ino;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        char line[NAME_BYTES];

        snprintf(line, sizeof line, "thread %u line %u\n", (unsigned)(uintptr_t)arg, i);
        do_something(&seed, box, line);
    }
    return NULL;
}

static void inode_changed(uint64_t ino, bool data, void *arg) {
    (void)ino;
    (void)data;
    (void)arg;
    atomic_fetch_add(&events, 1);
}

static void entry_changed(uint64_t dir, const char *name, uint64_t ino, void *arg) {
    (void)dir;
    (void)ino;
    (void)arg;
    atomic_fetch_add(&events, (unsigned)strlen(name));
}

static void eight_threads(void **state) {
    const char *seconds = getenv("TEST_SECONDS");
    pthread_t threads[THREADS], server;
    char dir[SCRATCH_PATH], *why = NULL;
    bool done = false;

    (void)state;
    scratch_make(dir);
    fake_clock_init(&model_clock, 1);
    model_init(&model, &model_clock);
    model.decide = sometimes;
    service = model_service(&model);
    const struct cache_config config = {
        .state_dir = dir,
        .ttl_ms = 50,
        .settle_ms = 20,
        .settle_delete_ms = 100,
        .cache_size_bytes = 4096,
        .events = {.inode_changed = inode_changed, .entry_changed = entry_changed}};
    assert_int_equal(cache_create(&config, service, &cache, &why), 0);
    assert_int_equal(cache_start(cache), 0);
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    assert_int_equal(cache_prove(cache, DRAIN_MS, &why), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)i), 0);
    usleep((seconds ? (unsigned)atoi(seconds) : 2) * 1000000);
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    (void)cache_drain(cache, DRAIN_MS, &done);
    assert_true(done);
    atomic_store(&stop_service, true);
    pthread_join(server, NULL);
    cache_destroy(cache);
    model_release(&model);
    scratch_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
