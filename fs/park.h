/* park: requests that wait, so that no FUSE worker does. */
#ifndef JOTSFS_FS_PARK_H
#define JOTSFS_FS_PARK_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"
#include "fs/fuse.h"

struct park;

/* A request that may wait: heap memory, embedded in what holds its arguments. */
struct parked {
    fuse_req_t req;
    /* One try with WAITER: 0, a negative errno, or CACHE_WAIT. Runs on a worker first, then on the park's thread. */
    int (*attempt)(struct parked *parked);
    /* Copies what the arguments borrow from the caller of park_run. 0 or -ENOMEM. Called once, before waiting. */
    int (*own)(struct parked *parked);
    /* Replies and frees PARKED. Called exactly once. */
    void (*finish)(struct parked *parked, int rc);
    struct cache_waiter waiter;

    /* Below: the park's own; flags and links are guarded by its lock. */
    struct park *park;
    struct parked *next, *prev;
    int64_t look_ms;
    bool listed, woken, interrupted;
};

/* Starts the park's thread. -ENOMEM, -EAGAIN. */
int park_create(struct cache *cache, struct park **out);

/* Tries PARKED at once and finishes it, or keeps it until it is woken, its deadline has passed or its caller
 * got a signal that ends the wait (-EINTR). Takes PARKED. Never blocks. */
void park_run(struct park *park, struct parked *parked);

/* From now on nothing waits: what is parked, and what would park, ends with -ENOTCONN. Doesn't wait for that. */
void park_close(struct park *park);
/* park_close, then waits until everything is answered and the thread has ended. */
void park_stop(struct park *park);
/* After park_stop and cache_destroy: a thread of the cache may still be leaving `wake`. NULL is fine. */
void park_destroy(struct park *park);

#endif
