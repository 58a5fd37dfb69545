/* push: sends what is owed.
 *
 * Every round: describe the dirty nodes to the planner, carry out adoptions, then start the steps that depend on nothing and for
 * which there is budget. Starting means: a CHECK first where the step overwrites or deletes (API.md C10), else freeze and send.
 * One request per note is in flight; notes go in parallel, oldest unsent change first; a note that was just served
 * goes to the end of the line, so that one that floods starves nobody.
 *
 * Group commit: the first append leaves at once, what arrives while it is in flight forms the next. A note that is
 * appended to without pause is paced (burst of PACE_BURST, then PACE_RATE a second), so that a fast log loop spends a few calls
 * instead of the minute's budget. When the bucket is empty nothing is frozen: the group grows until there is budget.
 * All that time the note is `awaited`: a reply or an alarm brings the sync thread back to it, and writes don't wake it.
 */
#include "cache/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"
#include "cache/content.h"
#include "cache/fetch.h"
#include "cache/freeze.h"
#include "cache/names.h"
#include "cache/outcome.h"
#include "cache/owed.h"
#include "cache/reconcile.h"
#include "cache/resolve.h"

enum {
    PUSH_PARALLEL = 12, /* frozen requests in flight: reads must find room too */
    PUSH_BATCH_BYTES = 4 * 1024 * 1024,
    PUSH_OPEN_MS = 30000, /* a rewrite held open goes after this long */
    PUSH_PLAN_SHARE = 5,
    PUSH_BURST_SETTLES = 4, /* new files wait for each other this many settle times at most */
    CHECK_VALID_MS = 500,   /* a check counts for what leaves right after it */
};

#define PACE_BURST 10.0
#define PACE_RATE 1.0

struct round {
    struct cache *cache;
    int64_t now, at_ms;
    struct plan_note *notes;
    struct plan_folder *folders;
    size_t note_count, folder_count;
    int64_t burst_ms;              /* last change or close of any file or folder that is still to be made */
    int64_t room[SERVICE_CLASSES]; /* calls that may leave now */
    bool blocked;                  /* offline or refused: nothing may leave now */
};

static void wake_at(struct round *round, int64_t at_ms) {
    if (at_ms < round->at_ms)
        round->at_ms = at_ms;
}

/* True, and the alarm set, while AT_MS is still ahead. */
static bool is_ahead(struct round *round, int64_t at_ms) {
    if (at_ms <= round->now)
        return false;
    if (at_ms != INT64_MAX)
        wake_at(round, at_ms);
    return true;
}

/* --- when a change has settled --- */

/* Files made one after the other (cp, tar) settle together, so that they go in one call; within bounds. */
static bool holds_new(struct round *round, const struct node *node) {
    int64_t settle = round->cache->config.settle_ms;
    int64_t bound = node->quiet_at_ms + PUSH_BURST_SETTLES * settle;
    int64_t due = round->burst_ms + settle;

    return is_ahead(round, due < bound ? due : bound);
}

static bool holds_create(struct round *round, struct node *node) {
    int64_t settle = round->cache->config.settle_ms;

    if (node->hurry)
        return false;
    if (node->writers == 0)
        return holds_new(round, node);
    if (!node->r.append_born || node->r.content != STORE_CONTENT_TAIL)
        return true;
    if (!node->line_at_ms && owed_has_line(round->cache, node))
        node->line_at_ms = round->now;
    return !node->line_at_ms || is_ahead(round, node->line_at_ms + settle);
}

static bool holds_name(struct round *round, struct node *node) {
    struct cache *cache = round->cache;
    int64_t settle = cache->config.settle_ms;

    if (cache->draining || node->delete_now)
        return false;
    if (!node->r.id)
        return node->r.folder ? holds_new(round, node) : holds_create(round, node);
    if (!node->dir || names_is_scratch(node->r.name, cache->config.local_globs))
        settle = cache->config.settle_delete_ms;
    return is_ahead(round, node->quiet_at_ms + settle);
}

