/* pull: learns what changed on the service.
 *
 * Head poll   the newest notes by `updated`, at most once a ttl and only while somebody asks; widened page by page until the
 *             mark is reached. The mark is the newest server time seen; it is inclusive, two seconds back, since timestamps
 *             have a resolution of one second. In an account that fits one page the poll asks for the whole page
 *             and so is a snapshot: what it lacks is gone.
 * Sweep       all notes by `created`, in pages, until an empty page (API.md C7); finds deletions and moves in larger accounts.
 *             What a sweep of several pages misses is confirmed, by GET or, if it is much, by a second
 *             sweep, because pages shift while they are read. Paced to a twentieth of the read budget.
 * Folders     with each sweep, when a list names an unknown folder, and when the root is listed.
 *
 * Only server time is compared with server time; ttl and pacing use the monotonic clock.
 */
#include "cache/pull.h"

#include <errno.h>
#include <string.h>

#include "cache/fetch.h"
#include "cache/link.h"
#include "cache/news.h"

enum {
    HEAD_PAGE = 20,
    MARK_BACK_S = 2,          /* timestamps have a resolution of 1 s */
    CONFIRM_BY_GET = 20,      /* more missing notes than this are confirmed by a second sweep */
    SWEEP_SHARE = 20,         /* a sweep uses one in so many reads */
    FOLDERS_TTLS = 6,
};

/* An account that (safely) fits one page. */
static bool is_small(const struct cache *cache)
{
    return HASH_CNT(hh_id, cache->tree.note_by_id) < SERVICE_PAGE_MAX - 5;
}

/* The ttl in force: it stretches as the window of reads empties. */
static int64_t current_ttl(struct cache *cache)
{
    struct service_budget budget;
    int64_t ttl = cache->config.ttl_ms;

    cache->service->ops->budget(cache->service, SERVICE_READ, &budget);
    if (budget.limit <= 0 || budget.remaining < 0)
        return ttl;
    if (budget.remaining * 10 < budget.limit)
        return ttl * 6;
    return budget.remaining * 3 < budget.limit ? ttl * 2 : ttl;
}

static bool is_due(struct cache *cache)
{
    const struct pull *pull = &cache->pull;

    return pull->polled_at_ms == INT64_MIN || cache_now_ms(cache) - pull->polled_at_ms >= current_ttl(cache);
}

static bool known_offline(const struct cache *cache)
{
    return cache->link.state == LINK_OFFLINE || cache->identity != IDENTITY_TRUSTED ||
           cache->link.account == ACCOUNT_UNAUTHENTICATED ||
           cache->link.account == ACCOUNT_FORBIDDEN;
}

/* A poll that has been under way for so long is not awaited by others as well. */
static bool is_slow(const struct pull *pull, int64_t now)
{
    return pull->polling && now - pull->poll_sent_ms >= CACHE_AWAIT_MS;
}

int pull_await(struct cache *cache, struct cache_waiter *waiter)
{
    struct pull *pull = &cache->pull;

    pull->called_at_ms = cache_now_ms(cache);
    if (pull->listed && !is_due(cache))
        return 0;
    if (pull->listed || !pull->sweeping) {
        pull->poll_wanted = true;
        cache_kick(cache);
    }
    if (pull->listed && (known_offline(cache) || !waiter || (waiter->stage & STAGE_POLLED) ||
                         is_slow(pull, pull->called_at_ms)))
        return 0;
    if (!pull->listed && known_offline(cache))
        return cache->link.account == ACCOUNT_UNAUTHENTICATED ? -EACCES : -ETIMEDOUT;
    if (!waiter)
        return 0;
    waiter->stage |= STAGE_POLLED;
    if (!pull->listed)
        return cache_wait_on(cache, &pull->waiters, waiter, INT64_MAX);
    if (pull->polling)
        return cache_wait_on(cache, &pull->waiters, waiter,
                             pull->poll_sent_ms + CACHE_AWAIT_MS - pull->called_at_ms);
    return cache_wait_on(cache, &pull->waiters, waiter, CACHE_AWAIT_MS);
}

bool pull_is_slow(struct cache *cache)
{
    return is_slow(&cache->pull, cache_now_ms(cache));
}

