/* Tests of cache/body. TEST_SEED=N repeats a random run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "cache/body.h"
#include "scratch.h"
#include "watch.h"

enum { LARGE = 200000 };

static char directory[SCRATCH_PATH];
static int top;

static int set_up(void **state) {
    (void)state;
    scratch_make(directory);
    top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return top < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    close(top);
    scratch_remove(directory);
    return 0;
}

static struct body *create(uint64_t number, const char *text) {
    struct body *body;

    assert_int_equal(body_create(top, number, &body), 0);
    assert_int_equal(body_write(body, 0, text, strlen(text)), 0);
    return body;
}

static void assert_text(const struct body *body, const char *text) {
    char read[256];

    assert_int_equal(body_size(body), strlen(text));
    assert_int_equal(body_read(body, 0, read, strlen(text)), 0);
    assert_memory_equal(read, text, strlen(text));
}

static void test_write_and_read(void **state) {
    struct body *body = create(100, "hello world");
    char path[SCRATCH_PATH + 16], read[16];
    struct stat status;

    (void)state;
    assert_int_equal(body_number(body), 100);
    assert_int_equal(body_write(body, 6, "there", 5), 0);
    assert_text(body, "hello there");
    assert_int_equal(body_read(body, 6, read, 6), -EIO);
    assert_int_equal(body_truncate(body, 5), 0);
    assert_text(body, "hello");
    body_put(body);
    body_put(NULL);

    snprintf(path, sizeof path, "%s/100", directory);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(body_open(top, 100, &body), 0);
    assert_text(body, "hello");
    body_put(body);
}

static void test_numbers_are_taken_once(void **state) {
    struct body *body = create(100, "mine");
    struct body *other = NULL;

    (void)state;
    assert_int_equal(body_create(top, 100, &other), -EEXIST);
    assert_int_equal(body_open(top, 101, &other), -ENOENT);
    assert_null(other);
    assert_text(body, "mine");
    body_put(body);
}

static void test_links_are_not_followed(void **state) {
    struct body *body = create(100, "target");
    struct body *link = NULL;

    (void)state;
    assert_int_equal(symlinkat("100", top, "101"), 0);
    assert_int_equal(body_open(top, 101, &link), -EIO);
    assert_int_equal(body_create(top, 101, &link), -EEXIST);
    body_put(body);
}

static void test_dropped_bodies_stay_readable(void **state) {
    struct body *body = create(100, "text");
    struct body *reader = body_get(body);

    (void)state;
    assert_int_equal(body_drop(top, 100), 0);
    assert_int_equal(body_drop(top, 100), 0);
    body_put(body);
    assert_text(reader, "text");
    assert_int_equal(body_open(top, 100, &body), -ENOENT);
    body_put(reader);
}

static struct body *create_random(uint64_t number, char *model) {
    struct body *body;

    for (size_t i = 0; i < LARGE; i++)
        model[i] = (char)scratch_random(256);
    assert_int_equal(body_create(top, number, &body), 0);
    assert_int_equal(body_write(body, 0, model, LARGE), 0);
    return body;
}

static void test_copy(void **state) {
    char *model = malloc(LARGE), *read = malloc(LARGE);
    struct body *to = create(101, "begin:");

    (void)state;
    assert_true(model && read);
    scratch_seed(1);
    struct body *from = create_random(100, model);
    assert_int_equal(body_copy(from, LARGE - 1, to, 6), 0);
    assert_int_equal(body_size(to), LARGE - 1 + 6);
    assert_int_equal(body_read(to, 6, read, LARGE - 1), 0);
    assert_memory_equal(read, model, LARGE - 1);
    assert_int_equal(body_copy(from, LARGE + 1, to, 6), -EIO);
    assert_int_equal(body_copy(from, 0, to, 0), 0);
    body_put(from);
    body_put(to);
    free(model);
    free(read);
}

/* Within one file the kernel refuses ranges that overlap: the plain way. */
static void test_copy_through_memory(void **state) {
    char *model = malloc(LARGE), *read = malloc(LARGE);

    (void)state;
    assert_true(model && read);
    scratch_seed(2);
    struct body *body = create_random(100, model);
    assert_int_equal(body_copy(body, LARGE / 2, body, LARGE / 2), 0);
    assert_int_equal(body_read(body, LARGE / 2, read, LARGE / 2), 0);
    assert_memory_equal(read, model, LARGE / 2);
    body_put(body);
    free(model);
    free(read);
}

