/* The lower layers, put together: the service over HTTP, given to the cache. Used with a mount on top, and
 * without one by `jotsfs flush STATE_DIR`.
 *
 * Draining goes in slices, because three things may end it early: nothing is left, a second signal,
 * and a new mount that asks for the state directory.
 *
 * Called by main.c.
 */
#include "fs/backend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "api/http.h"
#include "fs/signals.h"

enum { SLICE_MS = 100, LINES_MAX = 50 };

static int make_cache(const struct options *options, struct credentials *credentials,
                      const struct cache_events *events, struct log *log, struct service *service,
                      struct cache **out, char **out_why) {
    struct cache_config config = {
        .state_dir = options->state_dir,
        .ttl_ms = (unsigned)options->ttl_ms,
        .settle_ms = (unsigned)options->settle_ms,
        .settle_delete_ms = (unsigned)options->settle_delete_ms,
        .request_timeout_ms = (unsigned)options->request_timeout_ms,
        .cache_size_bytes = options->cache_size_bytes,
        .fsync = options->fsync,
        .append_only = options->append_only,
        .read_only = options->read_only,
        .local_globs = options->local,
        .uid = options->uid,
        .gid = options->gid,
        .umask = options->umask,
        .fingerprint = credentials_fingerprint,
        .fingerprint_arg = credentials,
        .events = *events,
        .log = log_text,
        .log_arg = log,
    };

    return cache_create(&config, service, out, out_why);
}

/* What is wrong with the token file, said before anything is started. */
static int check_token_file(const char *path, char **out_why) {
    const char *why = NULL;
    char *token = NULL;
    int rc = http_read_token(path, &token, &why);

    if (token)
        explicit_bzero(token, strlen(token));
    free(token);
    if (rc < 0 && asprintf(out_why, "%s: %s", path, why ? why : strerrordesc_np(-rc)) < 0)
        *out_why = NULL;
    return rc;
}

int backend_open(const struct options *options, struct credentials *credentials,
                 const struct cache_events *events, struct log *log, struct cache **out, char **out_why) {
    struct http_config http = {
        .base_url = options->url,
        .token = credentials->text,
        .token_file = credentials->file,
        .stall_timeout_ms = (unsigned)options->request_timeout_ms,
        .log = log_text,
        .log_arg = log,
    };
    struct service *service;
    struct cache *cache;
    int rc;

    if (credentials->file && (rc = check_token_file(credentials->file, out_why)) < 0)
        return rc;
    rc = http_service_create(&http, &service);
    if (rc < 0)
        return rc;
    rc = make_cache(options, credentials, events, log, service, &cache, out_why);
    if (rc < 0) {
        service->ops->destroy(service);
        return rc;
    }
    rc = cache_start(cache);
    if (rc < 0)
        cache_destroy(cache);
    else
        *out = cache;
    return rc;
}

static uint64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void log_left(struct cache *cache, size_t left, const struct log *log) {
    struct cache_status *status;

    log_line(log, LOG_WARNING, "%zu changes are not on the service; they are kept and sent by the next mount",
             left);
    if (cache_status(cache, &status) < 0)
        return;
    for (size_t i = 0; i < status->pending_count && i < LINES_MAX; i++) {
        const struct cache_pending *pending = &status->pending[i];
        log_line(log, LOG_WARNING, "not sent: %s %s, %" PRIu64 " bytes%s%s", pending->kind, pending->path,
                 pending->bytes, pending->message ? ": " : "", pending->message ? pending->message : "");
    }
    cache_status_destroy(status);
}

size_t backend_drain(struct cache *cache, uint64_t timeout_ms, const struct log *log) {
    uint64_t end = now_ms() + timeout_ms;
    bool done = false;
    size_t left;

    if (cache_offer_handover(cache) < 0)
        log_line(log, LOG_WARNING, "a new mount of this state has to wait until this one has drained");
    do {
        left = cache_drain(cache, SLICE_MS, &done);
    } while (!done && now_ms() < end && !cache_handover_requested(cache) && !signals_stop_again());
    if (left > 0)
        log_left(cache, left, log);
    return left;
}
