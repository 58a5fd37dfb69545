/* budget: a log of what the server has counted, instead of a bucket that refills evenly.
 *
 * An evenly refilling bucket lets twice the limit through in one window. So every call
 * that leaves is an entry in a log, which counts for a whole window after its answer; a call
 * may leave while fewer entries count than the limit, less a thirtieth for others.
 * That is right for fixed windows, wherever they begin, and for sliding ones, and a
 * full window may be spent in one burst.
 *
 * The answers correct the log (API.md C20). `limit - remaining` is how many calls the server had counted
 * when it saw call N. Compared with the entries:
 * - that were surely counted before N (settled before N left): if these are more, the server's window has
 *   begun anew since; the oldest are dropped;
 * - that may have been counted (left before N, or foreign): if these are fewer, another
 *   program uses the token; foreign entries are added. Calls that left after N are not excused:
 *   with answers out of order this errs on the safe side, by at most what is in flight.
 *
 * After a 429 nothing leaves until the time that it told; then one call goes alone,
 * and what its answer tells decides how many follow. So a spent window costs few 429s.
 *
 * The length of a window is documented (a minute) for the documented limits. Under other limits it shows only
 * in the Reset or Retry-After of a 429: there, when a window is spent, one foreground call may go ahead to
 * get one; from the distance of two such moments the length is learned, and this ends.
 *
 * Called by http, under its lock. Invariant: settled entries older than window_ms count for nothing and are
 * removed at the next booking.
 */
#include "api/budget.h"

#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_WINDOW_MS = 60000,
    MIN_WINDOW_MS = 1000,
    SAME_EDGE_MS = 1500, /* Retry-After is rounded to seconds */
    EDGE_ERROR_MS = 1000,
    PROBE_DELAY_MS = 200,
    PATIENCE_MS = 5000, /* with one that goes alone */
    ALONE_MS = 50,      /* what it may take */
    MAX_LIMIT = 4096,   /* bounds the log */
    RESERVE = 30,       /* this part of the limit stays unused */
};

struct entry {
    uint64_t number;  /* 0: foreign */
    uint64_t settled; /* next_number when it was settled, 0 while in flight */
    int64_t time_ms;  /* of its answer; of leaving while in flight */
};

struct budget {
    struct entry *entries; /* in the order of leaving */
    size_t count, capacity;
    uint64_t next_number;
    int64_t limit;
    bool told;            /* by a header */
    uint64_t told_number; /* the youngest call that told */
    int64_t window_ms;
    bool window_known;
    int64_t edge_ms;          /* when a window begins or began, -1 unknown */
    int64_t longest_ms;       /* the longest time to an edge ever told: no window is shorter */
    int64_t refill_ms;        /* told time of the next edge, for one probe; -1 unknown */
    int64_t blocked_until_ms; /* 0: not */
    uint64_t alone_from;      /* not 0: calls go one by one until one from this number on is answered */
};

/* API.md, "Limits": Dev, then Team. */
static const int64_t documented[][SERVICE_CLASSES] = {
    {[SERVICE_READ] = 600, [SERVICE_WRITE] = 60, [SERVICE_APPEND] = 300},
    {[SERVICE_READ] = 2000, [SERVICE_WRITE] = 200, [SERVICE_APPEND] = 1000},
};

static bool is_documented(int64_t limit) {
    for (size_t tier = 0; tier < sizeof(documented) / sizeof(documented[0]); tier++) {
        for (int i = 0; i < SERVICE_CLASSES; i++) {
            if (documented[tier][i] == limit)
                return true;
        }
    }
    return false;
}

struct budget *budget_create(enum service_class class_id) {
    struct budget *budget = calloc(1, sizeof(*budget));

    if (!budget)
        return NULL;
    budget->next_number = 1;
    budget->limit = documented[0][class_id];
    budget->window_ms = DEFAULT_WINDOW_MS;
    budget->window_known = true;
    budget->edge_ms = -1;
    budget->refill_ms = -1;
    return budget;
}