static bool holds_body(struct round *round, struct node *node) {
    struct cache *cache = round->cache;

    if (cache->draining || node->hurry)
        return false;
    if (node->writers > 0)
        return is_ahead(round, node->rewritten_at_ms + PUSH_OPEN_MS);
    return is_ahead(round, node->quiet_at_ms + cache->config.settle_ms);
}

/* Written so far, a file that is still open may hold what no text has: a hole, half a character. */
static bool is_unfinished(struct cache *cache, struct node *node) {
    if (!node->writers || content_check(cache, node) == 0)
        return false;
    node->bad_text = false;
    node->hurry = false;
    node->rewritten_at_ms = cache_now_ms(cache);
    return true;
}

/* --- pacing of appends to one note --- */

static bool paces(struct round *round, struct node *node) {
    double gained = (double)(round->now - node->paced_at_ms) * PACE_RATE / 1000.0;

    if (!node->paced_at_ms || node->pace + gained > PACE_BURST)
        node->pace = PACE_BURST;
    else
        node->pace += gained;
    node->paced_at_ms = round->now;
    if (node->pace >= 1.0)
        return false;
    wake_at(round, round->now + 1 + (int64_t)((1.0 - node->pace) * 1000.0 / PACE_RATE));
    return true;
}

/* --- describing nodes to the planner --- */

static bool is_busy(struct round *round, struct node *node) {
    if (node->frozen || node->query == NODE_QUERY_CHECK || node->query == NODE_QUERY_RESOLVE)
        return true;
    if (node->r.error || node->bad_text)
        return true;
    return is_ahead(round, node->retry_at_ms);
}

/* A glued line that only had to be ended: the newline is shown anyway from now on. */
static void end_glued_line(struct cache *cache, struct node *node) {
    node->r.exact = false;
    if (node->r.content == STORE_CONTENT_TAIL)
        base_consume_tail(cache, node, node->r.tail_from + 1);
    (void)cache_save(cache, node);
}

static enum plan_body describe_body(struct round *round, struct node *node) {
    struct cache *cache = round->cache;
    struct text_append append;
    enum plan_body relation;
    bool learn;
    int64_t at;

