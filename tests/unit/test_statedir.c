/* Tests of cache/statedir: two processes and one directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cache/statedir.h"
#include "scratch.h"
#include "watch.h"

enum { LONG_MS = 20000 };

static char scratch[SCRATCH_PATH];
static char path[SCRATCH_PATH];

static int set_up(void **state) {
    (void)state;
    scratch_make(scratch);
    snprintf(path, sizeof path, "%.2000s/a/b/state", scratch);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scratch_remove(scratch);
    return 0;
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct statedir *open_it(int64_t wait_ms) {
    struct statedir *dir;
    int owner;

    assert_int_equal(statedir_open(path, wait_ms, &dir, &owner), 0);
    return dir;
}

static int try_open(int64_t wait_ms, int *out_owner) {
    struct statedir *dir = NULL;
    int rc = statedir_open(path, wait_ms, &dir, out_owner);

    statedir_close(dir);
    return rc;
}

/* --- another process --- */

enum other {
    LIVE,     /* mounts */
    DRAINING, /* offers, and closes 50 ms after it was asked */
    STUBBORN, /* offers, and doesn't close */
};

static atomic_bool asked;

static void note_asked(void *arg) {
    (void)arg;
    atomic_store(&asked, true);
}

static void be_other(enum other what, int ready) {
    struct statedir *dir;
    int owner;

    if (statedir_open(path, 0, &dir, &owner) < 0)
        _exit(1);
    if (what != LIVE && statedir_offer(dir, note_asked, NULL) < 0)
        _exit(2);
    if (write(ready, "", 1) != 1)
        _exit(3);
    while (what != DRAINING || !atomic_load(&asked))
        usleep(1000);
    usleep(50000);
    statedir_close(dir);
    _exit(0);
}

static pid_t start_other(enum other what) {
    int fds[2];
    char byte;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        be_other(what, fds[1]);
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    return child;
}

