/* pull: learns what changed on the service.
 *
 * Head poll   the newest notes by `updated`, at most once a ttl and only while somebody asks; widened page by page until the
 *             mark is reached. The mark is the newest server time that polls have covered (kept with the state); it is inclusive,
 *             two seconds back, since timestamps have a resolution of one second. In an account that fits one page the poll
 *             asks for the whole page and so is a snapshot: what it lacks is gone. If the service caps pages lower, it goes on
 *             until every known note is accounted for.
 * Sweep       complete lists of larger accounts (sweep.c).
 * Folders     with each sweep, when a list names an unknown folder, and, at most once a ttl, when the root is listed or a name in it
 *             isn't found.
 *
 * Only server time is compared with server time; ttl and pacing use the monotonic clock.
 */
#include "cache/pull.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cache/fetch.h"
#include "cache/link.h"
#include "cache/news.h"
#include "cache/place.h"
#include "cache/sweep.h"

enum {
    HEAD_PAGE = 20,
    MARK_BACK_S = 2, /* timestamps have a resolution of 1 s */
    FOLDERS_TTLS = 6,
    RETRY_MS = 250, /* after a failed poll, doubled up to */
    RETRY_MAX_MS = 15000,
    FIRST_FAILURES = 5, /* before those who wait for the first list of all are told */
};

bool pull_is_small(const struct cache *cache) {
    return HASH_CNT(hh_id, cache->tree.note_by_id) <= SERVICE_PAGE_MAX;
}

/* The ttl in force: it stretches as the window of reads empties. */
static int64_t current_ttl(struct cache *cache) {
    struct service_budget budget;
    int64_t ttl = cache->config.ttl_ms;

    cache->service->ops->budget(cache->service, SERVICE_READ, &budget);
    if (budget.limit <= 0 || budget.remaining < 0)
        return ttl;
    if (budget.remaining * 10 < budget.limit)
        return ttl * 6;
    return budget.remaining * 3 < budget.limit ? ttl * 2 : ttl;
}

static bool is_due(struct cache *cache) {
    const struct pull *pull = &cache->pull;

    return pull->polled_at_ms == INT64_MIN || cache_now_ms(cache) - pull->polled_at_ms >= current_ttl(cache);
}

static bool known_offline(const struct cache *cache) {
    return cache->link.state == LINK_OFFLINE || cache->identity != IDENTITY_TRUSTED ||
           cache->link.account == ACCOUNT_UNAUTHENTICATED || cache->link.account == ACCOUNT_FORBIDDEN;
}

/* A poll that has been under way for so long is not awaited by others as well. */
static bool is_slow(const struct pull *pull, int64_t now) {
    return pull->polling && now - pull->poll_sent_ms >= CACHE_AWAIT_MS;
}

static bool folders_due(struct cache *cache) {
    return cache_now_ms(cache) - cache->pull.folders_sent_ms >= current_ttl(cache);
}

/* Nothing is known yet: waits for the first list, however long it takes. */
static int await_first_list(struct cache *cache, struct cache_waiter *waiter) {
    if (known_offline(cache))
        return cache->link.account == ACCOUNT_UNAUTHENTICATED ? -EACCES : -ETIMEDOUT;
    if (!waiter)
        return 0;
    if ((waiter->stage & STAGE_POLLED) && waiter->error)
        return waiter->error;
    waiter->stage |= STAGE_POLLED;
    return cache_wait_on(cache, &cache->pull.waiters, waiter, INT64_MAX);
}

/* The sync thread is woken once for all that want the same: a walk over thousands of files does. */
static void want_news(struct cache *cache, bool poll, bool folders) {
    struct pull *pull = &cache->pull;

    poll = poll && !pull->poll_wanted && (pull->listed || !pull->sweeping);
    folders = folders && !pull->folders_wanted && !pull->listing_folders;
    pull->poll_wanted |= poll;
    pull->folders_wanted |= folders;
    if (poll || folders)
        cache_kick(cache);
}

