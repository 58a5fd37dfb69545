/* The parked requests. libfuse has ten workers and needs one of them to read INTERRUPT: if handlers
 * waited, ten slow opens would freeze the mount, unkillably. So a handler tries once; when
 * the cache says CACHE_WAIT the request is kept here and the worker goes on. One thread
 * repeats requests and replies.
 *
 * States of a request: running (on a worker or on the park's thread, not listed), listed. A listed
 * request is due when it was woken, when its deadline passed, when its caller was
 * interrupted and the time of the next look has come, or when the park closes. Due
 * requests are taken in the order of arrival.
 *
 * Locks. park->lock is a leaf: it is taken under the cache's lock (wake) and under libfuse's
 * req->lock (interrupt callback), and nothing is ever called with it held. So the interrupt
 * callback is registered and unregistered without it: libfuse takes req->lock for both,
 * and once unregistering has returned no callback runs (lib/fuse_lowlevel.c,
 * find_interrupted, fuse_req_interrupt_func).
 *
 * Signals. The kernel sends INTERRUPT for any signal, once per request, and then waits for the reply
 * even when SIGKILL follows. Which signals are pending tells /proc/TID/status, and
 * it is looked at again every LOOK_MS, for the fatal one that comes after a harmless one.
 * Callers of Go and of interval timers must not see EINTR from open.
 *
 * Closing answers with ENOTCONN, which is what every later call on the unmounted file system gets.
 * EINTR would be a lie, and programs that repeat the call on EINTR would park again.
 */
#include "fs/park.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 100 };

struct park {
    struct cache *cache;
    pthread_t thread;
    pthread_mutex_t lock; /* takes nothing after it; guards all below */
    pthread_cond_t changed;
    struct parked *first, *last;
    bool closing; /* nothing is parked any more */
    bool ending;  /* the thread ends once the list is empty */
};

enum reason { REASON_WOKEN, REASON_DEADLINE, REASON_INTERRUPT, REASON_CLOSING };

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- the caller's signals --- */

static uint64_t signal_bit(int number) {
    return UINT64_C(1) << (number - 1);
}

/* True if a thread whose /proc/TID/status is STATUS has a signal pending that ends its wait. */
static bool status_ends_wait(FILE *status) {
    const uint64_t harmless = signal_bit(SIGCHLD) | signal_bit(SIGURG) | signal_bit(SIGWINCH) |
                              signal_bit(SIGCONT) | signal_bit(SIGALRM) | signal_bit(SIGVTALRM) |
                              signal_bit(SIGPROF);
    uint64_t own = 0, shared = 0, blocked = 0;
    char line[256];
    int found = 0;

    while (found < 3 && fgets(line, sizeof(line), status)) {
        found += sscanf(line, "SigPnd: %" SCNx64, &own) == 1;
        found += sscanf(line, "ShdPnd: %" SCNx64, &shared) == 1;
        found += sscanf(line, "SigBlk: %" SCNx64, &blocked) == 1;
    }
    return found < 3 || (((own | shared) & ~blocked) & ~harmless) != 0;
}

/* What can't be read (another PID name space, a vanished thread) counts as a reason to end. */
static bool caller_ends_wait(fuse_req_t req) {
    pid_t tid = fuse_req_ctx(req)->pid;
    char path[64];

    if (tid <= 0)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    FILE *status = fopen(path, "re");
    if (!status)
        return true;
    bool ends = status_ends_wait(status);
    fclose(status);
    return ends;
}

/* --- the list --- */

static void park_wake(struct cache_waiter *waiter) {
    struct parked *parked = (struct parked *)((char *)waiter - offsetof(struct parked, waiter));
    struct park *park = parked->park;

    pthread_mutex_lock(&park->lock);
    parked->woken = true;
    if (parked->listed)
        pthread_cond_signal(&park->changed);
    pthread_mutex_unlock(&park->lock);
}

static void park_interrupt(fuse_req_t req, void *data) {
    struct parked *parked = data;
    struct park *park = parked->park;

    (void)req;
    pthread_mutex_lock(&park->lock);
    parked->interrupted = true;
    parked->look_ms = 0;
    if (parked->listed)
        pthread_cond_signal(&park->changed);
    pthread_mutex_unlock(&park->lock);
}

/* False if the park is closing: PARKED is still the caller's then. */
static bool park_insert(struct park *park, struct parked *parked) {
    pthread_mutex_lock(&park->lock);
    bool kept = !park->closing;
    if (kept) {
        parked->next = NULL;
        parked->prev = park->last;
        if (park->last)
            park->last->next = parked;
        else
            park->first = parked;
        park->last = parked;
        parked->listed = true;
        pthread_cond_signal(&park->changed);
    }
    pthread_mutex_unlock(&park->lock);
    return kept;
}

static void park_remove_locked(struct park *park, struct parked *parked) {
    if (parked->prev)
        parked->prev->next = parked->next;
    else
        park->first = parked->next;
    if (parked->next)
        parked->next->prev = parked->prev;
    else
        park->last = parked->prev;
    parked->listed = false;
}

