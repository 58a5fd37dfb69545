/* link: is the service reachable, does it accept the token?
 *
 * Any HTTP answer means online. No answer at all means offline: nothing waits for the network any more, one call at a time is tried
 * after a pause that doubles up to LINK_PAUSE_MAX_MS. Refusals that concern the account are kept apart: they park no note, writes wait,
 * and are tried again at the same pace, so that a replaced token file or a renewed plan is noticed by itself.
 */
#include "cache/link.h"

#include <errno.h>
#include <stdlib.h>

enum { LINK_PAUSE_MS = 500, LINK_PAUSE_MAX_MS = 15000 };

const char *link_account_name(enum account_state state) {
    switch (state) {
    case ACCOUNT_OK:
        return "ok";
    case ACCOUNT_UNAUTHENTICATED:
        return "unauthenticated";
    case ACCOUNT_FORBIDDEN:
        return "forbidden";
    case ACCOUNT_READ_ONLY:
        return "read-only";
    case ACCOUNT_UNKNOWN:
        break;
    }
    return "unknown";
}

static void pause_link(struct cache *cache) {
    struct link *link = &cache->link;
    int64_t pause = link->failures < 6 ? (int64_t)LINK_PAUSE_MS << link->failures : LINK_PAUSE_MAX_MS;

    /* What was sent together fails together, and counts once. */
    if (link->retry_at_ms > cache_now_ms(cache))
        return;
    link->failures += link->failures < 20;
    link->retry_at_ms = cache_now_ms(cache) + pause;
}

static void set_account(struct cache *cache, enum account_state state, const char *message) {
    if (cache->link.account == state)
        return;
    if (state == ACCOUNT_OK && cache->link.account != ACCOUNT_UNKNOWN)
        cache_log(cache, LOG_NOTICE, "the service accepts the token again");
    else if (state == ACCOUNT_READ_ONLY)
        cache_log(cache, LOG_WARNING, "the token may only read, so nothing can be changed: %s",
                  message ? message : "");
    else if (state != ACCOUNT_OK)
        cache_log(cache, LOG_ERR, "the service refuses the token: %s", message ? message : "");
    cache->link.account = state;
    (void)tree_set_string(&cache->link.message, state == ACCOUNT_OK ? NULL : message);
    pthread_cond_broadcast(&cache->wake);
}

static void refused(struct cache *cache, const struct service_reply *reply, bool write) {
    if (reply->error == SERVICE_ERROR_UNAUTHENTICATED) {
        set_account(cache, ACCOUNT_UNAUTHENTICATED, reply->message);
        pause_link(cache);
    } else if (reply->error == SERVICE_ERROR_FORBIDDEN && write) {
        /* The token or the plan doesn't allow to write. */
        set_account(cache, ACCOUNT_READ_ONLY, reply->message);
        pause_link(cache);
    } else if (reply->error == SERVICE_ERROR_FORBIDDEN) {
        set_account(cache, ACCOUNT_FORBIDDEN, reply->message);
        pause_link(cache);
    }
}

void link_heard(struct cache *cache, const struct service_reply *reply, bool write) {
    struct link *link = &cache->link;

    if (reply->status == 0 && reply->outcome != SERVICE_OK) {
        if (link->state == LINK_ONLINE)
            cache_log(cache, LOG_WARNING, "the service can't be reached: %s",
                      reply->message ? reply->message : "");
        link->state = LINK_OFFLINE;
        pause_link(cache);
        pthread_cond_broadcast(&cache->wake);
        cache_wake_all(&cache->pull.waiters, cache->pull.listed ? 0 : -ETIMEDOUT);
        return;
    }
    if (link->state == LINK_OFFLINE)
        cache_log(cache, LOG_NOTICE, "the service is reachable again");
    link->state = LINK_ONLINE;
    if (reply->outcome == SERVICE_REFUSED) {
        refused(cache, reply, write);
        return;
    }
    if (reply->outcome != SERVICE_OK)
        return;
    link->failures = 0;
    link->retry_at_ms = 0;
    if (write || cache->link.account != ACCOUNT_READ_ONLY)
        set_account(cache, ACCOUNT_OK, NULL);
}

void link_writable(struct cache *cache) {
    if (cache->link.account == ACCOUNT_READ_ONLY || cache->link.account == ACCOUNT_UNKNOWN)
        set_account(cache, ACCOUNT_OK, NULL);
}

void link_retry_now(struct cache *cache) {
    cache->link.retry_at_ms = 0;
    cache->link.failures = 0;
    if (cache->link.account != ACCOUNT_OK)
        cache->link.account = ACCOUNT_UNKNOWN;
    cache_kick(cache);
}
