/* seeds: random cases that can be repeated: a failure names its seed, TEST_SEED=N runs that one alone. */
#ifndef JOTSFS_TESTS_SEEDS_H
#define JOTSFS_TESTS_SEEDS_H

#include <stdint.h>

/* Runs ONE for the seeds 1 to ROUNDS, or for the one that the environment names. */
void each_seed(uint64_t rounds, void (*one)(void));
/* 0 to BOUND - 1, from the case's seed. */
uint32_t random_below(uint32_t bound);
/* 64 bits where the sequence stands. */
uint64_t random_word(void);
/* Starts the sequence of SEED. */
void random_start(uint64_t seed);
/* The seed of the case that runs. */
uint64_t random_case(void);

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail_msg("TEST_SEED=%llu: %s", (unsigned long long)random_case(), #condition);                   \
    } while (0)

#endif
