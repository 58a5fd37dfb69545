#include "fake_clock.h"

enum { START_MS = 100000 };

static const int64_t start_real_ms = 1795000000000;

void fake_clock_init(struct fake_clock *clock, uint64_t seed) {
    *clock = (struct fake_clock){START_MS, start_real_ms, seed * 2 + 1};
}

static int64_t monotonic_ms(void *arg) {
    const struct fake_clock *clock = arg;

    return clock->now_ms;
}

static void realtime(struct timespec *out, void *arg) {
    const struct fake_clock *clock = arg;

    out->tv_sec = clock->real_ms / 1000;
    out->tv_nsec = clock->real_ms % 1000 * 1000000;
}

static void random_bytes(void *out, size_t size, void *arg) {
    struct fake_clock *clock = arg;
    unsigned char *bytes = out;

    for (size_t i = 0; i < size; i++) {
        clock->random_seed = clock->random_seed * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (unsigned char)(clock->random_seed >> 56);
    }
}

struct cache_clock fake_clock_face(struct fake_clock *clock) {
    return (struct cache_clock){monotonic_ms, realtime, random_bytes, clock};
}

void fake_clock_advance(struct fake_clock *clock, int64_t ms) {
    clock->now_ms += ms;
    clock->real_ms += ms;
}