/* A folder of a large account is listed on its own: its notes aren't on every head poll. */
static bool needs_own_listing(struct cache *cache, const struct node *dir)
{
    return dir->r.id && dir->r.folder && !is_small(cache) &&
           cache_now_ms(cache) - dir->listed_at_ms >= current_ttl(cache);
}

int pull_await_directory(struct cache *cache, struct node *dir, struct cache_waiter *waiter)
{
    int err;

    if (dir == cache->tree.root && cache_now_ms(cache) - cache->pull.folders_at_ms >= current_ttl(cache))
        cache->pull.folders_wanted = true;
    err = pull_await(cache, waiter);
    if (err || !needs_own_listing(cache, dir) || known_offline(cache) || !waiter || (waiter->stage & STAGE_LISTED))
        return err;
    waiter->stage |= STAGE_LISTED;
    dir->listed_at_ms = cache_now_ms(cache);
    if (fetch_start(cache, dir, NODE_QUERY_FETCH, SERVICE_FOREGROUND) < 0)
        return -ENOMEM;
    return cache_wait_on(cache, &dir->waiters, waiter, CACHE_AWAIT_MS);
}

static void ask_list(struct cache *cache, enum call_kind kind, enum service_sort sort, unsigned limit, unsigned offset)
{
    struct completion *call = sync_call_create(cache, kind, 1);

    if (!call)
        return;
    call->call.op = SERVICE_OP_LIST;
    call->call.sort = sort;
    call->call.limit = limit;
    call->call.offset = offset;
    call->call.priority = SERVICE_FOREGROUND;
    sync_call_queue(cache, call);
}

static void ask_head(struct cache *cache)
{
    unsigned limit = is_small(cache) || cache->pull.poll_offset ? SERVICE_PAGE_MAX : HEAD_PAGE;

    ask_list(cache, CALL_POLL, SERVICE_SORT_UPDATED, limit, cache->pull.poll_offset);
}

static void start_poll(struct cache *cache)
{
    struct pull *pull = &cache->pull;

    if (pull->probe_failed || (cache->link.account == ACCOUNT_READ_ONLY &&
                               cache_now_ms(cache) >= cache->link.retry_at_ms))
        pull->probed = pull->probe_failed = false;
    pull->poll_wanted = false;
    pull->polling = true;
    pull->poll_sent_ms = cache_now_ms(cache);
    pull->poll_offset = 0;
    pull->poll_newest = 0;
    pull->mark_held = false;
    ask_head(cache);
}

static void start_folders(struct cache *cache)
{
    struct completion *call = sync_call_create(cache, CALL_FOLDERS, 1);

    cache->pull.folders_wanted = false;
    if (!call)
        return;
    cache->pull.listing_folders = true;
    call->call.op = SERVICE_OP_FOLDERS;
    sync_call_queue(cache, call);
}

/* A harmless PATCH of a note that can't exist: a token that may write gets not_found, another forbidden. */
static void start_probe(struct cache *cache)
{
    struct completion *call = sync_call_create(cache, CALL_PROBE, 1);

    if (!call)
        return;
    cache->pull.probed = true;
    call->call.op = SERVICE_OP_PROBE_WRITE;
    sync_call_queue(cache, call);
}

static void start_sweep(struct cache *cache)
{
    struct pull *pull = &cache->pull;

    pull->sweep_wanted = false;
    pull->sweeping = true;
    pull->sweep_offset = 0;
    pull->sweep_pages = 0;
    pull->sweep_partial = false;
    pull->sweep++;
    pull->sweep_sequence = pull->sequence;
    pull->folders_wanted = true;
}

/* When the next page of a sweep may be asked for. The first list of all is not paced: it is waited for. */
static int64_t page_due(struct cache *cache)
{
    struct service_budget budget;
    int64_t limit;

    if (!cache->pull.listed)
        return INT64_MIN;
    cache->service->ops->budget(cache->service, SERVICE_READ, &budget);
    limit = budget.limit > 0 ? budget.limit : 600;
    return cache->pull.page_at_ms + (int64_t)60000 * SWEEP_SHARE / limit;
}

static bool is_active(struct cache *cache)
{
    return cache->pull.called_at_ms && cache_now_ms(cache) - cache->pull.called_at_ms < (int64_t)cache->config.ttl_ms;
}