/* When PARKED is due, and why. */
static int64_t park_due_locked(const struct park *park, const struct parked *parked,
                               enum reason *out_reason) {
    bool look_first = parked->interrupted && parked->look_ms < parked->waiter.deadline_ms;

    if (park->closing || parked->woken) {
        *out_reason = park->closing ? REASON_CLOSING : REASON_WOKEN;
        return 0;
    }
    *out_reason = look_first ? REASON_INTERRUPT : REASON_DEADLINE;
    return look_first ? parked->look_ms : parked->waiter.deadline_ms;
}

/* Takes the first request that is due off the list. NULL: none; *OUT_UNTIL_MS tells when the next one is. */
static struct parked *park_take_locked(struct park *park, enum reason *out_reason, int64_t *out_until_ms) {
    int64_t now = now_ms(), until = INT64_MAX;

    for (struct parked *parked = park->first; parked; parked = parked->next) {
        int64_t due = park_due_locked(park, parked, out_reason);
        if (due <= now) {
            park_remove_locked(park, parked);
            return parked;
        }
        until = due < until ? due : until;
    }
    *out_until_ms = until;
    return NULL;
}

/* --- running --- */

static int park_attempt(struct parked *parked) {
    /* Not registered with the cache here, so `wake` can't race with these. */
    parked->woken = false;
    parked->waiter.deadline_ms = INT64_MAX;
    return parked->attempt(parked);
}

static void park_finish(struct parked *parked, int rc) {
    fuse_req_interrupt_func(parked->req, NULL, NULL);
    parked->finish(parked, rc);
}

/* Keeps PARKED, whose waiter is registered. */
static void park_keep(struct park *park, struct parked *parked) {
    if (park_insert(park, parked))
        return;
    cache_cancel(park->cache, &parked->waiter);
    park_finish(parked, -ENOTCONN);
}

void park_run(struct park *park, struct parked *parked) {
    parked->park = park;
    parked->waiter.wake = park_wake;
    int rc = park_attempt(parked);
    if (rc != CACHE_WAIT) {
        parked->finish(parked, rc);
        return;
    }
    rc = parked->own(parked);
    if (rc < 0) {
        cache_cancel(park->cache, &parked->waiter);
        parked->finish(parked, rc);
        return;
    }
    fuse_req_interrupt_func(parked->req, park_interrupt, parked);
    park_keep(park, parked);
}

static void park_serve(struct park *park, struct parked *parked, enum reason reason) {
    if (reason == REASON_INTERRUPT && !caller_ends_wait(parked->req)) {
        pthread_mutex_lock(&park->lock);
        parked->look_ms = now_ms() + LOOK_MS;
        pthread_mutex_unlock(&park->lock);
        park_keep(park, parked);
        return;
    }
    if (reason != REASON_WOKEN)
        cache_cancel(park->cache, &parked->waiter);
    if (reason == REASON_INTERRUPT || reason == REASON_CLOSING) {
        park_finish(parked, reason == REASON_INTERRUPT ? -EINTR : -ENOTCONN);
        return;
    }
    int rc = park_attempt(parked);
    if (rc == CACHE_WAIT)
        park_keep(park, parked);
    else
        park_finish(parked, rc);
}

static void park_wait_locked(struct park *park, int64_t until_ms) {
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

    if (until_ms == INT64_MAX)
        pthread_cond_wait(&park->changed, &park->lock);
    else
        pthread_cond_timedwait(&park->changed, &park->lock, &until);
}

static void *park_main(void *arg) {
    struct park *park = arg;

    pthread_mutex_lock(&park->lock);
    while (!park->ending || park->first) {
        enum reason reason;
        int64_t until;
        struct parked *parked = park_take_locked(park, &reason, &until);
        if (!parked) {
            park_wait_locked(park, until);
            continue;
        }
        pthread_mutex_unlock(&park->lock);
        park_serve(park, parked, reason);
        pthread_mutex_lock(&park->lock);
    }
    pthread_mutex_unlock(&park->lock);
    return NULL;
}

/* --- life --- */

int park_create(struct cache *cache, struct park **out) {
    struct park *park = calloc(1, sizeof(*park));
    pthread_condattr_t attr;

    if (!park)
        return -ENOMEM;
    park->cache = cache;
    pthread_mutex_init(&park->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&park->changed, &attr);
    pthread_condattr_destroy(&attr);
    int rc = pthread_create(&park->thread, NULL, park_main, park);
    if (rc) {
        park_destroy(park);
        return -rc;
    }
    *out = park;
    return 0;
}

static void park_shut(struct park *park, bool ending) {
    pthread_mutex_lock(&park->lock);
    park->closing = true;
    park->ending = park->ending || ending;
    pthread_cond_signal(&park->changed);
    pthread_mutex_unlock(&park->lock);
}

void park_close(struct park *park) {
    park_shut(park, false);
}

void park_stop(struct park *park) {
    park_shut(park, true);
    pthread_join(park->thread, NULL);
    assert(!park->first);
}

void park_destroy(struct park *park) {
    if (!park)
        return;
    pthread_cond_destroy(&park->changed);
    pthread_mutex_destroy(&park->lock);
    free(park);
}
