/* Tests of api/budget on a fake clock, against a model of the server's counting: fixed windows with any
 * beginning, or sliding ones, with answers that come late and out of order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/budget.h"

enum { IN_FLIGHT_MAX = 16, SEEN_MAX = 20000, ROUNDS = 40 };

static const struct budget_news nothing = {-1, -1, -1};

static uint64_t random_state;

static int64_t random_below(int64_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((random_state >> 33) % (uint64_t)bound);
}

/* --- the server --- */

struct model {
    int64_t limit, window_ms, offset_ms;
    bool sliding, headers, reset_on_success;
    int64_t seen[SEEN_MAX]; /* times at which calls were counted */
    size_t seen_count;
    unsigned refused;
};

static int64_t model_window(const struct model *model, int64_t when_ms) {
    return (when_ms + model->offset_ms) / model->window_ms;
}

static int64_t model_used(const struct model *model, int64_t when_ms) {
    int64_t used = 0;

    for (size_t i = model->seen_count; i > 0; i--) {
        int64_t seen_ms = model->seen[i - 1];
        bool counts = model->sliding ? when_ms - seen_ms < model->window_ms
                                     : model_window(model, seen_ms) == model_window(model, when_ms);

        if (!counts)
            break;
        used++;
    }
    return used;
}

static int64_t model_reset(const struct model *model, int64_t when_ms) {
    int64_t used = model_used(model, when_ms);

    if (!model->sliding)
        return (model_window(model, when_ms) + 1) * model->window_ms - model->offset_ms - when_ms;
    return used ? model->seen[model->seen_count - (size_t)used] + model->window_ms - when_ms : 0;
}

/* False: a 429. */
static bool model_count(struct model *model, int64_t when_ms) {
    if (model_used(model, when_ms) >= model->limit) {
        model->refused++;
        return false;
    }
    assert_true(model->seen_count < SEEN_MAX);
    model->seen[model->seen_count++] = when_ms;
    return true;
}

/* --- a client that always has calls waiting --- */

struct flight {
    uint64_t number;
    int64_t process_ms, answer_ms;
    bool processed, counted;
    struct budget_news news;
    int64_t wait_ms;
};

struct client {
    struct model *model;
    struct budget *budget;
    int64_t now_ms;
    int64_t latency_ms;
    struct flight flights[IN_FLIGHT_MAX];
    unsigned sent, answered;
};

static void client_send(struct client *client, enum service_priority priority) {
    for (int i = 0; i < IN_FLIGHT_MAX; i++) {
        struct flight *flight = &client->flights[i];

        if (flight->number)
            continue;
        if (!budget_take(client->budget, priority, client->now_ms, &flight->number)) {
            flight->number = 0;
            return;
        }
        client->sent++;
        flight->processed = false;
        flight->process_ms = client->now_ms + 1 + random_below(client->latency_ms);
        flight->answer_ms = flight->process_ms + 1 + random_below(client->latency_ms);
    }
}

static void model_process(struct model *model, struct flight *flight) {
    int64_t when_ms = flight->process_ms;
    bool tells;

    flight->processed = true;
    flight->counted = model_count(model, when_ms);
    flight->news = nothing;
    tells = model->headers || !flight->counted;
    if (tells) {
        flight->news.limit = model->limit;
        flight->news.remaining = model->limit - model_used(model, when_ms);
    }
    if (!flight->counted || model->reset_on_success)
        flight->news.reset_ms = (model_reset(model, when_ms) + 999) / 1000 * 1000;
    flight->wait_ms = flight->news.reset_ms > 1000 ? flight->news.reset_ms : 1000;
}

static void client_receive(struct client *client) {
    for (int i = 0; i < IN_FLIGHT_MAX; i++) {
        struct flight *flight = &client->flights[i];

        if (flight->number && !flight->processed && flight->process_ms <= client->now_ms)
            model_process(client->model, flight);
    }
    for (int i = 0; i < IN_FLIGHT_MAX; i++) {
        struct flight *flight = &client->flights[i];

        if (!flight->number || flight->answer_ms > client->now_ms)
            continue;
        if (flight->counted)
            budget_answered(client->budget, flight->number, &flight->news, client->now_ms);
        else
            budget_refused(client->budget, flight->number, &flight->news, flight->wait_ms, client->now_ms);
        client->answered += flight->counted;
        flight->number = 0;
    }
}

static void client_run(struct client *client, int64_t duration_ms) {
    int64_t end_ms = client->now_ms + duration_ms;

    for (; client->now_ms < end_ms; client->now_ms++) {
        client_receive(client);
        client_send(client, SERVICE_FOREGROUND);
    }
}

static struct client *client_create(struct model *model, enum service_class class_id) {
    struct client *client = calloc(1, sizeof(*client));

    assert_non_null(client);
    client->model = model;
    client->budget = budget_create(class_id);
    assert_non_null(client->budget);
    client->now_ms = 1000000;
    client->latency_ms = 20;
    return client;
}