static void sweep_tick(struct cache *cache, int64_t *out_at_ms)
{
    struct pull *pull = &cache->pull;
    int64_t due = page_due(cache), now = cache_now_ms(cache);

    if (!pull->sweeping && (pull->sweep_wanted || (is_active(cache) && !is_small(cache) && now >= due)))
        start_sweep(cache);
    if (!pull->sweeping || pull->page_asked)
        return;
    if (pull->listed && !pull->sweep_wanted && !is_active(cache) && pull->sweep_offset)
        return; /* goes on when somebody looks */
    if (now < due) {
        *out_at_ms = due < *out_at_ms ? due : *out_at_ms;
        return;
    }
    pull->page_asked = true;
    pull->page_at_ms = now;
    ask_list(cache, CALL_SWEEP, SERVICE_SORT_CREATED, SERVICE_PAGE_MAX, pull->sweep_offset);
}

void pull_tick(struct cache *cache, int64_t *out_at_ms)
{
    struct pull *pull = &cache->pull;

    if (known_offline(cache) && cache_now_ms(cache) < cache->link.retry_at_ms) {
        *out_at_ms = cache->link.retry_at_ms < *out_at_ms ? cache->link.retry_at_ms : *out_at_ms;
        return;
    }
    if (pull->poll_wanted && !pull->polling && pull->listed)
        start_poll(cache);
    if (!pull->listed && !pull->sweeping)
        pull->sweep_wanted = true;
    sweep_tick(cache, out_at_ms);
    if (pull->folders_wanted && !pull->listing_folders)
        start_folders(cache);
    if (!pull->probed)
        start_probe(cache);
    if (!pull->polling && !pull->sweeping && !pull->listing_folders)
        pull->refreshing = false;
}

static int reply_error(const struct service_reply *reply)
{
    if (reply->outcome == SERVICE_OK)
        return 0;
    return reply->outcome == SERVICE_REFUSED ? service_error_errno(reply->error) : -ETIMEDOUT;
}

static void apply_items(struct cache *cache, const struct completion *call, uint64_t stamp)
{
    const struct service_reply *reply = call->reply;

    if (reply->item_count > cache->pull.page_proven)
        cache->pull.page_proven = reply->item_count;
    cache_begin(cache);
    for (size_t i = 0; i < reply->note_count; i++) {
        const struct service_note *item = &reply->notes[i];
        struct node *node;

        if (!(item->has & SERVICE_HAS_UPDATED) || !(item->has & SERVICE_HAS_SIZE))
            cache->pull.sizeless = true;
        (void)news_item(cache, item, call->sequence);
        node = tree_find_note(&cache->tree, item->id);
        if (node) {
            node->seen = stamp;
            node->missed = false;
        }
    }
    (void)cache_commit(cache);
}

/* Notes that a complete list, asked for at SEQUENCE, did not hold. */
static bool is_missing(const struct node *node, uint64_t stamp, uint64_t sequence)
{
    return node->seen != stamp && !node->frozen && node->own_change <= sequence && node->query == NODE_QUERY_NONE;
}

static void handle_missing(struct cache *cache, uint64_t stamp, uint64_t sequence, bool certain)
{
    struct node *node, *next;
    size_t count = 0;

    HASH_ITER(hh_id, cache->tree.note_by_id, node, next)
        count += is_missing(node, stamp, sequence);
    if (!count)
        return;
    cache_begin(cache);
    HASH_ITER(hh_id, cache->tree.note_by_id, node, next)
    {
        if (!is_missing(node, stamp, sequence))
            continue;
        if (certain || node->missed)
            news_gone(cache, node);
        else if (count <= CONFIRM_BY_GET)
            (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_READ_AHEAD);
        else
            node->missed = cache->pull.sweep_wanted = true;
    }
    (void)cache_commit(cache);
}

static void finish_poll(struct cache *cache, int error)
{
    struct pull *pull = &cache->pull;

    pull->polling = false;
    pull->error = error;
    if (error == 0) {
        if (!pull->mark_held && pull->poll_newest > pull->mark)
            pull->mark = pull->poll_newest;
        pull->polled_at_ms = pull->poll_sent_ms;
        pull->polls++;
        if (cache_now_ms(cache) - pull->folders_at_ms >= (int64_t)cache->config.ttl_ms * FOLDERS_TTLS)
            pull->folders_wanted = true;
    }
    if (pull->listed)
        cache_wake_all(&pull->waiters, error);
}