static void test_checksum(void **state) {
    char *model = malloc(LARGE);
    uint32_t crc;

    (void)state;
    assert_non_null(model);
    scratch_seed(3);
    struct body *body = create_random(100, model);
    for (int i = 0; i < 50; i++) {
        size_t from = scratch_random(LARGE + 1), cut = from + scratch_random((uint32_t)(LARGE - from) + 1);
        assert_int_equal(body_crc(body, from, cut - from, 0, &crc), 0);
        assert_int_equal(crc, crc32_z(0, (const Bytef *)model + from, cut - from));
        /* A body that grows. */
        assert_int_equal(body_crc(body, cut, LARGE - cut, crc, &crc), 0);
        assert_int_equal(crc, crc32_z(0, (const Bytef *)model + from, LARGE - from));
    }
    assert_int_equal(body_crc(body, 1, LARGE, 0, &crc), -EIO);
    body_put(body);
    free(model);
}

static void test_equal(void **state) {
    char *model = malloc(LARGE);
    struct body *b;
    bool equal = false;

    (void)state;
    assert_non_null(model);
    scratch_seed(4);
    struct body *a = create_random(100, model);
    assert_int_equal(body_create(top, 101, &b), 0);
    assert_int_equal(body_write(b, 9, model, LARGE), 0);
    assert_int_equal(body_equal(a, 0, b, 9, LARGE, &equal), 0);
    assert_true(equal);
    for (int i = 0; i < 50; i++) {
        size_t at = i == 0 ? LARGE - 1 : scratch_random(LARGE);
        char other = (char)~model[at];
        assert_int_equal(body_write(b, 9 + at, &other, 1), 0);
        assert_int_equal(body_equal(a, 0, b, 9, LARGE, &equal), 0);
        assert_false(equal);
        assert_int_equal(body_equal(a, 0, b, 9, at, &equal), 0);
        assert_true(equal);
        assert_int_equal(body_write(b, 9 + at, model + at, 1), 0);
    }
    assert_int_equal(body_equal(a, 1, b, 10, LARGE, &equal), -EIO);
    body_put(a);
    body_put(b);
    free(model);
}

static void note_number(uint64_t number, void *arg) {
    uint64_t *sum = arg;

    *sum += number;
}

static void test_each(void **state) {
    uint64_t sum = 0;

    (void)state;
    body_put(create(100, ""));
    body_put(create(2000, ""));
    body_put(create(UINT64_MAX / 2, ""));
    /* Not names of ours. */
    assert_int_equal(mkdirat(top, "x", 0700), 0);
    assert_int_equal(mkdirat(top, "12x", 0700), 0);
    assert_int_equal(mkdirat(top, "012", 0700), 0);
    assert_int_equal(mkdirat(top, "99999999999999999999999", 0700), 0);
    for (int round = 1; round <= 2; round++) {
        sum = 0;
        assert_int_equal(body_each(top, note_number, &sum), 0);
        assert_int_equal(sum, 2100 + UINT64_MAX / 2);
    }
}

static void test_too_large(void **state) {
    struct body *body = create(100, "text");
    struct rlimit limit;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(body_write(body, 998, "text", 4), -EFBIG);
    assert_int_equal(body_truncate(body, 1001), -EFBIG);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    body_put(body);
}

static void test_sync_syncs_and_its_failure_stays(void **state) {
    struct body *body = create(100, "text");
    struct body *other = create(101, "text");

    (void)state;
    watch_start(directory);
    assert_int_equal(body_sync(body), 0);
    assert_int_equal(watch_synced("100"), 1);
    watch_fail("/100");
    assert_int_equal(body_sync(body), -EIO);
    assert_int_equal(body_sync(other), 0);
    watch_fail(NULL);
    assert_int_equal(body_sync(body), -EIO);
    watch_stop();
    body_put(body);
    body_put(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_are_taken_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_are_not_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dropped_bodies_stay_readable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_through_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checksum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_equal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sync_syncs_and_its_failure_stays, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
