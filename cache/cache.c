/* cache: opening and closing: the state directory becomes the tree, the sync thread runs, what is owed drains.
 *
 * Loading trusts the rows and nothing else: files that no row names are removed, frozen requests that refer to bytes
 * that a power loss took (so they never left: sync.c) are dropped, all others count as in doubt until resolved.
 */
#include "cache/cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cache/account.h"
#include "cache/base.h"
#include "cache/cache_internal.h"
#include "cache/content.h"
#include "cache/freeze.h"
#include "cache/link.h"
#include "cache/pull.h"
#include "cache/readahead.h"
#include "cache/sync.h"

enum { HANDOVER_WAIT_MS = 1500 };

/* --- the system's clock --- */

static int64_t system_monotonic_ms(void *arg) {
    struct timespec now;

    (void)arg;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void system_realtime(struct timespec *out, void *arg) {
    (void)arg;
    (void)clock_gettime(CLOCK_REALTIME, out);
}

static void system_random(void *out, size_t size, void *arg) {
    (void)arg;
    if (getrandom(out, size, 0) != (ssize_t)size)
        abort(); /* up to 256 bytes never fail (getrandom(2)) */
}

static const struct cache_clock system_clock = {system_monotonic_ms, system_realtime, system_random, NULL};

/* --- loading --- */

/* A node's name waits until all nodes are there: its directory may be younger than it. */
struct placing {
    struct placing *next;
    struct node *node;
    uint64_t dir;
    char *name;
};

struct loading {
    struct cache *cache;
    struct placing *placings;
};

static int put_off_placing(struct loading *loading, struct node *node, uint64_t dir, char *name) {
    struct placing *placing = malloc(sizeof(*placing));

    if (!placing) {
        free(name);
        return -ENOMEM;
    }
    *placing = (struct placing){loading->placings, node, dir, name};
    loading->placings = placing;
    return 0;
}

static void place_all(struct loading *loading) {
    struct tree *tree = &loading->cache->tree;
    struct placing *placing;

    while ((placing = loading->placings)) {
        struct node *dir = tree_find(tree, placing->dir);

        loading->placings = placing->next;
        if (!dir || !dir->r.folder)
            dir = tree->root;
        if (!tree_child(dir, placing->name))
            (void)tree_place(tree, placing->node, dir, placing->name);
        free(placing->name);
        free(placing);
    }
}

static void load_root(struct store_node *root, struct store_node *rec) {
    root->mode = rec->mode;
    root->atime_ns = rec->atime_ns;
    root->mtime_ns = rec->mtime_ns;
    root->ctime_ns = rec->ctime_ns;
    store_node_release(rec);
}

static int load_node(struct store_node *rec, void *arg) {
    struct loading *loading = arg;
    struct cache *cache = loading->cache;
    char *name = rec->name;
    uint64_t dir = rec->dir;
    struct node *node;

    if (rec->ino == CACHE_ROOT_INO) { /* made already: only its attributes are kept */
        load_root(&cache->tree.root->r, rec);
        return 0;
    }
    rec->name = NULL;
    node = tree_add(&cache->tree, rec);
    if (!node) {
        store_node_release(rec);
        free(name);
        return -ENOMEM;
    }
    if (name && put_off_placing(loading, node, dir, name) < 0)
        return -ENOMEM;
    node->r.error = 0; /* parked ones are tried again after a remount */
    node->quiet_at_ms = cache_now_ms(cache);
    if (node->r.body) {
        cache->bodies++;
        cache->body_bytes += node->r.body_size;
    }
    if (node->r.changed_at || node->r.content != STORE_CONTENT_BASE || !name ||
        (!node->r.id && !node->r.scratch))
        tree_mark_dirty(&cache->tree, node);
    return 0;
}

/* 1: all that the request refers to is there, 0: not; else an errno: that can't be told now. */
static int is_whole(struct cache *cache, struct node *node, const struct store_frozen *frozen) {
    struct body *text = NULL;
    int whole = 1, err = content_open_written(cache, node);

    if (err == -EMFILE || err == -ENFILE || err == -ENOMEM)
        return err;
    if (frozen->tail_to && !frozen->body)
        whole = node->tail && node->r.tail_epoch == frozen->tail_epoch &&
                tail_size(node->tail) >= frozen->tail_to;
    if (frozen->body) {
        whole = body_open(statedir_bodies(cache->dir), frozen->body, &text) == 0 &&
                body_size(text) >= (int64_t)frozen->text_size;
        body_put(text);
    }
    content_close(cache, node);
    return whole;
}

static int load_frozen(struct store_frozen *rec, void *arg) {
    struct cache *cache = arg;
    struct node *node = tree_find(&cache->tree, rec->ino);
    struct store_frozen *frozen = malloc(sizeof(*frozen));
    int64_t age, timeout = cache->config.request_timeout_ms;
    int whole;

    if (!frozen)
        return -ENOMEM;
    *frozen = *rec;
    frozen->draft_change = UINT64_MAX; /* changes are counted anew in each run */
    whole = node ? is_whole(cache, node, frozen) : 0;
    if (whole <= 0) {
        if (whole == 0)
            (void)store_erase_frozen(cache->store, frozen->ino);
        store_frozen_release(frozen);
        free(frozen);
        return whole;
    }
    node->frozen = frozen;
    tree_mark_dirty(&cache->tree, node);
    /* Appends and creates go again under their key, but not while the first send may still be under way; what
     * overwrites is read first (resolve.c). */
    node->in_doubt = frozen->op == SERVICE_OP_PATCH || frozen->op == SERVICE_OP_DELETE;
    node->tried_at_ms = cache_now_ms(cache);
    age = cache_time_ns(cache) / 1000000 - frozen->last_sent_ms;
    if (!node->in_doubt && age >= 0 && age < timeout)
        node->retry_at_ms = node->tried_at_ms + timeout - age;
    return 0;
}

/* Where a dirty note's UTF-8 stands, so that the next append goes on from there. */
static void load_contents(struct cache *cache) {
    char buffer[65536];
    struct node *node;

    for (node = cache->tree.dirty; node; node = node->dirty_next) {
        uint64_t unsent, from;

        if (node->r.folder || content_open_written(cache, node) < 0)
            continue;
        unsent = content_unsent(node);
        from = unsent > 8 ? unsent - 8 : 0; /* a character is four bytes at most */
        if (unsent && tail_read(node->tail, node->r.tail_from + from, buffer, (size_t)(unsent - from)) == 0) {
            size_t whole = text_utf8_whole(buffer, (size_t)(unsent - from));

            (void)text_utf8_feed(&node->utf8, buffer + whole, (size_t)(unsent - from) - whole);
        }
        (void)content_check(cache, node);
        content_close(cache, node);
    }
}

struct known_files {
    struct cache *cache;
    uint64_t *numbers;
    size_t count;
};

static int by_number(const void *a, const void *b) {
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void remove_unknown(uint64_t number, void *arg) {
    struct known_files *known = arg;

    if (!bsearch(&number, known->numbers, known->count, sizeof(number), by_number))
        (void)body_drop(statedir_bodies(known->cache->dir), number);
}

static void remove_unknown_tail(uint64_t number, void *arg) {
    struct cache *cache = arg;
    struct node *node = tree_find(&cache->tree, number);

    if (!node || !node->r.tail_epoch)
        (void)tail_unlink(statedir_tails(cache->dir), number);
}

static int remove_strays(struct cache *cache) {
    struct known_files known = {.cache = cache};
    struct node *node, *next;

    known.numbers = calloc((size_t)HASH_CNT(hh_ino, cache->tree.by_ino) * 4 + 1, sizeof(uint64_t));
    if (!known.numbers)
        return -ENOMEM;
    HASH_ITER(hh_ino, cache->tree.by_ino, node, next) {
        known.numbers[known.count++] = node->r.body;
        known.numbers[known.count++] = node->r.draft;
        known.numbers[known.count++] = node->r.ancestor;
        known.numbers[known.count++] = node->frozen ? node->frozen->body : 0;
    }
    qsort(known.numbers, known.count, sizeof(uint64_t), by_number);
    (void)body_each(statedir_bodies(cache->dir), remove_unknown, &known);
    (void)body_each(statedir_tails(cache->dir), remove_unknown_tail, cache);
    free(known.numbers);
    return 0;
}

/* A restart of the machine may have lost bytes of cached bodies that no fdatasync covered. */
static int load_facts(struct cache *cache) {
    char boot[64] = "", *value = NULL;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    int err;

    if (file && !fgets(boot, sizeof(boot), file))
        boot[0] = '\0';
    if (file)
        (void)fclose(file);
    err = store_get_meta(cache->store, "boot", &value);
    cache->recheck_bodies = err < 0 || !value || strcmp(value, boot) != 0;
    free(value);
    value = NULL;
    if (store_get_meta(cache->store, "append_rule", &value) == 0 && value)
        cache->rule = strcmp(value, "always") == 0 ? TEXT_RULE_ALWAYS : TEXT_RULE_MISSING;
    free(value);
    value = NULL;
    if (store_get_meta(cache->store, "writable", &value) == 0 && value)
        cache->pull.probed = cache->pull.probe_answered = true;
    free(value);
    value = NULL;
    if (store_get_meta(cache->store, "listed", &value) == 0 && value)
        cache->had_state = cache->pull.listed = true;
    free(value);
    value = NULL;
    if (store_get_meta(cache->store, "mark", &value) == 0 && value)
        cache->pull.mark = cache->pull.stored_mark = strtoll(value, NULL, 10);
    free(value);
    /* State counts as just listed: it is shown first and checked behind that. */
    if (cache->pull.listed)
        cache->pull.swept_at_ms = cache_now_ms(cache);
    cache_begin(cache);
    (void)store_put_meta(cache->store, "boot", boot);
    return cache_commit(cache);
}

static int load(struct cache *cache) {
    struct loading loading = {.cache = cache};
    int err = load_facts(cache);

    if (err == 0)
        err = store_each_node(cache->store, load_node, &loading);
    place_all(&loading);
    if (err == 0) {
        load_contents(cache);
        cache_begin(cache);
        err = store_each_frozen(cache->store, load_frozen, cache);
        if (cache_commit(cache) < 0)
            err = -EIO;
    }
    if (err == 0)
        err = remove_strays(cache);
    if (err == 0)
        err = account_load(cache);
    /* The check of what changed meanwhile runs behind the first look. */
    cache->pull.poll_wanted = cache->pull.listed;
    cache->pull.sweep_wanted = !cache->pull.listed || !pull_is_small(cache);
    cache->pull.folders_wanted = true;
    cache->clashes = true; /* perhaps */
    return err;
}

/* --- life --- */

static int init_locks(struct cache *cache) {
    pthread_condattr_t attr;
    int err = pthread_mutex_init(&cache->lock, NULL);

    if (err)
        return -err;
    err = pthread_condattr_init(&attr);
    if (err == 0)
        err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (err == 0)
        err = pthread_cond_init(&cache->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    return -err;
}

static void explain(char **out_why, const char *dir, int err, const char *why, int owner) {
    if (err == -EBUSY && owner > 0) {
        if (asprintf(out_why, "state directory %s is in use by another jotsfs (pid %d)", dir, owner) < 0)
            *out_why = NULL;
    } else if (asprintf(out_why, "state directory %s: %s", dir, why ? why : strerrordesc_np(-err)) < 0) {
        *out_why = NULL;
    }
}

static void release(struct cache *cache) {
    readahead_release(cache);
    cache_forget_waste(cache);
    tree_release(&cache->tree);
    store_close(cache->store);
    statedir_close(cache->dir);
    free(cache->link.message);
    (void)pthread_cond_destroy(&cache->wake);
    (void)pthread_mutex_destroy(&cache->lock);
    free(cache);
}

int cache_create(const struct cache_config *config, struct service *service, struct cache **out,
                 char **out_why) {
    struct cache *cache = calloc(1, sizeof(*cache));
    const char *why = NULL;
    int owner = 0, err;

    *out_why = NULL;
    if (!cache)
        return -ENOMEM;
    cache->config = *config;
    cache->clock = config->clock ? *config->clock : system_clock;
    cache->service = service;
    cache->note_cap = CACHE_NOTE_CAP;
    cache->storage_used = cache->storage_cap = -1;
    cache->outbox_end = &cache->outbox;
    cache->completions_end = &cache->completions;
    cache->pull.polled_at_ms = cache->pull.swept_at_ms = INT64_MIN;
    err = init_locks(cache);
    if (err == 0)
        err = tree_init(&cache->tree);
    if (err == 0)
        err = statedir_open(config->state_dir, HANDOVER_WAIT_MS, &cache->dir, &owner);
    if (err == 0)
        err = store_open(config->state_dir, &cache->store, &why);
    if (err == 0)
        err = load(cache);
    if (err < 0) {
        explain(out_why, config->state_dir, err, why, owner);
        release(cache);
        return err;
    }
    if (!cache->tree.root->r.mtime_ns)
        cache->tree.root->r.mtime_ns = cache->tree.root->r.ctime_ns = cache_time_ns(cache);
    cache->tree.root->r.uid = cache->tree.root->r.gid = UINT32_MAX;
    cache->synced_at_ms = cache_now_ms(cache);
    if (config->read_only)
        cache->pull.probed = cache->pull.probe_answered = true;
    *out = cache;
    return 0;
}

int cache_start(struct cache *cache) {
    int err = pthread_create(&cache->thread, NULL, sync_thread, cache);

    cache->started = err == 0;
    return err ? -EAGAIN : 0;
}

/* Waits on the condition until AT_MS. Lock held. */
static void wait_until(struct cache *cache, int64_t at_ms) {
    struct timespec until = {.tv_sec = at_ms / 1000, .tv_nsec = (at_ms % 1000) * 1000000};

    (void)pthread_cond_timedwait(&cache->wake, &cache->lock, &until);
}

/* The token was accepted or refused; without state, also whether it may write. */
static bool is_proven(const struct cache *cache) {
    if (cache->identity == IDENTITY_FOREIGN)
        return true;
    if (cache->link.account == ACCOUNT_UNKNOWN || cache->identity == IDENTITY_ASKING)
        return false;
    return cache->had_state || cache->pull.probe_answered || cache->link.account != ACCOUNT_OK;
}

int cache_prove(struct cache *cache, int64_t timeout_ms, char **out_why) {
    int64_t until =
        cache_now_ms(cache) + (cache->had_state && timeout_ms > CACHE_AWAIT_MS ? CACHE_AWAIT_MS : timeout_ms);
    int err = 0;

    *out_why = NULL;
    pthread_mutex_lock(&cache->lock);
    cache_kick(cache);
    while (!is_proven(cache) && cache->link.state != LINK_OFFLINE && !cache->pull.error &&
           cache_now_ms(cache) < until)
        wait_until(cache, until);
    if (cache->identity == IDENTITY_FOREIGN) {
        err = -EACCES;
        if (asprintf(out_why,
                     "the token belongs to another account than the state in %s: use its own with -o "
                     "state_dir=DIR",
                     cache->config.state_dir) < 0)
            *out_why = NULL;
    } else if (cache->link.account == ACCOUNT_UNAUTHENTICATED ||
               (cache->link.account == ACCOUNT_FORBIDDEN && !cache->had_state)) {
        err = -EACCES;
        if (asprintf(out_why, "the service refuses the token: %s",
                     cache->link.message ? cache->link.message : "no reason given") < 0)
            *out_why = NULL;
    } else if (cache->link.account == ACCOUNT_UNKNOWN && !cache->had_state) {
        err = -ETIMEDOUT;
        *out_why =
            strdup(cache->link.state == LINK_ONLINE
                       ? "the service doesn't answer as expected, and there is no state from an earlier mount"
                       : "the service can't be reached, and there is no state from an earlier mount");
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

static size_t count_left(const struct cache *cache) {
    const struct node *node;
    size_t left = 0;

    for (node = cache->tree.dirty; node; node = node->dirty_next)
        left++;
    return left;
}

size_t cache_drain(struct cache *cache, int64_t timeout_ms, bool *out_done) {
    int64_t until = cache_now_ms(cache) + timeout_ms;
    size_t left;

    pthread_mutex_lock(&cache->lock);
    if (!cache->draining || !cache->closing) {
        cache->draining = cache->closing = true;
        cache->owing = 1; /* until the sync thread has looked */
        link_retry_now(cache);
    }
    while (cache->owing && cache_now_ms(cache) < until && !cache->handover)
        wait_until(cache, until);
    left = count_left(cache);
    *out_done = cache->owing == 0;
    pthread_mutex_unlock(&cache->lock);
    return left;
}

static void want_handover(void *arg) {
    struct cache *cache = arg;

    pthread_mutex_lock(&cache->lock);
    cache->handover = true;
    pthread_cond_broadcast(&cache->wake);
    pthread_mutex_unlock(&cache->lock);
}

int cache_offer_handover(struct cache *cache) {
    return statedir_offer(cache->dir, want_handover, cache);
}

bool cache_handover_requested(struct cache *cache) {
    bool requested;

    pthread_mutex_lock(&cache->lock);
    requested = cache->handover;
    pthread_mutex_unlock(&cache->lock);
    return requested;
}

static void retry_parked(struct cache *cache) {
    struct node *node;

    for (node = cache->tree.dirty; node; node = node->dirty_next) {
        node->r.error = 0;
        node->batch_max = SERVICE_BULK_MAX;
        if (!node->frozen || !node->in_flight)
            node->retry_at_ms = 0;
    }
}

int cache_flush_all(struct cache *cache, struct cache_waiter *waiter) {
    int err = 0;

    pthread_mutex_lock(&cache->lock);
    if (waiter->stage & STAGE_FLUSHED) {
        err = waiter->error;
    } else {
        waiter->stage |= STAGE_FLUSHED;
        cache->draining = true;
        cache->owing = 1;
        link_retry_now(cache);
        err = cache_wait_on(cache, &cache->flush_waiters, waiter, INT64_MAX);
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

int cache_refresh(struct cache *cache, struct cache_waiter *waiter) {
    int err;

    pthread_mutex_lock(&cache->lock);
    if (waiter->stage & STAGE_POLLED) {
        err = waiter->error;
    } else {
        waiter->stage |= STAGE_POLLED;
        retry_parked(cache);
        cache->pull.refreshing = true;
        cache->pull.poll_wanted = cache->pull.sweep_wanted = cache->pull.folders_wanted = true;
        cache->pull.retry_at_ms = 0;
        link_retry_now(cache);
        err = cache_wait_on(cache, &cache->pull.waiters, waiter, INT64_MAX);
    }
    pthread_mutex_unlock(&cache->lock);
    return err;
}

static void discard_calls(struct completion *list) {
    struct completion *next;

    for (; list; list = next) {
        next = list->next;
        sync_call_destroy(list);
    }
}

void cache_destroy(struct cache *cache) {
    if (!cache)
        return;
    pthread_mutex_lock(&cache->lock);
    cache->stopping = true;
    pthread_cond_broadcast(&cache->wake);
    pthread_mutex_unlock(&cache->lock);
    if (cache->started)
        (void)pthread_join(cache->thread, NULL);
    cache->service->ops->destroy(cache->service); /* every reply arrives now, as cancelled */
    discard_calls(cache->outbox);
    discard_calls(cache->completions);
    pthread_mutex_lock(&cache->lock);
    sync_finish(cache);
    pthread_mutex_unlock(&cache->lock);
    release(cache);
}

void cache_statfs(struct cache *cache, struct statvfs *out) {
    uint64_t cap, used;

    pthread_mutex_lock(&cache->lock);
    cap = cache->storage_cap > 0 ? (uint64_t)cache->storage_cap : UINT64_C(1) << 40;
    used = cache->storage_used > 0 ? (uint64_t)cache->storage_used : 0;
    memset(out, 0, sizeof(*out));
    out->f_bsize = out->f_frsize = 4096;
    out->f_namemax = 255;
    out->f_blocks = cap / 4096;
    out->f_bfree = out->f_bavail = (cap - (used < cap ? used : cap)) / 4096;
    out->f_files = cache->tree.notes + cache->tree.folders + 1000000;
    out->f_ffree = out->f_favail = 1000000;
    pthread_mutex_unlock(&cache->lock);
}