static void kill_other(pid_t child) {
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* --- making --- */

static void assert_mode(const char *name, mode_t mode) {
    char full[SCRATCH_PATH + 64];
    struct stat status;

    snprintf(full, sizeof full, "%s/%s", path, name);
    assert_int_equal(stat(full, &status), 0);
    assert_int_equal(status.st_mode & 07777, mode);
}

static void test_makes_everything_private(void **state) {
    mode_t before = umask(0);

    (void)state;
    struct statedir *dir = open_it(0);
    umask(before);
    assert_string_equal(statedir_path(dir), path);
    assert_mode("..", 0700);
    assert_mode(".", 0700);
    assert_mode("bodies", 0700);
    assert_mode("tails", 0700);
    assert_mode("state.lock", 0600);
    assert_int_equal(mkdirat(statedir_bodies(dir), "1", 0700), 0);
    assert_mode("bodies/1", 0700);
    assert_int_equal(mkdirat(statedir_tails(dir), "2", 0700), 0);
    assert_mode("tails/2", 0700);
    statedir_close(dir);
    statedir_close(NULL);
    statedir_close(open_it(0));
}

static void test_refuses_what_others_can_read(void **state) {
    int owner;

    (void)state;
    statedir_close(open_it(0));
    assert_int_equal(chmod(path, 0750), 0);
    assert_int_equal(try_open(0, &owner), -EACCES);
    assert_mode(".", 0750);
    assert_int_equal(chmod(path, 0700), 0);
    snprintf(path, sizeof path, "%.2000s/a/b/state/bodies", scratch);
    assert_int_equal(chmod(path, 0701), 0);
    snprintf(path, sizeof path, "%.2000s/a/b/state", scratch);
    assert_int_equal(try_open(0, &owner), -EACCES);
}

static void test_refuses_what_others_own(void **state) {
    int owner;

    (void)state;
    if (geteuid() != 0)
        skip();
    statedir_close(open_it(0));
    assert_int_equal(chown(path, 1, 1), 0);
    assert_int_equal(try_open(0, &owner), -EACCES);
}

static void test_refuses_nonsense(void **state) {
    int owner;

    (void)state;
    path[0] = 0;
    assert_int_equal(try_open(0, &owner), -ENOENT);
    snprintf(path, sizeof path, "%.2000s/file", scratch);
    scratch_write(path, "x", 1);
    assert_int_equal(try_open(0, &owner), -ENOTDIR);
    snprintf(path, sizeof path, "%.2000s/file/below", scratch);
    assert_int_equal(try_open(0, &owner), -ENOTDIR);
}

static void test_syncs_all_directories(void **state) {
    struct statedir *dir = open_it(0);

    (void)state;
    watch_start(path);
    assert_int_equal(statedir_sync(dir), 0);
    assert_int_equal(watch_syncs_here() >= 3, 1);
    watch_fail("/tails");
    assert_int_equal(statedir_sync(dir), -EIO);
    watch_stop();
    statedir_close(dir);
}

/* --- the lock --- */

static void test_live_mount_is_busy_at_once(void **state) {
    pid_t child = start_other(LIVE);
    int64_t begin = now_ms();
    int owner = 0;

    (void)state;
    assert_int_equal(try_open(LONG_MS, &owner), -EBUSY);
    assert_int_equal(owner, child);
    assert_true(now_ms() - begin < LONG_MS / 4);
    kill_other(child);
    statedir_close(open_it(0));
}

static void test_own_process_is_busy_too(void **state) {
    struct statedir *dir = open_it(0);
    int owner;

    (void)state;
    assert_int_equal(try_open(0, &owner), -EBUSY);
    assert_int_equal(owner, getpid());
    statedir_close(dir);
}

static void test_hand_over(void **state) {
    pid_t child = start_other(DRAINING);
    int status;

    (void)state;
    assert_mode("handover.sock", 0600);
    struct statedir *dir = open_it(LONG_MS);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* Now it is ours, and live. */
    int owner;
    assert_int_equal(try_open(LONG_MS, &owner), -EBUSY);
    assert_int_equal(owner, getpid());
    statedir_close(dir);
}

/* Newcomers that come while an owner closes get the lock, all of them, one after the other. */
static void test_hand_over_has_no_gap(void **state) {
    (void)state;
    for (int round = 0; round < 10; round++) {
        pid_t first = start_other(DRAINING);
        pid_t second = fork();
        assert_true(second >= 0);
        if (second == 0) {
            struct statedir *dir;
            int owner;
            usleep(40000 + (unsigned)round * 2000);
            int rc = statedir_open(path, LONG_MS, &dir, &owner);
            _exit(rc == 0 || rc == -EBUSY ? 0 : 1);
        }
        /* Asks at once; the first closes 50 ms later, about when the second comes. */
        statedir_close(open_it(LONG_MS));
        int status;
        assert_int_equal(waitpid(first, &status, 0), first);
        assert_int_equal(status, 0);
        assert_int_equal(waitpid(second, &status, 0), second);
        assert_int_equal(status, 0);
    }
}

static void test_stubborn_owner_is_busy_in_the_end(void **state) {
    pid_t child = start_other(STUBBORN);
    int64_t begin = now_ms();
    int owner;

    (void)state;
    assert_int_equal(try_open(300, &owner), -EBUSY);
    assert_true(now_ms() - begin >= 300);
    assert_int_equal(owner, child);
    kill_other(child);
}

static void test_stale_socket_is_removed(void **state) {
    struct stat status;
    char socket_path[SCRATCH_PATH + 64];

    (void)state;
    kill_other(start_other(STUBBORN));
    snprintf(socket_path, sizeof socket_path, "%s/handover.sock", path);
    assert_int_equal(stat(socket_path, &status), 0);
    struct statedir *dir = open_it(0);
    assert_int_equal(stat(socket_path, &status), -1);
    assert_int_equal(statedir_offer(dir, note_asked, NULL), 0);
    assert_int_equal(statedir_offer(dir, note_asked, NULL), -EALREADY);
    statedir_close(dir);
    statedir_close(open_it(0));
}

static void count_asked(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_is_asked_once(void **state) {
    struct statedir *dir = open_it(0);
    atomic_int count = 0;
    int owner;

    (void)state;
    assert_int_equal(statedir_offer(dir, count_asked, &count), 0);
    usleep(20000);
    assert_int_equal(atomic_load(&count), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(try_open(50, &owner), -EBUSY);
    assert_int_equal(atomic_load(&count), 1);
    statedir_close(dir);
}

static void test_lock_survives_daemonising(void **state) {
    struct statedir *dir = open_it(0);
    int owner;

    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        pause();
        _exit(0);
    }
    /* As exit does: without LOCK_UN. */
    statedir_close(dir);
    assert_int_equal(try_open(0, &owner), -EBUSY);
    kill_other(child);
    statedir_close(open_it(0));
}

/* Longer than an address of a socket can be. */
static void test_deep_path(void **state) {
    (void)state;
    for (int i = 0; i < 12; i++)
        strcat(path, "/a-directory-with-a-rather-long-name-for-a-test");
    assert_true(strlen(path) > 500);
    pid_t child = start_other(DRAINING);
    statedir_close(open_it(LONG_MS));
    assert_int_equal(waitpid(child, NULL, 0), child);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_makes_everything_private, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_others_can_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_what_others_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_syncs_all_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_live_mount_is_busy_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_own_process_is_busy_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hand_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hand_over_has_no_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stubborn_owner_is_busy_in_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stale_socket_is_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_is_asked_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_survives_daemonising, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deep_path, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("statedir", tests, NULL, NULL);
}