void budget_destroy(struct budget *budget) {
    if (!budget)
        return;
    free(budget->entries);
    free(budget);
}

static bool counts_at(const struct budget *budget, const struct entry *entry, int64_t when_ms) {
    return !entry->settled || when_ms - entry->time_ms < budget->window_ms;
}

static int64_t count_at(const struct budget *budget, int64_t when_ms) {
    int64_t count = 0;

    for (size_t i = 0; i < budget->count; i++)
        count += counts_at(budget, &budget->entries[i], when_ms);
    return count;
}

/* Is a call from number FROM on in flight, and not for so long that nobody should wait for it? */
static bool any_in_flight(const struct budget *budget, uint64_t from, int64_t now_ms) {
    for (size_t i = 0; i < budget->count; i++) {
        const struct entry *entry = &budget->entries[i];

        if (!entry->settled && entry->number >= from && now_ms - entry->time_ms < PATIENCE_MS)
            return true;
    }
    return false;
}

static void expire(struct budget *budget, int64_t now_ms) {
    size_t kept = 0;

    for (size_t i = 0; i < budget->count; i++) {
        if (counts_at(budget, &budget->entries[i], now_ms))
            budget->entries[kept++] = budget->entries[i];
    }
    budget->count = kept;
}

static bool add_entry(struct budget *budget, const struct entry *entry) {
    if (budget->count == budget->capacity) {
        size_t capacity = budget->capacity ? 2 * budget->capacity : 64;
        struct entry *grown = realloc(budget->entries, capacity * sizeof(*grown));

        if (!grown)
            return false;
        budget->entries = grown;
        budget->capacity = capacity;
    }
    budget->entries[budget->count++] = *entry;
    return true;
}

static struct entry *find(struct budget *budget, uint64_t number) {
    for (size_t i = budget->count; i > 0; i--) {
        if (budget->entries[i - 1].number == number)
            return &budget->entries[i - 1];
    }
    return NULL;
}

static void remove_entry(struct budget *budget, struct entry *entry) {
    size_t behind = budget->count - (size_t)(entry - budget->entries) - 1;

    memmove(entry, entry + 1, behind * sizeof(*entry));
    budget->count--;
}

static int64_t usable(const struct budget *budget) {
    return budget->limit - budget->limit / RESERVE;
}

/* How much must stay when a call of PRIORITY has left. */
static int64_t reserve_for(const struct budget *budget, enum service_priority priority) {
    switch (priority) {
    case SERVICE_FOREGROUND:
        return 0;
    case SERVICE_READ_AHEAD:
        return usable(budget) / 5;
    case SERVICE_PREFETCH:
        break;
    }
    return usable(budget) / 2;
}

/* When a foreground call may leave although the window is spent. */
static int64_t probe_time(const struct budget *budget) {
    if (budget->refill_ms >= 0)
        return budget->refill_ms + PROBE_DELAY_MS;
    return budget->window_known ? INT64_MAX : INT64_MIN;
}

static bool may_leave(const struct budget *budget, enum service_priority priority, int64_t now_ms) {
    if (now_ms < budget->blocked_until_ms)
        return false;
    if (budget->alone_from)
        return !any_in_flight(budget, budget->alone_from, now_ms);
    if (usable(budget) - count_at(budget, now_ms) > reserve_for(budget, priority))
        return true;
    return priority == SERVICE_FOREGROUND && now_ms >= probe_time(budget) &&
           !any_in_flight(budget, 1, now_ms);
}

bool budget_take(struct budget *budget, enum service_priority priority, int64_t now_ms,
                 uint64_t *out_number) {
    struct entry entry = {.number = budget->next_number, .time_ms = now_ms};

    expire(budget, now_ms);
    if (!may_leave(budget, priority, now_ms) || !add_entry(budget, &entry))
        return false;
    if (budget->refill_ms >= 0 && now_ms >= budget->refill_ms)
        budget->refill_ms = -1;
    *out_number = budget->next_number++;
    return true;
}

