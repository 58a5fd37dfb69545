/* header: reads the few response headers that matter, from a server that may send anything.
 *
 * Numbers are taken only when they are whole, decimal and below 1e12; anything else
 * counts as absent. Times of the server are compared with the server's own Date,
 * so that a wrong clock on either side does no harm.
 *
 * Called by transfer for each line, and by http for the waiting times.
 */
#include "api/header.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

enum { VALUE_MAX = 128, DEFAULT_WAIT_S = 60, MAX_WAIT_S = 3600 };

/* Above this a Reset is a moment, not a duration. */
static const int64_t epoch_from = 1000000000;

void header_init(struct header *header) {
    *header = (struct header){
        .limit = -1, .remaining = -1, .reset = -1, .retry_seconds = -1, .retry_date = -1, .date = -1};
}

static int64_t number_of(const char *text) {
    int64_t value = 0;

    if (!*text)
        return -1;
    for (; *text; text++) {
        /* Tolerates "12.5": the fraction is dropped. */
        if (*text == '.' && text[1] && text[strspn(text + 1, "0123456789") + 1] == '\0')
            break;
        if (*text < '0' || *text > '9' || value > INT64_C(100000000000))
            return -1;
        value = value * 10 + (*text - '0');
    }
    return value;
}

static int64_t date_of(const char *text) {
    time_t moment = curl_getdate(text, NULL);

    return moment > 0 ? (int64_t)moment : -1;
}

static void take(struct header *header, const char *name, const char *value) {
    if (strcasecmp(name, "x-ratelimit-limit") == 0) {
        header->limit = number_of(value);
    } else if (strcasecmp(name, "x-ratelimit-remaining") == 0) {
        header->remaining = number_of(value);
    } else if (strcasecmp(name, "x-ratelimit-reset") == 0) {
        header->reset = number_of(value);
    } else if (strcasecmp(name, "retry-after") == 0) {
        header->retry_seconds = number_of(value);
        header->retry_date = header->retry_seconds < 0 ? date_of(value) : -1;
    } else if (strcasecmp(name, "date") == 0) {
        header->date = date_of(value);
    } else if (strcasecmp(name, "idempotent-replay") == 0) {
        header->replayed = strcasecmp(value, "true") == 0;
    }
}

void header_line(struct header *header, const char *line, size_t size) {
    char text[VALUE_MAX];
    char *colon;
    char *value;
    size_t seen = header->size + size;

    header->size = seen;
    while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == '\n' || line[size - 1] == ' '))
        size--;
    if (size == 0 || size >= sizeof(text) || memchr(line, '\0', size))
        return;
    memcpy(text, line, size);
    text[size] = '\0';
    if (strncasecmp(text, "http/", 5) == 0) {
        header_init(header);
        header->size = seen;
        return;
    }
    colon = strchr(text, ':');
    if (!colon)
        return;
    *colon = '\0';
    value = colon + 1;
    value += strspn(value, " \t");
    take(header, text, value);
}

int64_t header_reset_ms(const struct header *header, int64_t now) {
    int64_t reference = header->date >= 0 ? header->date : now;
    int64_t seconds = header->reset;

    if (seconds < 0)
        return -1;
    if (seconds > epoch_from)
        seconds -= reference;
    return seconds < 0 ? 0 : (seconds > MAX_WAIT_S ? MAX_WAIT_S : seconds) * 1000;
}

int64_t header_wait_ms(const struct header *header, int64_t now) {
    int64_t reference = header->date >= 0 ? header->date : now;
    int64_t seconds = DEFAULT_WAIT_S;

    if (header->retry_seconds >= 0)
        seconds = header->retry_seconds;
    else if (header->retry_date >= 0)
        seconds = header->retry_date - reference;
    else if (header->reset >= 0)
        seconds = header_reset_ms(header, now) / 1000;
    if (seconds < 1)
        seconds = 1;
    return (seconds > MAX_WAIT_S ? MAX_WAIT_S : seconds) * 1000;
}
