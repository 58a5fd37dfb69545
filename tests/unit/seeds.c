/* seeds: random cases that can be repeated. One linear congruential sequence a case, the same on every machine. */
#include "tests/unit/seeds.h"

#include <stdlib.h>

static uint64_t random_state;
static uint64_t random_seed;

void random_start(uint64_t seed) {
    random_seed = seed;
    random_state = seed * 0x9E3779B97F4A7C15u + 1;
}

uint64_t random_case(void) {
    return random_seed;
}

uint64_t random_word(void) {
    return random_state;
}

uint32_t random_below(uint32_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

void each_seed(uint64_t rounds, void (*one)(void)) {
    const char *wish = getenv("TEST_SEED");

    for (uint64_t seed = 1; seed <= rounds; seed++) {
        random_start(wish ? strtoull(wish, NULL, 10) : seed);
        one();
        if (wish)
            return;
    }
}