static void client_destroy(struct client *client) {
    budget_destroy(client->budget);
    free(client);
}

/* --- tests --- */

static unsigned take_all(struct budget *budget, enum service_priority priority, int64_t now_ms) {
    uint64_t number;
    unsigned count = 0;

    while (budget_take(budget, priority, now_ms, &number))
        count++;
    return count;
}

static void a_full_window_may_go_at_once(void **state) {
    struct budget *budget = budget_create(SERVICE_READ);
    struct service_budget told;

    (void)state;
    budget_state(budget, 0, 0, &told);
    assert_int_equal(told.limit, -1);
    assert_int_equal(told.remaining, -1);
    assert_int_equal(told.wait_ms, 0);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 0), 580);
    for (uint64_t i = 1; i <= 580; i++)
        budget_answered(budget, i, &nothing, 500);
    assert_int_equal(budget_wait(budget, SERVICE_FOREGROUND, 0, 500), 60000);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 60499), 0);
    assert_int_equal(budget_wait(budget, SERVICE_FOREGROUND, 0, 60499), 1);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 60500), 580);
    budget_destroy(budget);
}

static void priorities_leave_a_reserve(void **state) {
    struct budget *budget = budget_create(SERVICE_READ);

    (void)state;
    assert_int_equal(take_all(budget, SERVICE_PREFETCH, 0), 290);
    assert_int_equal(take_all(budget, SERVICE_READ_AHEAD, 0), 464 - 290);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 0), 580 - 464);
    budget_destroy(budget);
}

static void lower_remaining_is_believed(void **state) {
    struct budget *budget = budget_create(SERVICE_WRITE);
    struct budget_news news = {60, 10, -1};
    struct service_budget told;
    uint64_t number;

    (void)state;
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &number));
    budget_answered(budget, number, &news, 10);
    budget_state(budget, 0, 10, &told);
    assert_int_equal(told.limit, 60);
    assert_int_equal(told.remaining, 10);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 20), 8);
    budget_destroy(budget);
}

static void answers_out_of_order_err_on_the_safe_side(void **state) {
    struct budget *budget = budget_create(SERVICE_WRITE);
    uint64_t numbers[4];
    struct service_budget told;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &numbers[i]));
    for (int i = 3; i >= 0; i--)
        budget_answered(budget, numbers[i], &(struct budget_news){60, 59 - i, -1}, 10);
    budget_state(budget, 0, 10, &told);
    assert_int_equal(told.remaining, 56);
    /* The server saw the second before the first. */
    for (int i = 0; i < 2; i++)
        assert_true(budget_take(budget, SERVICE_FOREGROUND, 20, &numbers[i]));
    budget_answered(budget, numbers[0], &(struct budget_news){60, 54, -1}, 30);
    budget_answered(budget, numbers[1], &(struct budget_news){60, 55, -1}, 30);
    budget_state(budget, 0, 30, &told);
    assert_in_range(told.remaining, 53, 54);
    /* And the next one sets it right. */
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 40, &numbers[0]));
    budget_answered(budget, numbers[0], &(struct budget_news){60, 53, -1}, 50);
    budget_state(budget, 0, 50, &told);
    assert_int_equal(told.remaining, 53);
    budget_destroy(budget);
}

static void a_new_window_is_noticed(void **state) {
    struct budget *budget = budget_create(SERVICE_WRITE);
    uint64_t number;
    struct service_budget told;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_true(budget_take(budget, SERVICE_FOREGROUND, i, &number));
        budget_answered(budget, number, &(struct budget_news){60, 59 - i, -1}, i);
    }
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 5000, &number));
    budget_answered(budget, number, &(struct budget_news){60, 59, -1}, 5010);
    budget_state(budget, 0, 5010, &told);
    assert_int_equal(told.remaining, 59);
    budget_destroy(budget);
}

static void after_a_429_calls_go_alone(void **state) {
    struct budget *budget = budget_create(SERVICE_APPEND);
    uint64_t first, second, third;
    struct service_budget told;

    (void)state;
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &first));
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &second));
    budget_refused(budget, first, &(struct budget_news){300, 0, -1}, 7000, 100);
    budget_state(budget, 0, 100, &told);
    assert_int_equal(told.remaining, 0);
    assert_int_equal(told.wait_ms, 7000);
    assert_int_equal(told.resets_in_ms, 7000);
    /* An answer to an older call changes nothing. */
    budget_answered(budget, second, &(struct budget_news){300, 250, -1}, 200);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 7099), 0);
    assert_true(budget_take(budget, SERVICE_FOREGROUND, 7100, &third));
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 7150), 0);
    budget_answered(budget, third, &(struct budget_news){300, 9, -1}, 7200);
    assert_int_equal(take_all(budget, SERVICE_FOREGROUND, 7200), 0);
    budget_destroy(budget);
}

