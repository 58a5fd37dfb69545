/* Tests of cache/tail: what survives cuts, flipped bits, full disks and kills. TEST_SEED=N repeats a random
 * run. */
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
#include <unistd.h>

#include "cache/tail.h"
#include "scratch.h"
#include "watch.h"

enum { INO = 123, EPOCH = 7, HEADER = 24 };

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

static char *tail_path(void) {
    static char path[SCRATCH_PATH + 16];

    snprintf(path, sizeof path, "%s/%d", directory, INO);
    return path;
}

static struct tail *create(void) {
    struct tail *tail;

    assert_int_equal(tail_create(top, INO, EPOCH, &tail), 0);
    return tail;
}

static struct tail *reopen(void) {
    struct tail *tail;

    assert_int_equal(tail_open(top, INO, EPOCH, &tail), 0);
    return tail;
}

static void append(struct tail *tail, const char *text) {
    assert_int_equal(tail_append(tail, text, strlen(text)), 0);
}

static void assert_content(struct tail *tail, const char *data, size_t size) {
    char *read = malloc(size + 1);

    assert_non_null(read);
    assert_int_equal(tail_size(tail), size);
    assert_int_equal(tail_read(tail, 0, read, size), 0);
    assert_memory_equal(read, data, size);
    free(read);
}

static void assert_text(struct tail *tail, const char *text) {
    assert_content(tail, text, strlen(text));
}

/* --- */