/* Must older items be looked at as well? */
static bool must_widen(const struct pull *pull, const struct service_reply *reply)
{
    const struct service_note *last = reply->note_count ? &reply->notes[reply->note_count - 1] : NULL;

    if (!last || !(last->has & SERVICE_HAS_UPDATED) || !pull->mark)
        return false;
    return last->updated_at >= pull->mark - MARK_BACK_S;
}

void pull_poll_done(struct cache *cache, const struct completion *call)
{
    struct pull *pull = &cache->pull;
    const struct service_reply *reply = call->reply;
    bool whole;

    if (reply->outcome != SERVICE_OK) {
        finish_poll(cache, reply_error(reply));
        return;
    }
    if (call->call.offset == 0)
        pull->sweep += !pull->sweeping; /* a stamp of its own */
    for (size_t i = 0; i < reply->note_count; i++) {
        if (reply->notes[i].updated_at > pull->poll_newest)
            pull->poll_newest = reply->notes[i].updated_at;
    }
    whole = call->call.offset == 0 && call->call.limit == SERVICE_PAGE_MAX && reply->item_count < SERVICE_PAGE_MAX &&
            !reply->partial && !pull->sweeping;
    {
        /* A page shorter than one the service has given before is certainly the last. */
        bool certain = reply->item_count < pull->page_proven;

        apply_items(cache, call, pull->sweep);
        if (whole)
            handle_missing(cache, pull->sweep, call->sequence, certain);
    }
    if (!whole && reply->item_count && must_widen(pull, reply)) {
        pull->poll_offset = call->call.offset + (unsigned)reply->item_count;
        ask_head(cache);
        return;
    }
    finish_poll(cache, 0);
}

static void finish_sweep(struct cache *cache)
{
    struct pull *pull = &cache->pull;

    pull->sweeping = false;
    pull->swept_at_ms = cache_now_ms(cache);
    if (!pull->sweep_partial)
        handle_missing(cache, pull->sweep, pull->sweep_sequence, pull->sweep_pages <= 1);
    if (pull->listed)
        return;
    pull->listed = true;
    if (pull->poll_newest > pull->mark)
        pull->mark = pull->poll_newest;
    pull->polled_at_ms = pull->poll_sent_ms;
    cache_begin(cache);
    (void)store_put_meta(cache->store, "listed", "1");
    (void)cache_commit(cache);
    cache_wake_all(&pull->waiters, 0);
    pthread_cond_broadcast(&cache->wake);
}

void pull_sweep_done(struct cache *cache, const struct completion *call)
{
    struct pull *pull = &cache->pull;
    const struct service_reply *reply = call->reply;

    pull->page_asked = false;
    if (reply->outcome != SERVICE_OK) {
        pull->sweeping = false;
        pull->sweep_wanted = true;
        pull->error = reply_error(reply);
        pull->page_at_ms = cache_now_ms(cache) + CACHE_AWAIT_MS;
        if (!pull->listed)
            cache_wake_all(&pull->waiters, pull->error);
        return;
    }
    if (!pull->listed && pull->sweep_offset == 0)
        pull->poll_sent_ms = cache_now_ms(cache);
    for (size_t i = 0; i < reply->note_count && !pull->listed; i++) {
        if (reply->notes[i].updated_at > pull->poll_newest)
            pull->poll_newest = reply->notes[i].updated_at;
    }
    apply_items(cache, call, pull->sweep);
    pull->sweep_partial |= reply->partial;
    pull->sweep_offset += (unsigned)reply->item_count;
    pull->sweep_pages += reply->item_count > 0;
    if (reply->item_count == 0)
        finish_sweep(cache);
}

void pull_folders_done(struct cache *cache, const struct completion *call)
{
    struct pull *pull = &cache->pull;

    pull->listing_folders = false;
    if (call->reply->outcome != SERVICE_OK)
        return;
    if (pull->folder_change > call->sequence) {
        pull->folders_wanted = true; /* older than a change of ours */
        return;
    }
    pull->folders_at_ms = cache_now_ms(cache);
    (void)news_folders(cache, call->reply);
}

void pull_probe_done(struct cache *cache, const struct completion *call)
{
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
