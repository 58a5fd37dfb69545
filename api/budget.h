/* budget: how many calls of one rate class may leave, and when. Pure: time is passed in (monotonic ms).
 *
 * Each call that leaves is booked under a number; each number is settled once, by what became of the call.
 */
#ifndef JOTSFS_API_BUDGET_H
#define JOTSFS_API_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "api/service.h"

struct budget;

/* What the headers of an answer told; -1 = nothing. */
struct budget_news {
    int64_t limit, remaining;
    int64_t reset_ms; /* until the window refills */
};

/* Starts with the Dev tier's limit of CLASS_ID. NULL when out of memory. */
struct budget *budget_create(enum service_class class_id);
void budget_destroy(struct budget *budget);

/* Books a call if one of PRIORITY may leave now. *OUT_NUMBER is never 0. */
bool budget_take(struct budget *budget, enum service_priority priority, int64_t now_ms, uint64_t *out_number);

/* How long until a call of PRIORITY may leave with AHEAD others before it; 0 = now. An estimate that is never
 * too late to ask again: it may be short, as an answer may change everything. */
int64_t budget_wait(const struct budget *budget, enum service_priority priority, unsigned ahead,
                    int64_t now_ms);

/* Settles a call that was answered (not with a 429), or whose answer was lost (NEWS all -1). */
void budget_answered(struct budget *budget, uint64_t number, const struct budget_news *news, int64_t now_ms);
/* Settles a call that was refused with a 429: nothing leaves for WAIT_MS. */
void budget_refused(struct budget *budget, uint64_t number, const struct budget_news *news, int64_t wait_ms,
                    int64_t now_ms);
/* Settles a call that never left. */
void budget_unsent(struct budget *budget, uint64_t number);

/* All of OUT but `queued`. AHEAD as for budget_wait(). */
void budget_state(const struct budget *budget, unsigned ahead, int64_t now_ms, struct service_budget *out);

#endif
