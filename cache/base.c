/* base: the service's version of a node as it is cached, and how it changes.
 *
 * Invariants
 *   r.body != 0 implies that the file exists with at least r.body_size bytes whose checksum is r.body_crc,
 *     and that r.end is known;
 *   r.body == 0 implies r.end == TEXT_END_UNKNOWN unless the service told that the body is empty;
 *   a tail file exists exactly while r.tail_epoch != 0: for the content, or for a frozen request that reads from it.
 */
#include "cache/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/names.h"

static void count_body(struct cache *cache, const struct node *node, bool more) {
    if (!node->r.body)
        return;
    cache->bodies = more ? cache->bodies + 1 : cache->bodies - 1;
    cache->body_bytes = more ? cache->body_bytes + node->r.body_size : cache->body_bytes - node->r.body_size;
}

/* Opens the new body, computes what the row says about it. */
static int measure(struct cache *cache, struct node *node) {
    char last;
    int err = body_open(statedir_bodies(cache->dir), node->r.body, &node->body);

    if (err == 0)
        err = body_crc(node->body, 0, node->r.body_size, 0, &node->r.body_crc);
    node->r.end = TEXT_END_EMPTY;
    if (err == 0 && node->r.body_size > 0) {
        err = body_read(node->body, node->r.body_size - 1, &last, 1);
        node->r.end = (int)text_end_of(&last, 1);
    }
    node->trusted_body = node->r.body;
    return err;
}

int base_set_body(struct cache *cache, struct node *node, uint64_t number, uint64_t size) {
    uint64_t former = node->r.body;
    int err = 0;

    count_body(cache, node, false);
    body_put(node->body);
    node->body = NULL;
    node->r.body = number;
    node->r.body_size = number ? size : 0;
    node->r.end = TEXT_END_UNKNOWN;
    if (number)
        err = measure(cache, node);
    if (err < 0) {
        body_put(node->body);
        node->body = NULL;
        node->r.body = 0;
        node->r.end = TEXT_END_UNKNOWN;
        cache_release_body(cache, node, number);
    }
    node->r.used_at = cache_time_ns(cache);
    count_body(cache, node, true);
    if (former && former != number)
        cache_release_body(cache, node, former);
    return err;
}

int base_extend_body(struct cache *cache, struct node *node, const char *text, size_t size) {
    bool separator =
        node->r.end == TEXT_END_LINE || (node->r.end == TEXT_END_NEWLINE && cache->rule == TEXT_RULE_ALWAYS);
    uint64_t from = node->r.body_size;
    int err;

    if (!node->r.body) {
        node->r.end = TEXT_END_UNKNOWN;
        return 0;
    }
    err = content_open(cache, node);
    if (err == 0 && separator)
        err = body_write(node->body, from, "\n", 1);
    if (err == 0)
        err = body_write(node->body, from + separator, text, size);
    if (err == 0)
        err = body_crc(node->body, from, separator + size, node->r.body_crc, &node->r.body_crc);
    if (err < 0)
        return base_set_body(cache, node, 0, 0);
    cache->body_bytes += separator + size;
    node->r.body_size += separator + size;
    node->r.end = (int)text_end_of(text, size);
    node->unsynced = true;
    return 0;
}

void base_consume_tail(struct cache *cache, struct node *node, uint64_t to) {
    if (!node->r.tail_epoch)
        return;
    if (node->r.content == STORE_CONTENT_TAIL) {
        node->r.tail_from = to;
        if (node->tail && to < tail_size(node->tail))
            return;
        node->r.content = STORE_CONTENT_BASE;
    }
    /* Of no use any more: the bytes are on the service, or in the draft. */
    node->r.tail_epoch = 0;
    node->r.tail_from = 0;
    tail_put(node->tail);
    node->tail = NULL;
    cache_release_tail(cache, node);
}

void base_drop_draft(struct cache *cache, struct node *node) {
    uint64_t draft = node->r.draft, ancestor = node->r.ancestor;

    body_put(node->draft);
    node->draft = NULL;
    node->draft_size = 0;
    node->r.draft = 0;
    node->r.ancestor = 0;
    node->r.ancestor_size = 0;
    node->r.content = STORE_CONTENT_BASE;
    node->bad_text = false;
    cache_release_body(cache, node, draft);
    cache_release_body(cache, node, ancestor);
}

void base_take_draft(struct cache *cache, struct node *node, uint64_t number, uint64_t size) {
    uint64_t former = node->r.draft;

    body_put(node->draft);
    node->draft = NULL;
    node->r.draft = number;
    node->r.content = STORE_CONTENT_DRAFT;
    node->draft_size = size;
    node->change++;
    node->unsynced = true;
    cache_release_body(cache, node, former);
}