/* The first moment, at most two windows from now, at which fewer than MOST entries count. */
static int64_t time_of_count(const struct budget *budget, int64_t most, int64_t now_ms) {
    int64_t early = now_ms;
    int64_t late = now_ms + 2 * budget->window_ms;

    while (early < late) {
        int64_t middle = early + (late - early) / 2;

        if (count_at(budget, middle) < most)
            late = middle;
        else
            early = middle + 1;
    }
    return early;
}

int64_t budget_wait(const struct budget *budget, enum service_priority priority, unsigned ahead,
                    int64_t now_ms) {
    int64_t most = usable(budget) - reserve_for(budget, priority);
    int64_t blocked_ms = budget->blocked_until_ms > now_ms ? budget->blocked_until_ms - now_ms : 0;
    int64_t alone_ms = any_in_flight(budget, budget->alone_from, now_ms) ? ALONE_MS : 0;
    int64_t windows = ahead / most;
    int64_t wait_ms;
    int64_t probe_ms;

    if (blocked_ms || budget->alone_from)
        return blocked_ms + windows * budget->window_ms + alone_ms;
    if (windows == 0 && may_leave(budget, priority, now_ms) && count_at(budget, now_ms) + ahead < most)
        return 0;
    wait_ms = time_of_count(budget, most - (int64_t)(ahead % most), now_ms) - now_ms;
    probe_ms = probe_time(budget);
    if (priority == SERVICE_FOREGROUND && probe_ms != INT64_MAX && !any_in_flight(budget, 1, now_ms))
        wait_ms = probe_ms <= now_ms ? 0 : (probe_ms - now_ms < wait_ms ? probe_ms - now_ms : wait_ms);
    return wait_ms + windows * budget->window_ms;
}

/* --- what answers tell --- */

static void settle(struct budget *budget, struct entry *entry, int64_t now_ms) {
    entry->settled = budget->next_number;
    entry->time_ms = now_ms;
}

/* Was ENTRY counted by the server before it saw call NUMBER, or is it that call? */
static bool surely_counted(const struct entry *entry, uint64_t number) {
    return entry->number == number || (entry->settled && entry->settled <= number);
}

/* Drops the oldest COUNT entries that were surely counted before call NUMBER. */
static void drop_oldest(struct budget *budget, uint64_t number, int64_t count) {
    size_t kept = 0;

    for (size_t i = 0; i < budget->count; i++) {
        struct entry *entry = &budget->entries[i];

        if (count > 0 && entry->number != number && surely_counted(entry, number))
            count--;
        else
            budget->entries[kept++] = *entry;
    }
    budget->count = kept;
}

/* The server had counted USED calls when it saw NUMBER. */
static void reconcile(struct budget *budget, uint64_t number, int64_t used, int64_t now_ms) {
    struct entry foreign = {.settled = budget->next_number, .time_ms = now_ms};
    int64_t surely = 0;
    int64_t maybe = 0;

    for (size_t i = 0; i < budget->count; i++) {
        surely += surely_counted(&budget->entries[i], number);
        maybe += budget->entries[i].number <= number;
    }
    if (used < surely)
        drop_oldest(budget, number, surely - used);
    if (number < budget->told_number)
        return; /* an old story: others may have told of a new window since */
    budget->told_number = number;
    for (; maybe < used && add_entry(budget, &foreign); maybe++)
        ;
}

static void learn_limit(struct budget *budget, int64_t limit) {
    if (limit < 1)
        return;
    budget->told = true;
    limit = limit > MAX_LIMIT ? MAX_LIMIT : limit;
    if (limit == budget->limit)
        return;
    budget->limit = limit;
    budget->window_known = is_documented(limit);
}

/* The oldest answer that still counts, or NOW. */
static int64_t oldest(const struct budget *budget, int64_t now_ms) {
    int64_t time_ms = now_ms;

    for (size_t i = 0; i < budget->count; i++) {
        const struct entry *entry = &budget->entries[i];

        if (entry->settled && counts_at(budget, entry, now_ms) && entry->time_ms < time_ms)
            time_ms = entry->time_ms;
    }
    return time_ms;
}