    /* However much waits while nothing can leave, it isn't read again and again. */
    if (round->blocked)
        return node->r.content == STORE_CONTENT_DRAFT ? PLAN_BODY_REWRITE : PLAN_BODY_SAME;
    if (node->r.content == STORE_CONTENT_TAIL && node->r.id) {
        if (!owed_impatient(cache, node, &at))
            (void)is_ahead(round, at);
        if (paces(round, node) || round->room[SERVICE_APPEND] <= 0) {
            node->awaited = true;
            return PLAN_BODY_SAME;
        }
        if (owed_append(cache, node, &append) == TEXT_ENDED)
            end_glued_line(cache, node);
    }
    relation = owed_relation(cache, node, &learn);
    if (learn)
        (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
    if (relation == PLAN_BODY_SAME && node->r.content == STORE_CONTENT_DRAFT) {
        cache_begin(cache);
        base_drop_draft(cache, node);
        (void)cache_save(cache, node);
        (void)cache_commit(cache);
    }
    if (relation == PLAN_BODY_REWRITE && node->r.id && (node->r.locked || node->r.rich)) {
        reconcile_locked(cache, node);
        return PLAN_BODY_SAME;
    }
    return relation;
}

static void describe_note(struct round *round, struct node *node) {
    struct plan_note *note = &round->notes[round->note_count++];
    bool gone = !node->dir || node->delete_now;

    *note = (struct plan_note){
        .ino = node->r.ino,
        .base_id = node->r.id,
        .base_name = node->r.base_name,
        /* For adoption the name counts under which the user last saw it. */
        .base_shown = gone && node->gone_name ? node->gone_name : node->r.base_shown,
        .base_dir = node->r.base_dir,
        .locked = node->r.locked,
        .rich = node->r.rich,
        .want_name = gone ? NULL : node->r.name,
        .want_dir = node->r.dir,
        .want_locked = node->r.want_locked && node->r.append_born,
        .local = node->r.scratch,
        .busy = is_busy(round, node),
        .cold = node->r.id && node->dir && !content_cached(node),
        .batch_max = node->batch_max ? node->batch_max : 1,
        .body = PLAN_BODY_SAME,
    };
    node->awaited = round->blocked || (note->busy && !node->r.error && !node->bad_text);
    if (note->busy) {
        note->body = node->r.content == STORE_CONTENT_BASE ? PLAN_BODY_SAME : PLAN_BODY_REWRITE;
        note->busy_name = node->frozen ? node->frozen->title : NULL;
        note->busy_dir = node->frozen && node->frozen->place != SERVICE_PLACE_KEEP ? node->r.dir : 0;
        return;
    }
    note->hold_name = !note->local && holds_name(round, node);
    if (gone || note->local)
        return;
    note->body_bytes = content_size(node);
    if (!node->r.id) {
        note->body = PLAN_BODY_REWRITE;
        note->append_creates = node->r.append_born && !round->blocked && owed_has_line(round->cache, node);
        node->awaited = node->awaited || (note->hold_name && node->line_at_ms);
        return;
    }
    note->hold_body = node->r.content == STORE_CONTENT_DRAFT &&
                      (holds_body(round, node) || is_unfinished(round->cache, node));
    note->body = note->hold_body ? PLAN_BODY_REWRITE : describe_body(round, node);
}

static void describe_folder(struct round *round, struct node *node) {
    struct plan_folder *folder = &round->folders[round->folder_count++];

    *folder = (struct plan_folder){
        .ino = node->r.ino,
        .base_id = node->r.id,
        .base_name = node->r.base_name,
        .base_shown = node->r.base_shown,
        .want_name = node->r.name,
        .busy = is_busy(round, node),
        .busy_name = node->frozen ? node->frozen->title : NULL,
    };
    folder->hold = !folder->busy && holds_name(round, node);
}

/* Counts the dirty nodes and finds the end of the burst. */
static size_t survey(struct round *round) {
    const struct node *node;
    size_t count = 0;

    round->burst_ms = INT64_MIN / 2;
    for (node = round->cache->tree.dirty; node; node = node->dirty_next) {
        count++;
        if (!node->r.id && node->dir && !node->r.scratch && !node->frozen &&
            node->quiet_at_ms > round->burst_ms)
            round->burst_ms = node->quiet_at_ms;
    }
    return count;
}

static int describe(struct round *round) {
    struct node *node, *next;
    size_t count = survey(round);

    free(round->notes);
    free(round->folders);
    round->notes = calloc(count + 1, sizeof(*round->notes));
    round->folders = calloc(count + 1, sizeof(*round->folders));
    round->note_count = round->folder_count = 0;
    if (!round->notes || !round->folders)
        return -ENOMEM;
    for (node = round->cache->tree.dirty; node; node = next) {
        next = node->dirty_next;
        if (outcome_settle(round->cache, node))
            continue;
        if (node->r.folder) {
            describe_folder(round, node);
            continue;
        }
        describe_note(round, node);
        content_close(round->cache, node);
        /* Looking closer may have shown that a rewrite changed nothing. */
        if (outcome_settle(round->cache, node))
            round->note_count--;
    }
    return 0;
}

/* --- carrying out steps --- */

static enum service_class step_class(enum plan_op op) {
    return op == PLAN_APPEND || op == PLAN_APPEND_CREATE ? SERVICE_APPEND : SERVICE_WRITE;
}

/* Overwriting and deleting need a look at the service's version just before. */
static bool needs_check(const struct plan_step *step) {
    return step->op == PLAN_PATCH || step->op == PLAN_DELETE || step->op == PLAN_FOLDER_DELETE;
}

static void move_to_end(struct cache *cache, struct node *node) {
    tree_mark_clean(&cache->tree, node);
    tree_mark_dirty(&cache->tree, node);
}

static void start_failed(struct round *round, struct node *node, int err) {
    if (err != -EAGAIN)
        cache_log(round->cache, LOG_ERR, "cannot prepare a request: %s", strerrordesc_np(-err));
    node->checked = false;
    node->retry_at_ms = round->now + 1000;
    wake_at(round, node->retry_at_ms);
}

static void start_step(struct round *round, struct node *node, const struct plan_step *step) {
    struct cache *cache = round->cache;
    char key[FREEZE_KEY_SIZE];
    int err;

    if (needs_check(step) && (!node->checked || round->now - node->checked_at_ms > CHECK_VALID_MS)) {
        err = fetch_start(cache, node, NODE_QUERY_CHECK, SERVICE_FOREGROUND);
        if (err < 0)
            start_failed(round, node, err);
        return;
    }
    freeze_key(cache, key);
    err = freeze_step(cache, node, step, key, 0);
    if (err == 0)
        err = freeze_send(cache, &node, 1);
    if (err < 0) {
        start_failed(round, node, err);
        return;
    }
    round->room[step_class(step->op)]--;
    node->pace -= 1.0;
    node->awaited = true;
    node->hurry = node->hurry && node->r.content == STORE_CONTENT_TAIL;
    content_close(cache, node);
    move_to_end(cache, node);
}

/* All steps of one batch: one call. */
static size_t start_batch(struct round *round, const struct plan *plan, size_t first) {
    struct cache *cache = round->cache;
    struct node *nodes[PLAN_BATCH_MAX];
    char key[FREEZE_KEY_SIZE];
    size_t count = 0, i;
    int err;

    freeze_key(cache, key);
    cache_begin(cache);
    for (i = first; i < plan->count && plan->steps[i].batch == plan->steps[first].batch; i++) {
        struct node *node = tree_find(&cache->tree, plan->steps[i].ino);

        err = freeze_step(cache, node, &plan->steps[i], key, (unsigned)count);
        if (err < 0)
            start_failed(round, node, err);
        else
            nodes[count++] = node;
    }
    err = cache_commit(cache);
    if (err == 0 && count)
        err = freeze_send(cache, nodes, count);
    for (size_t k = 0; k < count && err < 0; k++) {
        freeze_erase(cache, nodes[k]);
        start_failed(round, nodes[k], err);
    }
    round->room[SERVICE_WRITE]--;
    return i;
}

static void carry_out(struct round *round, const struct plan *plan) {
    struct cache *cache = round->cache;

    for (size_t i = 0; i < plan->count;) {
        const struct plan_step *step = &plan->steps[i];
        struct node *node = tree_find(&cache->tree, step->ino);
        bool may = node && step->after == SIZE_MAX && round->room[step_class(step->op)] > 0 &&
                   !node->frozen && node->query != NODE_QUERY_CHECK &&
                   cache->frozen_in_flight < PUSH_PARALLEL;

        if (node && step->op == PLAN_FETCH) {
            (void)fetch_start(cache, node, NODE_QUERY_FETCH, SERVICE_FOREGROUND);
            i++;
            continue;
        }
        if (may && step->op == PLAN_CREATE && step->batch) {
            i = start_batch(round, plan, i);
            continue;
        }
        if (may)
            start_step(round, node, step);
        i++;
    }
}

static bool adopt(struct round *round, const struct plan *plan) {
    struct cache *cache = round->cache;
    bool any = false;

    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_step *step = &plan->steps[i];
        struct node *to = tree_find(&cache->tree, step->ino), *from = tree_find(&cache->tree, step->from);

        if ((step->op != PLAN_ADOPT_NOTE && step->op != PLAN_ADOPT_FOLDER) || !to || !from)
            continue;
        cache_begin(cache);
        if (base_adopt(cache, to, from) == 0)
            any = true;
        tree_mark_dirty(&cache->tree, from);
        (void)cache_save(cache, to);
        (void)cache_save(cache, from);
        (void)cache_commit(cache);
        if (!from->dir)
            tree_mark_clean(&cache->tree, from);
        cache_reap(cache, from);
    }
    return any;
}