static void lost_and_unsent_calls(void **state) {
    struct budget *budget = budget_create(SERVICE_WRITE);
    uint64_t number;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &number));
        budget_unsent(budget, number);
    }
    for (int i = 0; i < 58; i++) {
        assert_true(budget_take(budget, SERVICE_FOREGROUND, 0, &number));
        budget_answered(budget, number, NULL, 0);
    }
    assert_false(budget_take(budget, SERVICE_FOREGROUND, 0, &number));
    budget_answered(budget, 99999, &nothing, 0);
    budget_unsent(budget, 99999);
    budget_destroy(budget);
}

static void absurd_headers_do_no_harm(void **state) {
    static const int64_t values[] = {-1, 0, 1, 59, 60, 61, 1000000000000};
    struct budget *budget = budget_create(SERVICE_WRITE);
    struct service_budget told;
    uint64_t number;
    int64_t now_ms = 0;

    (void)state;
    for (int i = 0; i < 7 * 7 * 7; i++) {
        struct budget_news news = {values[i % 7], values[i / 7 % 7], values[i / 49]};

        news.reset_ms = news.reset_ms > 3600000 ? 3600000 : news.reset_ms;
        now_ms += 10000000;
        assert_true(budget_take(budget, SERVICE_FOREGROUND, now_ms, &number));
        if (i % 3)
            budget_answered(budget, number, &news, now_ms + 5);
        else
            budget_refused(budget, number, &news, 1000, now_ms + 5);
        budget_state(budget, 3, now_ms + 5, &told);
        assert_true(told.wait_ms >= 0 && told.resets_in_ms >= 0 && told.remaining >= -1);
    }
    budget_destroy(budget);
}

/* Alone on the token, under documented limits, no window ever sees more than its limit. */
static void never_more_than_the_limit(void **state) {
    struct model *model = malloc(sizeof(*model));

    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        enum service_class class_id = (enum service_class)(seed % 3);
        static const int64_t limits[] = {600, 60, 300};
        struct client *client;

        random_state = seed;
        *model = (struct model){.limit = limits[class_id], .window_ms = 60000};
        model->offset_ms = random_below(60000);
        model->sliding = seed % 5 == 0;
        model->headers = seed % 4 != 0;
        model->reset_on_success = seed % 7 == 0 && !model->sliding;
        client = client_create(model, class_id);
        client->latency_ms = 1 + random_below(200);
        client_run(client, 70000 + random_below(100000));
        if (model->refused)
            print_error("seed %u\n", (unsigned)seed);
        assert_int_equal(model->refused, 0);
        assert_true(client->answered >= model->limit);
        client_destroy(client);
    }
    free(model);
}

/* Another limit and another window: few refusals, and nearly all that the server gives is used. */
static void windows_are_learnt(void **state) {
    struct model *model = malloc(sizeof(*model));

    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct client *client;
        int64_t windows;

        random_state = seed;
        *model = (struct model){.limit = 20 + random_below(20), .window_ms = 4000 + random_below(12000)};
        model->offset_ms = random_below(60000);
        model->sliding = seed % 2;
        model->headers = true;
        client = client_create(model, SERVICE_READ);
        client_run(client, 180000);
        windows = 180000 / model->window_ms;
        if (model->refused > 4 || client->answered < windows * model->limit * 6 / 10)
            print_error("seed %u: %u refused, %u of %d answered\n", (unsigned)seed, model->refused,
                        client->answered, (int)(windows * model->limit));
        assert_true(model->refused <= 4);
        assert_true(client->answered >= windows * model->limit * 6 / 10);
        client_destroy(client);
    }
    free(model);
}

/* Another program takes half of every window. */
static void others_are_made_room_for(void **state) {
    struct model *model = malloc(sizeof(*model));
    struct client *client;

    (void)state;
    random_state = 1;
    *model = (struct model){.limit = 60, .window_ms = 60000, .headers = true};
    client = client_create(model, SERVICE_WRITE);
    for (int i = 0; i < 300; i++) {
        model_count(model, client->now_ms);
        model->refused = 0;
        client_run(client, 2000);
    }
    assert_true(client->answered > 200);
    assert_true(client->sent - client->answered < 12);
    client_destroy(client);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_window_may_go_at_once),
        cmocka_unit_test(priorities_leave_a_reserve),
        cmocka_unit_test(lower_remaining_is_believed),
        cmocka_unit_test(answers_out_of_order_err_on_the_safe_side),
        cmocka_unit_test(a_new_window_is_noticed),
        cmocka_unit_test(after_a_429_calls_go_alone),
        cmocka_unit_test(lost_and_unsent_calls),
        cmocka_unit_test(absurd_headers_do_no_harm),
        cmocka_unit_test(never_more_than_the_limit),
        cmocka_unit_test(windows_are_learnt),
        cmocka_unit_test(others_are_made_room_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
