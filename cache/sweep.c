/* sweep: complete lists, read page by page.
 *
 * Pages shift while they are read: what was added or changed moves others to the next page, what was deleted moves one to
 * the page before, where it is missed. So an end is believed only when a page is shorter than one that the service has given before
 * (it may cap pages below the limit: API.md C7), and what a list of several pages lacks is not gone but in doubt: confirmed
 * by GET, or, if it is much, by being missed twice.
 *
 * A note counts as seen when any list that was asked for since the scan began held it (node->seen), so that lists
 * under way at the same time help each other. What a reply of ours changed since is newer than the list.
 *
 *   the sweep  the whole account by `created`, for deletions and moves in accounts of more than one page. Runs while the mount is
 *              in use, at a twentieth of the read budget; the first one of all is not paced: it is waited for.
 *   a folder   by readdir, in such accounts, once a ttl; less often if it has many pages.
 */
#include "cache/sweep.h"

#include <errno.h>

#include "cache/fetch.h"
#include "cache/news.h"
#include "cache/place.h"
#include "cache/pull.h"

enum {
    CONFIRM_BY_GET = 20, /* more missing notes than this are confirmed by being missed twice */
    SWEEP_SHARE = 20,    /* a sweep uses one in so many reads */
    FOLDER_PAGES = 4,    /* a directory's own listing costs at most so many reads a ttl */
};

/* --- pages --- */

bool sweep_page(struct cache *cache, struct scan *scan, const struct completion *call) {
    const struct service_reply *reply = call->reply;
    struct pull *pull = &cache->pull;
    bool last = reply->item_count < pull->page_proven;

    if (call->call.offset == 0)
        *scan = (struct scan){.since = call->sequence};
    else if (reply->item_count > 0 && call->call.limit == SERVICE_PAGE_MAX)
        pull->page_cap = pull->page_proven; /* the page before was full */
    cache_begin(cache);
    for (size_t i = 0; i < reply->note_count; i++) {
        const struct service_note *item = &reply->notes[i];
        struct node *node;

        if (!(item->has & SERVICE_HAS_UPDATED) || !(item->has & SERVICE_HAS_SIZE))
            pull->sizeless = true;
        pull->blind |= !(item->has & SERVICE_HAS_UPDATED);
        (void)news_item(cache, item, call->sequence);
        node = tree_find_note(&cache->tree, item->id);
        if (node) {
            node->seen = call->sequence > node->seen ? call->sequence : node->seen;
            node->missed = false;
        }
    }
    (void)cache_commit(cache);
    if (reply->item_count > pull->page_proven)
        pull->page_proven = reply->item_count;
    scan->offset += (unsigned)reply->item_count;
    scan->pages += reply->item_count > 0;
    scan->partial |= reply->partial;
    return last || reply->item_count == 0;
}

bool sweep_is_full(const struct cache *cache, const struct completion *call) {
    size_t most = call->call.limit;

    if (cache->pull.page_cap && cache->pull.page_cap < most)
        most = cache->pull.page_cap;
    return call->reply->item_count >= most;
}

/* --- what is missing --- */

static bool is_missing(const struct node *node, const struct node *folder, uint64_t since) {
    if (folder && node->r.base_dir != folder->r.ino)
        return false;
    return node->seen < since && !node->frozen && node->own_change <= since && node->query == NODE_QUERY_NONE;
}

size_t sweep_count_missing(struct cache *cache, const struct node *folder, uint64_t since) {
    struct node *node, *next;
    size_t count = 0;

    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        count += is_missing(node, folder, since);
    }
    return count;
}

void sweep_handle_missing(struct cache *cache, const struct node *folder, uint64_t since, bool certain) {
    size_t count = sweep_count_missing(cache, folder, since);
    struct node *node, *next;

    if (!count)
        return;
    cache_begin(cache);
    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        if (!is_missing(node, folder, since))
            continue;
        if (certain || (node->missed && !folder))
            news_gone(cache, node);
        else if (count <= CONFIRM_BY_GET)
            (void)fetch_start(cache, node, NODE_QUERY_CONFIRM, SERVICE_FOREGROUND);
        else
            node->missed = cache->pull.sweep_wanted = true;
    }
    (void)cache_commit(cache);
}

/* --- the whole account --- */

static void start_sweep(struct cache *cache) {
    struct pull *pull = &cache->pull;

    pull->sweep_wanted = false;
    pull->sweeping = true;
    pull->sweep = (struct scan){0};
    pull->folders_wanted = true;
}

