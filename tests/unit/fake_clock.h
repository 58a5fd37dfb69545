/* fake_clock: time that stands still until the test moves it. */
#ifndef JOTSFS_TESTS_FAKE_CLOCK_H
#define JOTSFS_TESTS_FAKE_CLOCK_H

#include <stdint.h>

#include "cache/cache.h"

struct fake_clock {
    int64_t now_ms;       /* monotonic */
    int64_t real_ms;      /* since the epoch */
    uint64_t random_seed; /* of what the cache takes for random */
};

/* Some day in 2026; the random numbers depend on SEED only. */
void fake_clock_init(struct fake_clock *clock, uint64_t seed);
/* The clock as cache_config wants it; it refers to CLOCK. */
struct cache_clock fake_clock_face(struct fake_clock *clock);
void fake_clock_advance(struct fake_clock *clock, int64_t ms);

#endif