/* How many calls of each class may leave now. */
static void measure_room(struct round *round) {
    struct cache *cache = round->cache;
    struct service_budget budget;

    for (unsigned i = 0; i < SERVICE_CLASSES; i++) {
        cache->service->ops->budget(cache->service, (enum service_class)i, &budget);
        round->room[i] =
            budget.wait_ms > 0 || budget.queued > 0 ? 0 : (budget.remaining > 0 ? budget.remaining : 1);
        if (budget.wait_ms > 0)
            wake_at(round, round->now + budget.wait_ms);
    }
    round->blocked = (cache->link.state == LINK_OFFLINE || cache->link.account == ACCOUNT_UNAUTHENTICATED ||
                      cache->link.account == ACCOUNT_FORBIDDEN || cache->link.account == ACCOUNT_READ_ONLY) &&
                     is_ahead(round, cache->link.retry_at_ms);
}

/* Frozen requests that got no (trustworthy) answer: again under their key, or resolved by reading. */
static void retry_frozen(struct round *round) {
    struct node *node, *next;

    for (node = round->cache->tree.dirty; node; node = next) {
        next = node->dirty_next;
        if (!node->frozen || node->in_flight || node->query != NODE_QUERY_NONE ||
            is_ahead(round, node->retry_at_ms))
            continue;
        if (round->cache->frozen_in_flight < PUSH_PARALLEL)
            resolve_retry(round->cache, node);
    }
}