static int await_news(struct cache *cache, bool folders, struct cache_waiter *waiter) {
    struct pull *pull = &cache->pull;
    int64_t now = cache_now_ms(cache);
    bool due = is_due(cache);

    pull->called_at_ms = now;
    folders = folders && (folders_due(cache) || pull->listing_folders);
    if (pull->listed && !due && !folders)
        return 0;
    want_news(cache, due && !(pull->polling && now - pull->poll_sent_ms < current_ttl(cache)), folders);
    if (!pull->listed)
        return await_first_list(cache, waiter);
    if (known_offline(cache) || now < pull->retry_at_ms || !waiter || (waiter->stage & STAGE_POLLED) ||
        is_slow(pull, now))
        return 0;
    waiter->stage |= STAGE_POLLED;
    return cache_wait_on(cache, &pull->waiters, waiter,
                         pull->polling ? pull->poll_sent_ms + CACHE_AWAIT_MS - now : CACHE_AWAIT_MS);
}

int pull_await(struct cache *cache, struct cache_waiter *waiter) {
    return await_news(cache, false, waiter);
}

int pull_await_name(struct cache *cache, const struct node *dir, struct cache_waiter *waiter) {
    return await_news(cache, dir == cache->tree.root, waiter);
}

bool pull_is_slow(struct cache *cache) {
    return is_slow(&cache->pull, cache_now_ms(cache));
}

int pull_await_directory(struct cache *cache, struct node *dir, struct cache_waiter *waiter) {
    int64_t now = cache_now_ms(cache);
    int err = await_news(cache, dir == cache->tree.root, waiter);

    if (err || !waiter || known_offline(cache) || pull_is_small(cache))
        return err;
    if (!(waiter->stage & STAGE_LISTED)) {
        waiter->stage |= STAGE_LISTED;
        waiter->mark = (uint64_t)(now + CACHE_AWAIT_MS);
        if (!sweep_folder_due(cache, dir, current_ttl(cache)))
            return 0;
        dir->listed_at_ms = now;
        if (sweep_folder_start(cache, dir, NODE_QUERY_FETCH) < 0)
            return -ENOMEM;
    }
    if (now >= (int64_t)waiter->mark)
        return 0;
    if (dir->query != NODE_QUERY_NONE)
        return cache_wait_on(cache, &dir->waiters, waiter, (int64_t)waiter->mark - now);
    return cache->pull.confirming
               ? cache_wait_on(cache, &cache->pull.waiters, waiter, (int64_t)waiter->mark - now)
               : 0;
}

void pull_ask(struct cache *cache, enum call_kind kind, enum service_sort sort, unsigned limit,
              unsigned offset) {
    static const struct service_reply unsent = {.outcome = SERVICE_UNSENT};
    struct completion *call = sync_call_create(cache, kind, 1);

    if (!call) { /* as if there were no network */
        if (kind == CALL_POLL)
            cache->pull.polling = false;
        else
            cache->pull.page_asked = false;
        pull_failed(cache, &unsent);
        return;
    }
    call->call.op = SERVICE_OP_LIST;
    call->call.sort = sort;
    call->call.limit = limit;
    call->call.offset = offset;
    call->call.priority = kind == CALL_SWEEP && cache->pull.listed ? SERVICE_READ_AHEAD : SERVICE_FOREGROUND;
    sync_call_queue(cache, call);
}

static void ask_head(struct cache *cache) {
    unsigned limit = pull_is_small(cache) || cache->pull.widened ? SERVICE_PAGE_MAX : HEAD_PAGE;

    pull_ask(cache, CALL_POLL, SERVICE_SORT_UPDATED, limit, cache->pull.poll.offset);
}

static void start_poll(struct cache *cache) {
    struct pull *pull = &cache->pull;

    if (pull->probe_failed ||
        (cache->link.account == ACCOUNT_READ_ONLY && cache_now_ms(cache) >= cache->link.retry_at_ms))
        pull->probed = pull->probe_failed = false;
    pull->poll_wanted = false;
    pull->polling = true;
    pull->poll_sent_ms = cache_now_ms(cache);
    pull->poll = (struct scan){0};
    pull->poll_newest = 0;
    pull->mark_held = pull->widened = false;
    ask_head(cache);
}

