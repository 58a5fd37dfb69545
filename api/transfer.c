/* transfer: one exchange, set up so that nothing goes where it should not.
 *
 * - The token goes to the configured origin only: one protocol, TLS verified, no redirects (a 3xx is an
 *   answer like any other), no netrc, no cookies; to loopback no proxy of the environment either.
 * - Nothing is read without a bound: headers 64 KiB, body by the caller's maximum,
 *   counted after decompression.
 * - "Unsent" is exact: libcurl calls on_request() when a connection stands, handshakes
 *   included, just before it writes the first byte. Without that call no byte has left, whatever
 *   failed. After it, anything may have. That is also right when libcurl repeats the request by itself
 *   because a kept connection turns out to be closed: the repetition has the same bytes and the same key.
 *
 * Created, driven and destroyed by http on its network thread.
 */
#include "api/transfer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/service.h"

#ifndef JOTSFS_VERSION
#define JOTSFS_VERSION "dev"
#endif

enum {
    HEADERS_MAX = 64 << 10,
    WHOLE_TIMEOUT_MS = 600000, /* a body of the largest size over a bad line; ends drips that never stall */
    HEADER_LINES = 5,
    KEY_LINE = 20 + SERVICE_KEY_MAX,
};

struct transfer {
    CURL *easy;
    char *url;
    void *owner;
    struct token_line *token;
    struct curl_slist lines[HEADER_LINES];
    unsigned line_count;
    char key_line[KEY_LINE];
    struct header header;
    char *data;
    size_t size, capacity, max;
    bool asked;     /* a byte of the request may have left */
    bool too_large; /* the answer was cut off at a bound */
    char why[CURL_ERROR_SIZE];
};

/* Memory for SIZE bytes and a NUL; doubling, and never beyond twice the maximum. */
static bool make_room(struct transfer *transfer, size_t size) {
    size_t capacity = transfer->capacity ? transfer->capacity : 4096;
    char *grown;

    while (capacity <= size)
        capacity *= 2;
    if (capacity == transfer->capacity)
        return true;
    grown = realloc(transfer->data, capacity);
    if (!grown)
        return false;
    transfer->data = grown;
    transfer->capacity = capacity;
    return true;
}

static size_t on_body(char *data, size_t unit, size_t count, void *arg) {
    struct transfer *transfer = arg;
    size_t size = unit * count;

    if (size > transfer->max - transfer->size) {
        transfer->too_large = true;
        return 0;
    }
    if (!make_room(transfer, transfer->size + size))
        return 0;
    memcpy(transfer->data + transfer->size, data, size);
    transfer->size += size;
    return size;
}

static size_t on_header(char *data, size_t unit, size_t count, void *arg) {
    struct transfer *transfer = arg;
    size_t size = unit * count;

    header_line(&transfer->header, data, size);
    if (transfer->header.size > HEADERS_MAX) {
        transfer->too_large = true;
        return 0;
    }
    return size;
}

static int on_request(void *arg, char *to_ip, char *from_ip, int to_port, int from_port) {
    struct transfer *transfer = arg;

    (void)to_ip;
    (void)from_ip;
    (void)to_port;
    (void)from_port;
    transfer->asked = true;
    return CURL_PREREQFUNC_OK;
}

static void add_line(struct transfer *transfer, char *text) {
    struct curl_slist *line = &transfer->lines[transfer->line_count];

    line->data = text;
    if (transfer->line_count > 0)
        transfer->lines[transfer->line_count - 1].next = line;
    transfer->line_count++;
}

/* The list is made of our own nodes: libcurl only reads it, and the token isn't copied. */
static void set_headers(struct transfer *transfer, const struct request *request, const char *key) {
    static char accept[] = "Accept: application/json";
    static char type[] = "Content-Type: application/json";
    /* Large bodies go at once; waiting for 100 Continue costs a round trip or a second. */
    static char expect[] = "Expect:";

    add_line(transfer, token_line_header(transfer->token));
    add_line(transfer, accept);
    if (request->body) {
        add_line(transfer, type);
        add_line(transfer, expect);
    }
    if (key) {
        snprintf(transfer->key_line, sizeof(transfer->key_line), "Idempotency-Key: %s", key);
        add_line(transfer, transfer->key_line);
    }
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->lines);
}

static void set_request(struct transfer *transfer, const struct request *request) {
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    if (request->body) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "jotsfs/" JOTSFS_VERSION);
    /* What comes of it is bounded after decompression, in on_body(). */
    if (curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_LIBZ)
        curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
}

static void set_safety(CURL *easy, const struct transfer_target *target) {
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, target->origin.secure ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    if (target->origin.loopback)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
}

static void set_connection(CURL *easy, const struct transfer_target *target) {
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    /* A burst over TLS waits for the first connection, which may carry all of it. */
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, target->origin.secure ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, target->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, target->stall_timeout_s);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)WHOLE_TIMEOUT_MS);
    /* Else the end would wait for a resolver thread. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
}

static void set_callbacks(struct transfer *transfer) {
    CURL *easy = transfer->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->why);
}

struct transfer *transfer_create(const struct transfer_target *target, const struct request *request,
                                 const char *key, struct token_line *token, size_t answer_max, void *owner) {
    struct transfer *transfer = calloc(1, sizeof(*transfer));

    if (!transfer) {
        token_line_put(token);
        return NULL;
    }
    transfer->token = token;
    transfer->owner = owner;
    transfer->max = answer_max;
    header_init(&transfer->header);
    transfer->easy = curl_easy_init();
    if (asprintf(&transfer->url, "%s%s", target->base_url, request->path) < 0)
        transfer->url = NULL;
    if (!transfer->easy || !transfer->url) {
        transfer_destroy(transfer);
        return NULL;
    }
    set_callbacks(transfer);
    set_safety(transfer->easy, target);
    set_connection(transfer->easy, target);
    set_request(transfer, request);
    set_headers(transfer, request, key);
    return transfer;
}

void transfer_destroy(struct transfer *transfer) {
    if (!transfer)
        return;
    curl_easy_cleanup(transfer->easy);
    token_line_put(transfer->token);
    free(transfer->url);
    free(transfer->data);
    free(transfer);
}

CURL *transfer_easy(struct transfer *transfer) {
    return transfer->easy;
}

void *transfer_owner(CURL *easy) {
    struct transfer *transfer = NULL;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
    return transfer ? transfer->owner : NULL;
}

enum transfer_end transfer_finish(struct transfer *transfer, CURLcode code, struct codec_answer *out_answer) {
    long status = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status < 100 || status > 999)
        return transfer_abandon(transfer);
    if (transfer->data)
        transfer->data[transfer->size] = '\0';
    *out_answer = (struct codec_answer){(int)status, transfer->data, transfer->size};
    return TRANSFER_ANSWERED;
}

enum transfer_end transfer_abandon(const struct transfer *transfer) {
    return transfer->asked ? TRANSFER_BROKEN : TRANSFER_UNSENT;
}

const char *transfer_why(const struct transfer *transfer, CURLcode code) {
    if (transfer->too_large)
        return "the answer is too large";
    return transfer->why[0] ? transfer->why : curl_easy_strerror(code);
}

const struct header *transfer_header(const struct transfer *transfer) {
    return &transfer->header;
}

const struct token_line *transfer_token(const struct transfer *transfer) {
    return transfer->token;
}