static void test_appends_come_back(void **state) {
    struct tail *tail = create();
    struct stat status;

    (void)state;
    append(tail, "one\n");
    append(tail, "");
    append(tail, "two\n");
    assert_text(tail, "one\ntwo\n");
    assert_int_equal(tail_epoch(tail), EPOCH);
    tail_put(tail);
    assert_int_equal(stat(tail_path(), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(status.st_size, 8 + 2 * HEADER);

    tail = reopen();
    append(tail, "three");
    assert_text(tail, "one\ntwo\nthree");
    tail_put(tail);
}

static void test_missing_file_is_empty(void **state) {
    struct tail *tail = reopen();
    char byte;

    (void)state;
    assert_int_equal(tail_size(tail), 0);
    assert_int_equal(tail_read(tail, 0, &byte, 0), 0);
    assert_int_equal(tail_read(tail, 0, &byte, 1), -EIO);
    append(tail, "x");
    assert_int_equal(tail_read(tail, 2, &byte, 0), -EIO);
    assert_int_equal(tail_read(tail, 1, &byte, SIZE_MAX), -EIO);
    tail_put(tail);
    tail_put(NULL);
}

static void test_other_epochs_are_cut(void **state) {
    struct tail *tail = create();

    (void)state;
    append(tail, "old\n");
    tail_put(tail);
    assert_int_equal(tail_open(top, INO, EPOCH + 1, &tail), 0);
    assert_int_equal(tail_size(tail), 0);
    append(tail, "new\n");
    tail_put(tail);
    assert_int_equal(tail_open(top, INO, EPOCH + 1, &tail), 0);
    assert_text(tail, "new\n");
    tail_put(tail);
}

static void test_old_readers_go_on(void **state) {
    struct tail *old = create();

    (void)state;
    append(old, "old\n");
    struct tail *reader = tail_get(old);
    struct tail *fresh;
    assert_int_equal(tail_create(top, INO, EPOCH + 1, &fresh), 0);
    append(fresh, "new\n");
    tail_put(old);
    assert_text(reader, "old\n");
    assert_text(fresh, "new\n");
    tail_put(reader);
    assert_int_equal(tail_unlink(top, INO), 0);
    assert_int_equal(tail_unlink(top, INO), 0);
    assert_text(fresh, "new\n");
    tail_put(fresh);
}

/* Every part of every record, through all ways of reading. */
static void test_random_reads(void **state) {
    enum { RECORDS = 3000, READS = 3000, LARGE = 90000 };
    char *model = malloc(LARGE + RECORDS * 40);
    char *read = malloc(LARGE + RECORDS * 40);
    size_t size = 0;
    struct tail *tail = create();

    (void)state;
    assert_true(model && read);
    scratch_seed(1);
    for (int i = 0; i < RECORDS; i++) {
        size_t part = i == RECORDS / 2 ? LARGE : 1 + scratch_random(39);
        for (size_t k = 0; k < part; k++)
            model[size + k] = (char)scratch_random(256);
        assert_int_equal(tail_append(tail, model + size, part), 0);
        size += part;
    }
    for (int round = 0; round < 2; round++) {
        assert_content(tail, model, size);
        for (int i = 0; i < READS; i++) {
            size_t from = scratch_random((uint32_t)size + 1);
            size_t part = scratch_random(i % 2 ? 100 : (uint32_t)(size - from) + 1);
            part = part < size - from ? part : size - from;
            assert_int_equal(tail_read(tail, from, read, part), 0);
            assert_memory_equal(read, model + from, part);
        }
        tail_put(tail);
        tail = reopen();
    }
    tail_put(tail);
    free(model);
    free(read);
}

/* --- damage --- */

/* Whole records in the first GOOD bytes of the file, as a logical size. */
static size_t logical_size(const size_t *sizes, size_t count, size_t good) {
    size_t place = 0, logical = 0;

    for (size_t i = 0; i < count && place + HEADER + sizes[i] <= good; i++) {
        place += HEADER + sizes[i];
        logical += sizes[i];
    }
    return logical;
}

static const size_t record_sizes[] = {1, 5, 40, 2, 33, 17};
enum { RECORD_COUNT = sizeof record_sizes / sizeof *record_sizes };

/* Writes the records; the bytes of the file and, below, what they say. */
static char *make_records(char *model, size_t *out_size) {
    struct tail *tail = create();
    size_t size = 0;

    for (size_t i = 0; i < RECORD_COUNT; i++) {
        for (size_t k = 0; k < record_sizes[i]; k++)
            model[size + k] = (char)scratch_random(256);
        assert_int_equal(tail_append(tail, model + size, record_sizes[i]), 0);
        size += record_sizes[i];
    }
    tail_put(tail);
    return scratch_read(tail_path(), out_size);
}

/* Opens what was made of the records: GOOD of the file's bytes are as written. Then it can be appended to. */
static void check_damaged(const char *model, size_t good) {
    size_t logical = logical_size(record_sizes, RECORD_COUNT, good);
    char expected[256];
    struct stat status;
    struct tail *tail = reopen();

    assert_content(tail, model, logical);
    assert_int_equal(stat(tail_path(), &status), 0);
    size_t records = 0;
    for (size_t sum = 0; sum < logical; records++)
        sum += record_sizes[records];
    assert_int_equal(status.st_size, logical + records * HEADER);
    append(tail, "more");
    tail_put(tail);
    memcpy(expected, model, logical);
    memcpy(expected + logical, "more", 4);
    tail = reopen();
    assert_content(tail, expected, logical + 4);
    tail_put(tail);
}

static void test_cut_everywhere(void **state) {
    char model[256];
    size_t size;

    (void)state;
    scratch_seed(2);
    char *file = make_records(model, &size);
    for (size_t cut = 0; cut <= size; cut++) {
        scratch_write(tail_path(), file, cut);
        check_damaged(model, cut);
    }
    free(file);
}

/* The disk kept the new length but not the bytes. */
static void test_zeros_from_everywhere(void **state) {
    char model[256];
    size_t size;

    (void)state;
    scratch_seed(3);
    char *file = make_records(model, &size);
    for (size_t from = 0; from < size; from++) {
        char *torn = malloc(size);
        assert_non_null(torn);
        memcpy(torn, file, from);
        memset(torn + from, 0, size - from);
        scratch_write(tail_path(), torn, size);
        /* Zeros that were zeros anyway. */
        size_t good = from;
        while (good < size && file[good] == 0)
            good++;
        check_damaged(model, good);
        free(torn);
    }
    free(file);
}

static void test_flipped_bits(void **state) {
    char model[256];
    size_t size;

    (void)state;
    scratch_seed(4);
    char *file = make_records(model, &size);
    for (size_t bit = 0; bit < size * 8; bit += 1 + scratch_random(5)) {
        file[bit / 8] ^= (char)(1 << bit % 8);
        scratch_write(tail_path(), file, size);
        check_damaged(model, bit / 8);
        file[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(file);
}

static void test_garbage_is_survived(void **state) {
    enum { ROUNDS = 500 };
    char garbage[512];

    (void)state;
    scratch_seed(5);
    for (int round = 0; round < ROUNDS; round++) {
        size_t size = scratch_random(sizeof garbage);
        for (size_t i = 0; i < size; i++)
            garbage[i] = (char)scratch_random(256);
        /* A good begin, so that the length is believed. */
        if (size >= 16)
            memcpy(garbage, "JTTL", 4);
        scratch_write(tail_path(), garbage, size);
        struct tail *tail = reopen();
        assert_int_equal(tail_size(tail), 0);
        tail_put(tail);
    }
}

/* --- errors --- */

static void limit_files(rlim_t size) {
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A disk that takes only a part of a record. */
static void test_full_disk_leaves_no_trace(void **state) {
    struct tail *tail = create();
    struct stat status;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    append(tail, "one\n");
    for (rlim_t room = 0; room < HEADER + 4; room++) {
        limit_files(HEADER + 4 + room);
        int rc = tail_append(tail, "two\n", 4);
        limit_files(RLIM_INFINITY);
        assert_true(rc == -ENOSPC || rc == -EFBIG);
        assert_text(tail, "one\n");
        assert_int_equal(stat(tail_path(), &status), 0);
        assert_int_equal(status.st_size, HEADER + 4);
    }
    append(tail, "two\n");
    assert_text(tail, "one\ntwo\n");
    tail_put(tail);
    tail = reopen();
    assert_text(tail, "one\ntwo\n");
    tail_put(tail);
}

static void test_sync_syncs_and_its_failure_stays(void **state) {
    struct tail *tail = create();

    (void)state;
    watch_start(directory);
    append(tail, "one\n");
    assert_int_equal(watch_synced("123"), 0);
    assert_int_equal(tail_sync(tail), 0);
    assert_int_equal(watch_synced("123"), 1);
    watch_fail("123");
    assert_int_equal(tail_sync(tail), -EIO);
    watch_fail(NULL);
    assert_int_equal(tail_sync(tail), -EIO);
    watch_stop();
    tail_put(tail);
}

struct syncer {
    struct tail *tail;
    atomic_bool stop;
};

static void *sync_on(void *arg) {
    struct syncer *syncer = arg;

    while (!atomic_load(&syncer->stop))
        if (tail_sync(syncer->tail) < 0)
            return syncer;
    return NULL;
}

static void test_sync_beside_appends(void **state) {
    struct syncer syncer = {.tail = create()};
    pthread_t thread;
    void *failed;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, sync_on, &syncer), 0);
    for (int i = 0; i < 2000; i++)
        append(syncer.tail, "line\n");
    atomic_store(&syncer.stop, true);
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(tail_size(syncer.tail), 10000);
    tail_put(syncer.tail);
}

/* --- kills --- */

/* Record NUMBER: its number, and bytes that follow from it. */
static size_t make_numbered(uint32_t number, char *out) {
    size_t size = 4 + number * 2654435761u % 9000;

    memcpy(out, &number, 4);
    for (size_t i = 4; i < size; i++)
        out[i] = (char)(number + i);
    return size;
}

static void append_forever(int pipe_fd) {
    char record[16384];
    struct tail *tail;

    if (tail_open(top, INO, EPOCH, &tail) < 0)
        _exit(1);
    for (uint32_t number = 0;; number++) {
        size_t size = make_numbered(number, record);
        if (tail_append(tail, record, size) < 0 || write(pipe_fd, &number, sizeof number) != sizeof number)
            _exit(1);
    }
}

/* Kills an appender after DELAY; the number of records it was told are written. */
static uint32_t run_and_kill(unsigned delay_us) {
    int fds[2];
    uint32_t number, acknowledged = 0;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        append_forever(fds[1]);
    close(fds[1]);
    /* The first answer starts the clock; the pipe holds what comes then. */
    assert_int_equal(read(fds[0], &number, sizeof number), sizeof number);
    acknowledged++;
    usleep(delay_us);
    kill(child, SIGKILL);
    while (read(fds[0], &number, sizeof number) == sizeof number)
        acknowledged++;
    close(fds[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    return acknowledged;
}

static void test_kills(void **state) {
    enum { KILLS = 120 };
    char expected[16384], read[16384];

    (void)state;
    scratch_seed(6);
    for (int i = 0; i < KILLS; i++) {
        uint32_t acknowledged = run_and_kill(scratch_random(3000));
        struct tail *tail = reopen();
        uint64_t at = 0;
        uint32_t number = 0;
        for (; at < tail_size(tail); number++) {
            size_t size = make_numbered(number, expected);
            assert_true(size <= tail_size(tail) - at);
            assert_int_equal(tail_read(tail, at, read, size), 0);
            assert_memory_equal(read, expected, size);
            at += size;
        }
        assert_true(number == acknowledged || number == acknowledged + 1);
        tail_put(tail);
        assert_int_equal(tail_unlink(top, INO), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_appends_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_file_is_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_epochs_are_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_readers_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_everywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zeros_from_everywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flipped_bits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_garbage_is_survived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_leaves_no_trace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sync_syncs_and_its_failure_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sync_beside_appends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kills, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("tail", tests, NULL, NULL);
}