static void start_folders(struct cache *cache) {
    struct completion *call = sync_call_create(cache, CALL_FOLDERS, 1);

    if (!call)
        return; /* next round */
    cache->pull.folders_wanted = false;
    cache->pull.listing_folders = true;
    cache->pull.folders_sent_ms = cache_now_ms(cache);
    call->call.op = SERVICE_OP_FOLDERS;
    sync_call_queue(cache, call);
}

/* A harmless PATCH of a note that can't exist: a token that may write gets not_found, another forbidden. */
static void start_probe(struct cache *cache) {
    struct completion *call = sync_call_create(cache, CALL_PROBE, 1);

    if (!call)
        return;
    cache->pull.probed = true;
    call->call.op = SERVICE_OP_PROBE_WRITE;
    sync_call_queue(cache, call);
}

bool pull_is_active(struct cache *cache) {
    return cache->pull.called_at_ms &&
           cache_now_ms(cache) - cache->pull.called_at_ms < (int64_t)cache->config.ttl_ms;
}

void pull_tick(struct cache *cache, int64_t *out_at_ms) {
    struct pull *pull = &cache->pull;

    if (known_offline(cache) && cache_now_ms(cache) < cache->link.retry_at_ms) {
        *out_at_ms = cache->link.retry_at_ms < *out_at_ms ? cache->link.retry_at_ms : *out_at_ms;
        return;
    }
    if (pull->poll_wanted && !pull->polling && pull->listed) {
        if (cache_now_ms(cache) >= pull->retry_at_ms)
            start_poll(cache);
        else
            *out_at_ms = pull->retry_at_ms < *out_at_ms ? pull->retry_at_ms : *out_at_ms;
    }
    if (!pull->listed && !pull->sweeping)
        pull->sweep_wanted = true;
    sweep_tick(cache, pull_is_active(cache) && !pull_is_small(cache), out_at_ms);
    if (pull->folders_wanted && !pull->listing_folders)
        start_folders(cache);
    if (!pull->probed)
        start_probe(cache);
    if (!pull->polling && !pull->sweeping && !pull->listing_folders)
        pull->refreshing = false;
}

static int reply_error(const struct service_reply *reply) {
    if (reply->outcome == SERVICE_OK)
        return 0;
    return reply->outcome == SERVICE_REFUSED ? service_error_errno(reply->error) : -ETIMEDOUT;
}

/* Whoever waits goes on when nothing that it may wait for is under way. */
static void wake_waiters(struct cache *cache, int error) {
    struct pull *pull = &cache->pull;

    if (error == 0 && (!pull->listed || pull->polling || pull->poll_wanted || pull->listing_folders ||
                       pull->folders_wanted || pull->confirming))
        return;
    cache_wake_all(&pull->waiters, error);
}

void pull_confirmed(struct cache *cache) {
    cache->pull.confirming--;
    if (!cache->pull.confirming)
        place_unclash(cache);
    wake_waiters(cache, 0);
}

void pull_failed(struct cache *cache, const struct service_reply *reply) {
    struct pull *pull = &cache->pull;
    int64_t pause = pull->failures < 6 ? (int64_t)RETRY_MS << pull->failures : RETRY_MAX_MS;

    pull->error = reply_error(reply);
    pull->failures += pull->failures < 20;
    pull->retry_at_ms = cache_now_ms(cache) + pause;
    if (pull->listed || pull->failures >= FIRST_FAILURES)
        wake_waiters(cache, pull->error);
}

static void advance_mark(struct cache *cache) {
    struct pull *pull = &cache->pull;
    char text[24];

    if (!pull->mark_held && pull->poll_newest > pull->mark)
        pull->mark = pull->poll_newest;
    if (pull->mark == pull->stored_mark)
        return;
    pull->stored_mark = pull->mark;
    (void)snprintf(text, sizeof(text), "%" PRId64, pull->mark);
    cache_begin(cache);
    (void)store_put_meta(cache->store, "mark", text);
    (void)cache_commit(cache);
}

