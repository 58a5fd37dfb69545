/* header: what the response headers tell: rate limits, waiting times, date, replay. Pure. */
#ifndef JOTSFS_API_HEADER_H
#define JOTSFS_API_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct header {
    int64_t limit;         /* X-RateLimit-Limit, -1 = absent, as all below */
    int64_t remaining;     /* X-RateLimit-Remaining */
    int64_t reset;         /* X-RateLimit-Reset: seconds, or seconds since the epoch */
    int64_t retry_seconds; /* Retry-After, when it is a number */
    int64_t retry_date;    /* Retry-After, when it is a date: seconds since the epoch */
    int64_t date;          /* Date, seconds since the epoch */
    bool replayed;         /* Idempotent-Replay: true */
    size_t size;           /* bytes seen so far, for a bound */
};

void header_init(struct header *header);

/* Takes one line, not NUL-terminated. A status line forgets what earlier lines (of a 100 Continue) told. */
void header_line(struct header *header, const char *line, size_t size);

/* How long until the window refills, by Reset: ms, or -1 when not told. NOW is our own clock in seconds
 * since the epoch, used where the answer has no Date. */
int64_t header_reset_ms(const struct header *header, int64_t now);

/* How long a throttled call must wait: by Retry-After, else by Reset, else 60 s; 1 s at least, an
 * hour at most (API.md C20). */
int64_t header_wait_ms(const struct header *header, int64_t now);

#endif