static void count_owing(struct round *round, const struct plan *plan) {
    struct cache *cache = round->cache;
    struct node *node;

    cache->owing = plan ? plan->count : 0;
    for (node = cache->tree.dirty; node; node = node->dirty_next)
        cache->owing += node->frozen != NULL || node->query != NODE_QUERY_NONE ||
                        (node->retry_at_ms > round->now && !node->r.error);
    for (size_t i = 0; i < round->note_count; i++)
        cache->owing += !round->notes[i].busy && !round->notes[i].local &&
                        (round->notes[i].hold_name || round->notes[i].hold_body);
    for (node = cache->tree.dirty; node && !cache->owing; node = node->dirty_next)
        cache->owing += content_unsent(node) > 0 && node->r.id && !node->r.error;
}

/* Describes, plans and adopts until there is nothing left to adopt. */
static int make_plan(struct round *round, struct plan *plan) {
    int err;

    do {
        plan_release(plan);
        *plan = (struct plan){0};
        err = describe(round);
        if (err == 0)
            err = plan_make(&(struct plan_input){.folders = round->folders,
                                                 .folder_count = round->folder_count,
                                                 .notes = round->notes,
                                                 .note_count = round->note_count,
                                                 .batch_bytes = PUSH_BATCH_BYTES},
                            plan);
    } while (err == 0 && adopt(round, plan));
    return err;
}

/* Planning takes time in proportion to what is owed. With thousands of files on their way it isn't repeated for each of
 * them: at most one part in PUSH_PLAN_SHARE of the time goes into it. */
static bool plans_too_often(struct cache *cache, int64_t *out_at_ms) {
    if (cache_now_ms(cache) >= cache->push_again_ms)
        return false;
    if (cache->push_again_ms < *out_at_ms)
        *out_at_ms = cache->push_again_ms;
    return true;
}

void push_tick(struct cache *cache, int64_t *out_at_ms) {
    struct round round = {.cache = cache, .now = cache_now_ms(cache), .at_ms = *out_at_ms};
    bool may_send;
    struct plan plan = {0};
    int err;

    if (plans_too_often(cache, out_at_ms))
        return;
    measure_room(&round);
    may_send = !round.blocked && cache->pull.listed;
    if (may_send)
        retry_frozen(&round);
    err = make_plan(&round, &plan);
    cache->push_again_ms = round.now + (cache_now_ms(cache) - round.now) * PUSH_PLAN_SHARE;
    if (err == 0 && may_send)
        carry_out(&round, &plan);
    count_owing(&round, err == 0 ? &plan : NULL);
    plan_release(&plan);
    free(round.notes);
    free(round.folders);
    *out_at_ms = round.at_ms;
    outcome_flush_waiters(cache);
}
