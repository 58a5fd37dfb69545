/* schedule: who is next (queue), and whether anyone may (budget), for all classes.
 *
 * By priority over all classes; within a priority the classes take turns, so that many reads do not keep an
 * append from a slot; within class and priority first come, first served.
 * Foreground calls may use all slots; read-ahead leaves an eighth of them free, prefetch half.
 *
 * The class of move and of the folder calls is a guess (API.md C20): what their headers tell counts only
 * when it speaks of the limit that is known for the class.
 *
 * Invariant: a call that was taken is booked in its class until one of answered, refused and unsent.
 * Used by network, under its lock.
 */
#include "api/schedule.h"

#include <stdlib.h>

struct schedule {
    struct queue queue;
    struct budget *budgets[SERVICE_CLASSES];
    unsigned slots;
    unsigned first_class; /* whose turn it is */
};

struct schedule *schedule_create(unsigned slots) {
    struct schedule *schedule = calloc(1, sizeof(*schedule));

    if (!schedule)
        return NULL;
    schedule->slots = slots;
    queue_init(&schedule->queue);
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        schedule->budgets[i] = budget_create((enum service_class)i);
        if (!schedule->budgets[i]) {
            schedule_destroy(schedule);
            return NULL;
        }
    }
    return schedule;
}

void schedule_destroy(struct schedule *schedule) {
    if (!schedule)
        return;
    for (int i = 0; i < SERVICE_CLASSES; i++)
        budget_destroy(schedule->budgets[i]);
    free(schedule);
}

void schedule_add(struct schedule *schedule, struct call *call) {
    queue_add(&schedule->queue, &call->item);
}

void schedule_put_back(struct schedule *schedule, struct call *call) {
    queue_put_back(&schedule->queue, &call->item);
}

void schedule_raise(struct schedule *schedule, uint64_t ticket, enum service_priority priority) {
    queue_raise(&schedule->queue, ticket, priority);
}

static unsigned slots_for(const struct schedule *schedule, enum service_priority priority) {
    switch (priority) {
    case SERVICE_FOREGROUND:
        return schedule->slots;
    case SERVICE_READ_AHEAD:
        return schedule->slots - schedule->slots / 8;
    case SERVICE_PREFETCH:
        break;
    }
    return schedule->slots - schedule->slots / 2;
}

/* The first call of a line, if the budget allows it; else NULL and *OUT_WAIT_MS. */
static struct call *take_first(struct schedule *schedule, enum service_class class_id,
                               enum service_priority priority, int64_t now_ms, int64_t *out_wait_ms) {
    struct budget *budget = schedule->budgets[class_id];
    struct queue_item *item = queue_first(&schedule->queue, class_id, priority);
    struct call *call = (struct call *)item;
    int64_t wait_ms;

    if (!item)
        return NULL;
    if (budget_take(budget, priority, now_ms, &call->booking)) {
        queue_remove(&schedule->queue, item);
        return call;
    }
    wait_ms = budget_wait(budget, priority, 0, now_ms);
    if (wait_ms < *out_wait_ms)
        *out_wait_ms = wait_ms;
    return NULL;
}

struct call *schedule_take(struct schedule *schedule, unsigned in_flight, int64_t now_ms,
                           int64_t *out_wait_ms) {
    for (int p = 0; p < QUEUE_PRIORITIES; p++) {
        enum service_priority priority = (enum service_priority)p;

        if (in_flight >= slots_for(schedule, priority))
            return NULL;
        for (unsigned i = 0; i < SERVICE_CLASSES; i++) {
            unsigned at = (schedule->first_class + i) % SERVICE_CLASSES;
            struct call *call = take_first(schedule, (enum service_class)at, priority, now_ms, out_wait_ms);

            if (call) {
                schedule->first_class = (at + 1) % SERVICE_CLASSES;
                return call;
            }
        }
    }
    return NULL;
}

struct call *schedule_drain(struct schedule *schedule) {
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        for (int p = 0; p < QUEUE_PRIORITIES; p++) {
            struct queue_item *item =
                queue_first(&schedule->queue, (enum service_class)i, (enum service_priority)p);

            if (item) {
                queue_remove(&schedule->queue, item);
                return (struct call *)item;
            }
        }
    }
    return NULL;
}

static bool class_is_guess(enum service_op op) {
    return op == SERVICE_OP_MOVE || op == SERVICE_OP_FOLDER_CREATE || op == SERVICE_OP_FOLDER_RENAME ||
           op == SERVICE_OP_FOLDER_DELETE;
}

/* What of NEWS may be believed. */
static struct budget_news believe(const struct budget *budget, enum service_op op,
                                  const struct budget_news *news, int64_t now_ms) {
    struct service_budget state;

    budget_state(budget, 0, now_ms, &state);
    if (class_is_guess(op) && news->limit != state.limit)
        return (struct budget_news){-1, -1, -1};
    return *news;
}

void schedule_answered(struct schedule *schedule, const struct call *call, const struct budget_news *news,
                       int64_t now_ms) {
    struct budget *budget = schedule->budgets[call->item.class_id];
    struct budget_news believed;

    if (news)
        believed = believe(budget, call->op, news, now_ms);
    budget_answered(budget, call->booking, news ? &believed : NULL, now_ms);
}

void schedule_refused(struct schedule *schedule, const struct call *call, const struct budget_news *news,
                      int64_t wait_ms, int64_t now_ms) {
    struct budget *budget = schedule->budgets[call->item.class_id];
    struct budget_news believed = believe(budget, call->op, news, now_ms);

    budget_refused(budget, call->booking, &believed, wait_ms, now_ms);
}

void schedule_unsent(struct schedule *schedule, const struct call *call) {
    budget_unsent(schedule->budgets[call->item.class_id], call->booking);
}

void schedule_state(const struct schedule *schedule, enum service_class class_id, int64_t now_ms,
                    struct service_budget *out) {
    const struct queue *queue = &schedule->queue;

    budget_state(schedule->budgets[class_id], queue_count(queue, class_id, SERVICE_FOREGROUND), now_ms, out);
    out->queued = queue_count(queue, class_id, SERVICE_PREFETCH);
}