static void forget_version(struct cache *cache, struct node *node) {
    (void)base_set_body(cache, node, 0, 0);
    tree_set_id(&cache->tree, node, 0);
    (void)tree_set_string(&node->r.base_name, NULL);
    (void)tree_set_string(&node->r.base_shown, NULL);
    node->r.base_dir = 0;
    node->r.base_folder = 0;
    node->r.updated_at = node->r.created_at = node->r.appended_at = 0;
    node->r.base_size = -1;
    node->r.alias = node->r.locked = node->r.rich = node->r.encrypted = false;
    node->r.exact = node->r.settled = node->r.inexact = false;
    /* A note keeps its place under a scratch name (renamed to "note~"); what has none any more is scratch there. */
    node->r.scratch =
        !node->r.folder && node->dir && names_is_scratch(node->r.name, cache->config.local_globs);
    node->checked = false;
}

void base_clear(struct cache *cache, struct node *node) {
    uint64_t ancestor = node->r.ancestor;

    if (!node->r.folder && (node->dir || node->handles) && content_cached(node) &&
        node->r.content != STORE_CONTENT_DRAFT)
        (void)content_draft(cache, node, false);
    node->r.ancestor = 0;
    node->r.ancestor_size = 0;
    forget_version(cache, node);
    cache_release_body(cache, node, ancestor);
}

/* Copies the fields that describe the service's side. */
static void move_version(struct store_node *to, struct store_node *from) {
    to->base_name = from->base_name;
    to->base_shown = from->base_shown;
    from->base_name = from->base_shown = NULL;
    to->base_dir = from->base_dir;
    to->base_folder = from->base_folder;
    to->updated_at = from->updated_at;
    to->created_at = from->created_at;
    to->appended_at = from->appended_at;
    to->base_size = from->base_size;
    to->alias = from->alias;
    to->locked = from->locked;
    to->rich = from->rich;
    to->encrypted = from->encrypted;
    to->exact = from->exact;
    to->settled = from->settled;
    to->inexact = from->inexact;
    to->end = from->end;
    to->body = from->body;
    to->body_size = from->body_size;
    to->body_crc = from->body_crc;
    to->used_at = from->used_at;
}

/* What is based in folder FROM is in TO now. */
static void adopt_notes(struct cache *cache, const struct node *to, const struct node *from) {
    struct node *node, *next;

    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        if (node->r.base_dir != from->r.ino)
            continue;
        node->r.base_dir = to->r.ino;
        (void)cache_save(cache, node);
    }
}

/* A file that is written over FROM starts from what FROM showed when it was given up or began to be rewritten; news that came
 * since is no part of it. */
static void move_ancestor(struct node *to, struct node *from) {
    if (from->r.content == STORE_CONTENT_DRAFT || !from->dir) {
        to->r.ancestor = from->r.ancestor;
        to->r.ancestor_size = from->r.ancestor_size;
        to->r.ancestor_updated_at = from->r.ancestor_updated_at;
        to->r.ancestor_bytes = from->r.ancestor_bytes;
    } else {
        to->r.ancestor = from->r.body;
        to->r.ancestor_size = from->r.body_size;
        to->r.ancestor_updated_at = from->r.updated_at;
        to->r.ancestor_bytes = from->r.base_size;
    }
    from->r.ancestor = from->r.ancestor_size = 0;
}

int base_adopt(struct cache *cache, struct node *to, struct node *from) {
    int64_t id = from->r.id;
    int err = 0;

    /* The new file's own bytes become a draft over the base that it takes over. */
    if (!to->r.folder && to->r.content != STORE_CONTENT_DRAFT)
        err = content_draft(cache, to, false);
    /* The old one keeps what it shows, if it still is a file of its own. */
    if (err == 0 && !from->r.folder && (from->dir || from->handles) && content_cached(from))
        err = content_draft(cache, from, false);
    if (err < 0)
        return err;
    move_ancestor(to, from);
    tree_set_id(&cache->tree, from, 0);
    free(to->r.base_name);
    free(to->r.base_shown);
    move_version(&to->r, &from->r);
    body_put(to->body);
    to->body = from->body;
    from->body = NULL;
    from->r.body = 0;
    tree_set_id(&cache->tree, to, id);
    /* The note has been on the lists that held it, whoever is its node now. */
    to->seen = from->seen;
    to->missed = from->missed;
    to->own_change = from->own_change;
    if (to->r.folder)
        adopt_notes(cache, to, from);
    to->checked = false;
    forget_version(cache, from);
    return 0;
}
