/* owed: what of a file's content the service doesn't have yet. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_OWED_H
#define JOTSFS_CACHE_OWED_H

#include "cache/cache_internal.h"
#include "cache/plan.h"

/* How want's content relates to base's, for the plan. A tail that must wait for more counts as PLAN_BODY_SAME.
 * *OUT_LEARN: the body must be fetched first to know (then PLAN_BODY_SAME). */
enum plan_body owed_relation(struct cache *cache, struct node *node, bool *out_learn);

/* What one append call may carry of the bytes that follow base in what is shown. */
enum text_how owed_append(struct cache *cache, struct node *node, struct text_append *out);
/* Those bytes: SIZE of them, malloc'ed. */
int owed_read(struct cache *cache, struct node *node, size_t size, char **out);

/* Copies what is shown, as the service stores it, into a new body file. LINES: of a tail without base
 * only whole lines (its file is still open). *OUT_TAIL: how many bytes of the tail that covers. */
struct owed_snapshot {
    uint64_t number, size, tail_to;
    bool exact;
};
int owed_snapshot(struct cache *cache, struct node *node, bool lines, struct owed_snapshot *out);

/* May a partial line be sent? (fsync, flush, 2 s after the last close) *OUT_AT_MS: when, if not yet. */
bool owed_impatient(struct cache *cache, const struct node *node, int64_t *out_at_ms);
/* True if the tail holds at least one whole line. */
bool owed_has_line(struct cache *cache, struct node *node);

#endif