/* A window begins in WAIT_MS. Two beginnings are at least one window apart when windows are fixed; when they
 * slide, the beginning is one window behind the oldest call. */
static void learn_edge(struct budget *budget, int64_t wait_ms, int64_t now_ms) {
    int64_t edge_ms = now_ms + wait_ms;
    int64_t apart_ms = edge_ms - budget->edge_ms;
    int64_t least_ms = edge_ms - oldest(budget, now_ms);

    if (wait_ms > budget->longest_ms)
        budget->longest_ms = wait_ms;
    if (least_ms < budget->longest_ms)
        least_ms = budget->longest_ms;
    if (budget->edge_ms >= 0 && apart_ms > SAME_EDGE_MS) {
        int64_t window_ms = apart_ms + EDGE_ERROR_MS;

        window_ms = window_ms < least_ms ? least_ms : window_ms;
        if (window_ms < budget->window_ms)
            budget->window_ms = window_ms < MIN_WINDOW_MS ? MIN_WINDOW_MS : window_ms;
        budget->window_known = true;
    }
    if (budget->edge_ms < 0 || apart_ms > SAME_EDGE_MS)
        budget->edge_ms = edge_ms;
    if (budget->window_ms < budget->longest_ms)
        budget->window_ms = budget->longest_ms;
}

void budget_answered(struct budget *budget, uint64_t number, const struct budget_news *news, int64_t now_ms) {
    struct entry *entry = find(budget, number);

    if (!entry)
        return;
    settle(budget, entry, now_ms);
    if (!news)
        return;
    learn_limit(budget, news->limit);
    if (news->remaining >= 0 && budget->told) {
        int64_t used = budget->limit - news->remaining;

        reconcile(budget, number, used < 1 ? 1 : used, now_ms);
    } else if (budget->told_number) {
        return; /* others tell more: until one does, calls that go alone go on so */
    } else if (budget->alone_from && number >= budget->alone_from) {
        drop_oldest(budget, number, INT64_MAX);
    }
    if (news->reset_ms >= 0) {
        learn_edge(budget, news->reset_ms, now_ms);
        budget->refill_ms = now_ms + news->reset_ms;
    }
    if (number >= budget->alone_from)
        budget->alone_from = 0;
}

void budget_refused(struct budget *budget, uint64_t number, const struct budget_news *news, int64_t wait_ms,
                    int64_t now_ms) {
    struct entry *entry = find(budget, number);
    int64_t until_ms = now_ms + wait_ms;

    if (entry)
        remove_entry(budget, entry);
    expire(budget, now_ms);
    learn_limit(budget, news->limit);
    learn_edge(budget, wait_ms, now_ms);
    budget->refill_ms = -1;
    if (until_ms > budget->blocked_until_ms)
        budget->blocked_until_ms = until_ms;
    budget->alone_from = budget->next_number;
}

void budget_unsent(struct budget *budget, uint64_t number) {
    struct entry *entry = find(budget, number);

    if (entry)
        remove_entry(budget, entry);
}

void budget_state(const struct budget *budget, unsigned ahead, int64_t now_ms, struct service_budget *out) {
    int64_t remaining = budget->limit - count_at(budget, now_ms);

    out->limit = budget->told ? budget->limit : -1;
    out->wait_ms = budget_wait(budget, SERVICE_FOREGROUND, ahead, now_ms);
    if (budget->blocked_until_ms > now_ms) {
        out->remaining = budget->told ? 0 : -1;
        out->resets_in_ms = budget->blocked_until_ms - now_ms;
        return;
    }
    out->remaining = budget->told ? (remaining > 0 ? remaining : 0) : -1;
    out->resets_in_ms = budget->count ? time_of_count(budget, 1, now_ms) - now_ms : 0;
}
