/* Tests of api/header and api/queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "api/header.h"
#include "api/queue.h"

static struct header parse(const char *const *lines) {
    struct header header;

    header_init(&header);
    for (; *lines; lines++) {
        char *copy = strdup(*lines); /* so that a read behind the end is seen */

        assert_non_null(copy);
        header_line(&header, copy, strlen(copy));
        free(copy);
    }
    return header;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static void lines_are_understood(void **state) {
    struct header header =
        PARSE("HTTP/1.1 200 OK\r\n", "X-RateLimit-Limit: 600\r\n", "x-ratelimit-remaining:599\r\n",
              "X-RATELIMIT-RESET: \t1777725300 \r\n", "Date: Sat, 02 May 2026 12:34:56 GMT\r\n",
              "Idempotent-Replay: true\r\n", "\r\n");

    (void)state;
    assert_int_equal(header.limit, 600);
    assert_int_equal(header.remaining, 599);
    assert_int_equal(header.date, 1777725296);
    assert_true(header.replayed);
    assert_int_equal(header_reset_ms(&header, 0), 4000);
    assert_int_equal(header_wait_ms(&header, 0), 4000);
}

static void an_interim_answer_is_forgotten(void **state) {
    struct header header =
        PARSE("HTTP/1.1 100 Continue\r\n", "X-RateLimit-Limit: 1\r\n", "\r\n", "HTTP/1.1 200 OK\r\n", "\r\n");

    (void)state;
    assert_int_equal(header.limit, -1);
    assert_int_equal(header.size, 23 + 22 + 2 + 17 + 2);
}

static void odd_numbers_are_absent(void **state) {
    static const char *const values[] = {"", "-1", "1e3", "x", "99999999999999999999", "1 2", "0x10"};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char line[100] = "X-RateLimit-Limit: ";
        struct header header;

        strcat(line, values[i]);
        header = PARSE(line);
        assert_int_equal(header.limit, -1);
    }
    assert_int_equal(PARSE("X-RateLimit-Remaining: 12.7").remaining, 12);
}

static int64_t wait_of(struct header header, int64_t now) {
    return header_wait_ms(&header, now);
}

static void waits(void **state) {
    (void)state;
    assert_int_equal(wait_of(PARSE("Retry-After: 17"), 0), 17000);
    assert_int_equal(wait_of(PARSE("Retry-After: 0"), 0), 1000);
    assert_int_equal(wait_of(PARSE("Retry-After: 999999999"), 0), 3600000);
    assert_int_equal(wait_of(PARSE("Retry-After: soon"), 0), 60000);
    assert_int_equal(wait_of(PARSE("X-Other: 1"), 0), 60000);
    assert_int_equal(wait_of(PARSE("X-RateLimit-Reset: 5"), 0), 5000);
    assert_int_equal(wait_of(PARSE("Retry-After: 2", "X-RateLimit-Reset: 5"), 0), 2000);
    /* A date counts from the server's clock, or from ours where it has none. */
    assert_int_equal(
        wait_of(PARSE("Retry-After: Sat, 02 May 2026 12:35:00 GMT", "Date: Sat, 02 May 2026 12:34:56 GMT"),
                0),
        4000);
    assert_int_equal(wait_of(PARSE("Retry-After: Sat, 02 May 2026 12:35:00 GMT"), 1777725290), 10000);
    assert_int_equal(wait_of(PARSE("Retry-After: Sat, 02 May 2026 12:35:00 GMT"), 1777799999), 1000);
    assert_int_equal(wait_of(PARSE("X: y"), 0), 60000);
}

static void hostile_lines(void **state) {
    struct header header;
    char line[5000];

    (void)state;
    header_init(&header);
    memset(line, ':', sizeof(line));
    for (size_t size = 0; size < sizeof(line); size += 13)
        header_line(&header, line, size);
    header_line(&header, "Date: \0x", 8);
    header_line(&header, "X-RateLimit-Limit: 7", 11);
    header_line(&header, "HTTP/", 5);
    assert_int_equal(header.limit, -1);
}

/* --- queue --- */

static struct queue_item item_of(enum service_class class_id, enum service_priority priority) {
    return (struct queue_item){.class_id = class_id, .priority = priority};
}

static void first_come_first_served(void **state) {
    struct queue queue;
    struct queue_item items[4];

    (void)state;
    queue_init(&queue);
    for (int i = 0; i < 4; i++) {
        items[i] = item_of(SERVICE_READ, SERVICE_PREFETCH);
        queue_add(&queue, &items[i]);
    }
    assert_int_equal(queue_count(&queue, SERVICE_READ, SERVICE_PREFETCH), 4);
    assert_int_equal(queue_count(&queue, SERVICE_READ, SERVICE_READ_AHEAD), 0);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(queue_first(&queue, SERVICE_READ, SERVICE_PREFETCH), &items[i]);
        queue_remove(&queue, &items[i]);
    }
    /* Put back in any order, they come in their own. */
    queue_put_back(&queue, &items[2]);
    queue_put_back(&queue, &items[0]);
    queue_put_back(&queue, &items[3]);
    queue_put_back(&queue, &items[1]);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(queue_first(&queue, SERVICE_READ, SERVICE_PREFETCH), &items[i]);
        queue_remove(&queue, &items[i]);
    }
    assert_null(queue_first(&queue, SERVICE_READ, SERVICE_PREFETCH));
}

static void raised_items_join_the_end(void **state) {
    struct queue queue;
    struct queue_item waiting = item_of(SERVICE_READ, SERVICE_FOREGROUND);
    struct queue_item low = item_of(SERVICE_READ, SERVICE_PREFETCH);

    (void)state;
    queue_init(&queue);
    queue_add(&queue, &low);
    queue_add(&queue, &waiting);
    queue_raise(&queue, low.ticket, SERVICE_PREFETCH);
    assert_int_equal(low.priority, SERVICE_PREFETCH);
    queue_raise(&queue, low.ticket, SERVICE_FOREGROUND);
    queue_raise(&queue, low.ticket, SERVICE_READ_AHEAD);
    queue_raise(&queue, 77, SERVICE_FOREGROUND);
    assert_int_equal(low.priority, SERVICE_FOREGROUND);
    assert_ptr_equal(queue_first(&queue, SERVICE_READ, SERVICE_FOREGROUND), &waiting);
    assert_ptr_equal(waiting.next, &low);
    assert_int_equal(queue_count(&queue, SERVICE_READ, SERVICE_FOREGROUND), 2);
    assert_int_equal(queue_count(&queue, SERVICE_WRITE, SERVICE_PREFETCH), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_understood),
        cmocka_unit_test(an_interim_answer_is_forgotten),
        cmocka_unit_test(odd_numbers_are_absent),
        cmocka_unit_test(waits),
        cmocka_unit_test(hostile_lines),
        cmocka_unit_test(first_come_first_served),
        cmocka_unit_test(raised_items_join_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
