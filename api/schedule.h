/* schedule: which call leaves next, and when: the queue and the budgets together. Not locked; time is
 * passed in. */
#ifndef JOTSFS_API_SCHEDULE_H
#define JOTSFS_API_SCHEDULE_H

#include <stdint.h>

#include "api/budget.h"
#include "api/call.h"
#include "api/service.h"

struct schedule;

/* SLOTS is how many calls may be in flight. NULL when out of memory. */
struct schedule *schedule_create(unsigned slots);
/* Nothing waits any more. */
void schedule_destroy(struct schedule *schedule);

void schedule_add(struct schedule *schedule, struct call *call);
/* CALL waits again, before all that came later. */
void schedule_put_back(struct schedule *schedule, struct call *call);
void schedule_raise(struct schedule *schedule, uint64_t ticket, enum service_priority priority);

/* Takes the next call that may leave while IN_FLIGHT others do, and books it. NULL when there is none; then
 * *OUT_WAIT_MS becomes smaller if one waits for budget: look again then. */
struct call *schedule_take(struct schedule *schedule, unsigned in_flight, int64_t now_ms,
                           int64_t *out_wait_ms);
/* Takes any call, unbooked; NULL when none waits. */
struct call *schedule_drain(struct schedule *schedule);

/* What became of a call that was taken; see budget.h. */
void schedule_answered(struct schedule *schedule, const struct call *call, const struct budget_news *news,
                       int64_t now_ms);
void schedule_refused(struct schedule *schedule, const struct call *call, const struct budget_news *news,
                      int64_t wait_ms, int64_t now_ms);
void schedule_unsent(struct schedule *schedule, const struct call *call);

void schedule_state(const struct schedule *schedule, enum service_class class_id, int64_t now_ms,
                    struct service_budget *out);

#endif