static void finish_poll(struct cache *cache) {
    struct pull *pull = &cache->pull;

    pull->polling = false;
    pull->error = 0;
    pull->failures = 0;
    pull->retry_at_ms = 0;
    place_unclash(cache);
    advance_mark(cache);
    pull->polled_at_ms = pull->poll_sent_ms;
    pull->polls++;
    if (cache_now_ms(cache) - pull->folders_at_ms >= (int64_t)cache->config.ttl_ms * FOLDERS_TTLS)
        pull->folders_wanted = true;
    wake_waiters(cache, 0);
}

/* Must older items be looked at as well? */
static bool must_widen(const struct pull *pull, const struct service_reply *reply) {
    const struct service_note *last = reply->note_count ? &reply->notes[reply->note_count - 1] : NULL;

    if (!last || !(last->has & SERVICE_HAS_UPDATED) || !pull->mark)
        return false;
    return last->updated_at >= pull->mark - MARK_BACK_S;
}

void pull_poll_done(struct cache *cache, const struct completion *call) {
    struct pull *pull = &cache->pull;
    const struct service_reply *reply = call->reply;
    bool small = pull_is_small(cache) && call->call.limit == SERVICE_PAGE_MAX, last;

    if (reply->outcome != SERVICE_OK) {
        pull->polling = false;
        pull_failed(cache, reply);
        return;
    }
    for (size_t i = 0; i < reply->note_count; i++) {
        if (reply->notes[i].updated_at > pull->poll_newest)
            pull->poll_newest = reply->notes[i].updated_at;
    }
    last = sweep_page(cache, &pull->poll, call);
    if (small && !pull->poll.partial && sweep_count_missing(cache, NULL, pull->poll.since)) {
        if (!last) {
            ask_head(cache);
            return;
        }
        sweep_handle_missing(cache, NULL, pull->poll.since, pull->poll.pages <= 1 && reply->item_count);
    } else if (sweep_is_full(cache, call) && must_widen(pull, reply)) {
        /* Items of equal times may come in another order each time: the first page anew, whole. */
        if (call->call.limit < SERVICE_PAGE_MAX)
            pull->poll.offset = 0;
        pull->widened = true;
        ask_head(cache);
        return;
    }
    finish_poll(cache);
}

void pull_listed(struct cache *cache) {
    struct pull *pull = &cache->pull;

    pull->listed = true;
    pull->error = 0;
    pull->failures = 0;
    pull->retry_at_ms = 0;
    pull->polled_at_ms = pull->sweep_sent_ms;
    advance_mark(cache);
    cache_begin(cache);
    (void)store_put_meta(cache->store, "listed", "1");
    (void)cache_commit(cache);
    wake_waiters(cache, 0);
    pthread_cond_broadcast(&cache->wake);
}

void pull_folders_done(struct cache *cache, const struct completion *call) {
    struct pull *pull = &cache->pull;

    pull->listing_folders = false;
    if (call->reply->outcome != SERVICE_OK) {
        wake_waiters(cache, pull->listed ? reply_error(call->reply) : 0);
        return;
    }
    if (pull->folder_change > call->sequence) {
        pull->folders_wanted = true; /* older than a change of ours */
        return;
    }
    pull->folders_at_ms = cache_now_ms(cache);
    (void)news_folders(cache, call->reply);
    wake_waiters(cache, 0);
}

void pull_probe_done(struct cache *cache, const struct completion *call) {
    const struct service_reply *reply = call->reply;

    cache->pull.probe_answered = true;
    pthread_cond_broadcast(&cache->wake);
    if (reply->outcome == SERVICE_REFUSED && reply->error == SERVICE_ERROR_NOT_FOUND) {
        cache_begin(cache);
        (void)store_put_meta(cache->store, "writable", "1");
        (void)cache_commit(cache);
        link_writable(cache);
    } else if (reply->outcome != SERVICE_REFUSED) {
        cache->pull.probe_failed = true; /* no answer: asked again with a later poll */
    }
}