/* When the next page may be asked for. */
static int64_t page_due(struct cache *cache) {
    struct service_budget budget;
    int64_t limit, due;

    if (!cache->pull.listed)
        return cache->pull.retry_at_ms;
    cache->service->ops->budget(cache->service, SERVICE_READ, &budget);
    limit = budget.limit > 0 ? budget.limit : 600;
    due = cache->pull.page_at_ms + (int64_t)60000 * SWEEP_SHARE / limit;
    return due > cache->pull.retry_at_ms ? due : cache->pull.retry_at_ms;
}

void sweep_tick(struct cache *cache, bool due, int64_t *out_at_ms) {
    struct pull *pull = &cache->pull;
    int64_t due_at = page_due(cache), now = cache_now_ms(cache);

    if (!pull->sweeping && (pull->sweep_wanted || (due && now >= due_at)))
        start_sweep(cache);
    if (!pull->sweeping || pull->page_asked)
        return;
    if (pull->listed && !due && pull->sweep.offset)
        return; /* goes on when somebody looks */
    if (now < due_at) {
        *out_at_ms = due_at < *out_at_ms ? due_at : *out_at_ms;
        return;
    }
    pull->page_asked = true;
    pull->page_at_ms = now;
    if (pull->sweep.offset == 0)
        pull->sweep_sent_ms = now;
    pull_ask(cache, CALL_SWEEP, SERVICE_SORT_CREATED, SERVICE_PAGE_MAX, pull->sweep.offset);
}

void sweep_done(struct cache *cache, const struct completion *call) {
    struct pull *pull = &cache->pull;
    const struct service_reply *reply = call->reply;

    pull->page_asked = false;
    if (reply->outcome != SERVICE_OK) {
        pull_failed(cache, reply); /* the same page again: what shifted meanwhile is in doubt anyway */
        return;
    }
    pull->failures = 0;
    for (size_t i = 0; i < reply->note_count && !pull->listed; i++) {
        if (reply->notes[i].updated_at > pull->poll_newest)
            pull->poll_newest = reply->notes[i].updated_at;
    }
    (void)sweep_page(cache, &pull->sweep, call);
    if (reply->item_count > 0)
        return;
    pull->sweeping = false;
    pull->swept_at_ms = pull->sweep_sent_ms;
    if (!pull->sweep.partial)
        sweep_handle_missing(cache, NULL, pull->sweep.since, false);
    place_unclash(cache);
    if (!pull->listed)
        pull_listed(cache);
}

/* --- one directory --- */

bool sweep_folder_due(struct cache *cache, const struct node *dir, int64_t ttl_ms) {
    int64_t fresh = dir->listed_at_ms ? dir->listed_at_ms : INT64_MIN;
    int64_t pages = (int64_t)HASH_CNT(hh_name, dir->children) / SERVICE_PAGE_MAX + 1;

    if (!dir->r.folder || (!dir->r.id && dir != cache->tree.root))
        return false;
    if (cache->pull.swept_at_ms > fresh)
        fresh = cache->pull.swept_at_ms;
    pages = pages > FOLDER_PAGES ? pages : FOLDER_PAGES;
    return fresh == INT64_MIN || cache_now_ms(cache) - fresh >= ttl_ms * pages / FOLDER_PAGES;
}

static int ask_folder(struct cache *cache, struct node *dir, uint64_t since, unsigned offset) {
    struct completion *call = sync_call_create(cache, CALL_QUERY, 1);

    if (!call)
        return -ENOMEM;
    call->inos[0] = dir->r.ino;
    call->since = since ? since : call->sequence;
    call->call.op = SERVICE_OP_LIST;
    call->call.filter_folder = true;
    call->call.folder.place = dir->r.id ? SERVICE_PLACE_FOLDER : SERVICE_PLACE_ROOT;
    call->call.folder.id = dir->r.id;
    call->call.sort = SERVICE_SORT_CREATED;
    call->call.limit = SERVICE_PAGE_MAX;
    call->call.offset = offset;
    call->call.priority = SERVICE_FOREGROUND;
    sync_call_queue(cache, call);
    return 0;
}

int sweep_folder_start(struct cache *cache, struct node *dir, enum node_query query) {
    int err;

    if (dir->query != NODE_QUERY_NONE)
        return 0;
    err = ask_folder(cache, dir, 0, 0);
    if (err == 0)
        dir->query = query;
    return err;
}

bool sweep_folder_done(struct cache *cache, struct node *dir, struct completion *call, bool *out_empty) {
    struct scan scan = {.since = call->since, .offset = call->call.offset};
    bool last = sweep_page(cache, &scan, call);

    *out_empty = scan.offset == 0;
    if (!last && ask_folder(cache, dir, call->since, scan.offset) == 0)
        return false;
    if (last && !scan.partial)
        sweep_handle_missing(cache, dir, call->since, false);
    return true;
}
