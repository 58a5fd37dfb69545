/* content: what a file shows.
 *
 *   base    the cached body, plus the final newline that the service does not store
 *   tail    base, then the bytes of the tail from r.tail_from on (base may be absent: a new note)
 *   draft   one file, written anywhere; base is what the service has, the ancestor what was shown
 *           when the rewrite began
 *
 * Order of writes, so that kill -9 between any two of them loses nothing that was accepted:
 *   first append after clean:  transaction (content = tail, epoch) -> empty tail file -> record
 *   further appends:           record
 *   first rewrite after clean: draft file with the content so far -> transaction -> bytes in place
 *   back to base:              transaction -> files removed
 * A file that no row refers to is removed at the next start; a row never refers to a file that isn't there, but for a tail: a
 * missing one is empty, and what an older epoch left in it doesn't count (tail.h).
 * The bytes become safe from power loss by cache_fsync or the sync thread (sync.c).
 *
 * Cost of an append in steady state (`echo >>` in a loop; counted with strace and perf): OPEN, WRITE, FLUSH and RELEASE are
 * one read and one writev of FUSE each; WRITE adds one pwritev and nothing else: no other system call, no thread
 * is woken. The cache's lock is taken four times, that of the handles twice; five allocations (three requests, two
 * handles). The body isn't opened, whatever its size. The first append after clean costs three small system calls and
 * a transaction without fsync more.
 * Cost of a read that the kernel doesn't answer from its pages: OPEN opens the body file (openat, fstat), READ is one
 * pread into a buffer of its own, twice the lock; RELEASE closes the file.
 */
#include "cache/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/base.h"

static bool has_newline_supplied(const struct node *node) {
    return text_shown_size(node->r.body_size, (enum text_end)node->r.end, node->r.exact) > node->r.body_size;
}

uint64_t content_base_size(const struct node *node) {
    uint64_t size;

    if (!node->r.id)
        return 0;
    size = node->r.body ? node->r.body_size : (uint64_t)(node->r.base_size > 0 ? node->r.base_size : 0);
    return text_shown_size(size, (enum text_end)node->r.end, node->r.exact);
}

uint64_t content_unsent(const struct node *node) {
    if (node->r.content != STORE_CONTENT_TAIL || !node->tail)
        return 0;
    return tail_size(node->tail) - node->r.tail_from;
}

uint64_t content_size(const struct node *node) {
    if (node->r.content == STORE_CONTENT_DRAFT)
        return node->draft_size;
    return content_base_size(node) + content_unsent(node);
}

bool content_cached(const struct node *node) {
    return node->r.content == STORE_CONTENT_DRAFT || !node->r.id || node->r.body != 0;
}

/* After a restart of the machine a cached body is only believed if its checksum is right; looked at once. */
static int verify_body(struct cache *cache, struct node *node) {
    uint32_t crc;

    if (!cache->recheck_bodies || node->trusted_body == node->r.body)
        return body_size(node->body) < (int64_t)node->r.body_size ? -ESTALE : 0;
    if (body_crc(node->body, 0, node->r.body_size, 0, &crc) < 0 || crc != node->r.body_crc)
        return -ESTALE;
    node->trusted_body = node->r.body;
    return 0;
}

static int open_body(struct cache *cache, struct node *node) {
    int err = body_open(statedir_bodies(cache->dir), node->r.body, &node->body);

    if (err == 0)
        err = verify_body(cache, node);
    if (err < 0 && err != -ENOMEM && err != -EMFILE && err != -ENFILE) {
        base_set_body(cache, node, 0, 0);
        (void)cache_save(cache, node);
        return -ESTALE;
    }
    return err;
}

/* A power loss may have undone the commit that says that the service has all of the tail, and not the removal of the
 * tail: what it lacks then was acknowledged. */
static int open_tail(struct cache *cache, struct node *node) {
    int err = tail_open(statedir_tails(cache->dir), node->r.ino, node->r.tail_epoch, &node->tail);

    if (err == 0 && tail_size(node->tail) < node->r.tail_from) {
        base_consume_tail(cache, node, UINT64_MAX);
        err = cache_save(cache, node);
    }
    return err;
}

int content_open_written(struct cache *cache, struct node *node) {
    int64_t size;

    if (node->r.draft && !node->draft) {
        int err = body_open(statedir_bodies(cache->dir), node->r.draft, &node->draft);
        if (err < 0)
            return err;
        size = body_size(node->draft);
        node->draft_size = size > 0 ? (uint64_t)size : 0;
    }
    return node->r.tail_epoch && !node->tail ? open_tail(cache, node) : 0;
}

int content_open(struct cache *cache, struct node *node) {
    int err = content_open_written(cache, node);

    if (err == 0 && node->r.body && !node->body)
        err = open_body(cache, node);
    return err;
}

void content_close(struct cache *cache, struct node *node) {
    (void)cache;
    if (node->handles)
        return;
    /* Thousands of files may wait to be sent: their descriptors don't. */
    if (node->tail)
        tail_rest(node->tail);
    body_put(node->body);
    body_put(node->draft);
    node->body = node->draft = NULL;
}

int content_sync(struct cache *cache, struct node *node) {
    struct body *draft;
    struct tail *tail;
    uint64_t ino = node->r.ino, change = node->change, number = node->r.draft;
    int err = content_open_written(cache, node);

    if (err < 0)
        return err;
    draft = node->draft ? body_get(node->draft) : NULL;
    tail = node->tail ? tail_get(node->tail) : NULL;
    content_close(cache, node);
    pthread_mutex_unlock(&cache->lock);
    if (draft)
        err = body_sync(draft);
    if (err == 0 && tail)
        err = tail_sync(tail);
    pthread_mutex_lock(&cache->lock);
    body_put(draft);
    tail_put(tail);
    node = tree_find(&cache->tree, ino);
    if (err < 0 || !node)
        return err;
    if (node->change == change)
        node->unsynced = false;
    if (draft)
        node->safe_draft = number;
    return 0;
}

struct view {
    struct body *body;
    uint64_t body_size;
    bool newline;
};

/* Copies the part of the answer that the tail holds; the body's part is left to the caller. */
static int read_tail_part(struct node *node, uint64_t base_size, char *out, size_t size, uint64_t offset) {
    uint64_t end = offset + size;
    uint64_t from = offset > base_size ? offset : base_size;

    if (node->r.content != STORE_CONTENT_TAIL || end <= base_size || !node->tail)
        return 0;
    return tail_read(node->tail, node->r.tail_from + (from - base_size), out + (from - offset),
                     (size_t)(end - from));
}

static int64_t prepare_view(struct cache *cache, struct node *node, struct view *view, char *out, size_t size,
                            uint64_t offset) {
    uint64_t total;
    int err = content_open(cache, node);

    if (err < 0)
        return err;
    if (!content_cached(node))
        return -ESTALE;
    total = content_size(node);
    if (offset >= total)
        return 0;
    if (size > total - offset)
        size = (size_t)(total - offset);
    if (node->r.content == STORE_CONTENT_DRAFT) {
        *view = (struct view){.body = body_get(node->draft), .body_size = node->draft_size};
        return (int64_t)size;
    }
    err = read_tail_part(node, content_base_size(node), out, size, offset);
    if (err < 0)
        return err;
    view->newline = node->r.id && has_newline_supplied(node);
    view->body_size = node->r.id ? node->r.body_size : 0;
    view->body = node->body ? body_get(node->body) : NULL;
    return (int64_t)size;
}

int64_t content_read(struct cache *cache, struct node *node, void *out, size_t size, uint64_t offset) {
    struct view view = {0};
    char *bytes = out;
    int64_t count;
    int err = 0;

    pthread_mutex_lock(&cache->lock);
    count = prepare_view(cache, node, &view, out, size, offset);
    pthread_mutex_unlock(&cache->lock);
    if (count <= 0)
        return count;
    if (view.body && offset < view.body_size) {
        uint64_t part = view.body_size - offset;

        err = body_read(view.body, offset, bytes, (size_t)(part < (uint64_t)count ? part : (uint64_t)count));
    }
    if (view.newline && offset <= view.body_size && offset + (uint64_t)count > view.body_size)
        bytes[view.body_size - offset] = '\n';
    if (view.body) {
        pthread_mutex_lock(&cache->lock);
        body_put(view.body);
        pthread_mutex_unlock(&cache->lock);
    }
    return err < 0 ? err : count;
}

/* Refuses what can't fit before accepting it. */
static int check_room(struct cache *cache, const struct node *node, uint64_t new_size) {
    uint64_t old_size = content_size(node);

    if (new_size <= old_size)
        return 0;
    /* One more: the file's final newline isn't stored. */
    if (!node->r.scratch && new_size > (uint64_t)cache->note_cap + 1)
        return -EFBIG;
    if (!node->r.scratch && cache->storage_cap > 0 && cache->storage_used >= 0 &&
        (uint64_t)cache->storage_used + (new_size - old_size) > (uint64_t)cache->storage_cap)
        return -EDQUOT;
    return 0;
}

/* As promised to the kernel (fs/wire.c): who may change a file doesn't thereby get to run it as somebody else. */
static void drop_set_ids(struct cache *cache, struct node *node) {
    unsigned drop = node->r.mode & (S_ISUID | (node->r.mode & S_IXGRP ? S_ISGID : 0u));

    if (!drop)
        return;
    node->r.mode &= ~drop;
    node->unsaved = true;
    cache_tell_inode(cache, node, false);
}

/* Every local change of the content passes here. */
static void mark_changed(struct cache *cache, struct node *node) {
    drop_set_ids(cache, node);
    node->change++;
    node->unsynced = true;
    cache->unsynced = true;
    node->r.mtime_ns = cache_time_ns(cache);
    node->r.ctime_ns = node->r.mtime_ns;
    node->quiet_at_ms = cache_now_ms(cache);
    if (node->dirty_prev && !node->r.error)
        return;
    tree_mark_dirty(&cache->tree, node);
    if (!node->r.changed_at)
        node->r.changed_at = node->r.mtime_ns / 1000000000;
    node->r.error = 0;
    node->retry_at_ms = 0;
}

static int begin_tail(struct cache *cache, struct node *node) {
    struct store_node before = node->r;
    int err;

    node->r.tail_epoch = store_next_number(cache->store);
    if (!node->r.tail_epoch)
        return -EIO;
    node->r.content = STORE_CONTENT_TAIL;
    node->r.tail_from = 0;
    node->r.changed_at = cache_time(cache);
    err = cache_save(cache, node);
    if (err == 0)
        err = tail_create(statedir_tails(cache->dir), node->r.ino, node->r.tail_epoch, &node->tail);
    if (err == 0) {
        memset(&node->utf8, 0, sizeof(node->utf8));
        return 0;
    }
    node->r.tail_epoch = before.tail_epoch;
    node->r.content = before.content;
    node->r.changed_at = before.changed_at;
    (void)cache_save(cache, node);
    return err;
}

/* Only text can go to the service; what stays here may be anything (swap files). */
static int check_text(const struct node *node, const void *data, size_t size) {
    return node->r.scratch ? 0 : text_utf8_fragment(data, size);
}

static int append_to_draft(struct cache *cache, struct node *node, const void *data, size_t size) {
    int err = check_text(node, data, size);

    if (err == 0)
        err = body_write(node->draft, node->draft_size, data, size);
    if (err < 0)
        return err;
    node->draft_size += size;
    mark_changed(cache, node);
    return 0;
}

int content_append(struct cache *cache, struct node *node, const void *data, size_t size) {
    struct text_utf8 utf8;
    int err = content_open_written(cache, node);

    if (err == 0)
        err = check_room(cache, node, content_size(node) + size);
    if (err == 0 && node->r.scratch)
        err = content_draft(cache, node, false);
    if (err < 0)
        return err;
    /* A draft that still waits for an answer about an earlier tail goes on as a draft. */
    if (node->r.content == STORE_CONTENT_DRAFT)
        return append_to_draft(cache, node, data, size);
    utf8 = node->utf8;
    if (node->r.content == STORE_CONTENT_BASE)
        memset(&utf8, 0, sizeof(utf8));
    err = text_utf8_feed(&utf8, data, size);
    if (err == 0 && node->r.content == STORE_CONTENT_BASE)
        err = begin_tail(cache, node);
    if (err == 0)
        err = tail_append(node->tail, data, size);
    if (err < 0)
        return err;
    node->utf8 = utf8;
    mark_changed(cache, node);
    return 0;
}

int content_copy(struct cache *cache, struct node *node, struct body *to) {
    uint64_t at = 0, unsent = content_unsent(node);
    char buffer[16384];
    int err = content_open(cache, node);

    if (err == 0 && !content_cached(node))
        err = -ESTALE;
    if (err == 0 && node->r.content == STORE_CONTENT_DRAFT)
        return body_copy(node->draft, node->draft_size, to, 0);
    if (err == 0 && node->body) {
        err = body_copy(node->body, node->r.body_size, to, 0);
        at = node->r.body_size;
    }
    if (err == 0 && node->r.id && has_newline_supplied(node))
        err = body_write(to, at++, "\n", 1);
    for (uint64_t done = 0; err == 0 && done < unsent;) {
        size_t step = unsent - done < sizeof(buffer) ? (size_t)(unsent - done) : sizeof(buffer);

        err = tail_read(node->tail, node->r.tail_from + done, buffer, step);
        if (err == 0)
            err = body_write(to, at + done, buffer, step);
        done += step;
    }
    return err;
}

int content_keep_ancestor(struct cache *cache, struct node *node) {
    uint64_t former = node->r.ancestor;
    struct body *copy = NULL;
    int err = 0;

    node->r.ancestor = node->r.id ? node->r.body : 0;
    node->r.ancestor_size = node->r.ancestor ? node->r.body_size : 0;
    node->r.ancestor_updated_at = node->r.updated_at;
    node->r.ancestor_bytes = node->r.base_size;
    if (node->r.ancestor && content_unsent(node) > 0) {
        node->r.ancestor = store_next_number(cache->store);
        node->r.ancestor_size = content_size(node);
        err = node->r.ancestor ? body_create(statedir_bodies(cache->dir), node->r.ancestor, &copy) : -EIO;
        if (err == 0)
            err = content_copy(cache, node, copy);
        body_put(copy);
    }
    cache_release_body(cache, node, former);
    return err;
}

int content_draft(struct cache *cache, struct node *node, bool empty) {
    struct store_node before = node->r;
    struct body *draft = NULL;
    uint64_t number, size = empty ? 0 : content_size(node);
    int err;

    if (node->r.content == STORE_CONTENT_DRAFT)
        return empty ? content_resize(cache, node, 0) : content_open(cache, node);
    number = store_next_number(cache->store);
    err = number ? body_create(statedir_bodies(cache->dir), number, &draft) : -EIO;
    if (err == 0 && !empty)
        err = content_copy(cache, node, draft);
    if (err == 0 && (node->dir || !node->r.id)) /* one that is gone has it since then */
        err = content_keep_ancestor(cache, node);
    if (err == 0) {
        node->r.content = STORE_CONTENT_DRAFT;
        node->r.draft = number;
        node->r.append_born = false;
        if (!node->r.changed_at)
            node->r.changed_at = cache_time(cache);
        err = cache_save(cache, node);
    }
    if (err < 0) {
        node->r = before;
        body_put(draft);
        (void)body_drop(statedir_bodies(cache->dir), number);
        return err;
    }
    node->draft = draft;
    node->draft_size = size;
    node->rewritten_at_ms = cache_now_ms(cache);
    node->pinned = true;
    mark_changed(cache, node);
    return 0;
}

int content_write(struct cache *cache, struct node *node, const void *data, size_t size, uint64_t offset) {
    int err = check_text(node, data, size);

    if (err == 0)
        err = check_room(cache, node, offset + size);
    if (err == 0)
        err = content_draft(cache, node, false);
    if (err == 0)
        err = body_write(node->draft, offset, data, size);
    if (err < 0)
        return err;
    if (offset + size > node->draft_size)
        node->draft_size = offset + size;
    mark_changed(cache, node);
    return 0;
}

int content_resize(struct cache *cache, struct node *node, uint64_t size) {
    int err = check_room(cache, node, size);

    if (err == 0 && node->r.content != STORE_CONTENT_DRAFT)
        err = content_draft(cache, node, size == 0);
    if (err == 0)
        err = content_open(cache, node);
    if (err == 0 && size != node->draft_size)
        err = body_truncate(node->draft, size);
    if (err < 0)
        return err;
    node->draft_size = size;
    mark_changed(cache, node);
    return 0;
}

int content_load(struct cache *cache, uint64_t number, uint64_t size, char **out) {
    struct body *body = NULL;
    char *data = malloc(size + 1);
    int err = data ? body_open(statedir_bodies(cache->dir), number, &body) : -ENOMEM;

    if (err == 0)
        err = body_read(body, 0, data, size);
    body_put(body);
    if (err < 0) {
        free(data);
        return err;
    }
    data[size] = '\0';
    *out = data;
    return 0;
}

int content_store(struct cache *cache, uint64_t number, const char *data, size_t size) {
    struct body *body = NULL;
    int err = number ? body_create(statedir_bodies(cache->dir), number, &body) : -EIO;

    if (err == 0)
        err = body_write(body, 0, data, size);
    body_put(body);
    if (err < 0 && number)
        (void)body_drop(statedir_bodies(cache->dir), number);
    return err;
}

int content_check(struct cache *cache, struct node *node) {
    struct text_utf8 utf8 = {0};
    char *data;
    int err;

    node->bad_text = false;
    if (node->r.content != STORE_CONTENT_DRAFT || node->r.scratch)
        return 0;
    err = content_load(cache, node->r.draft, node->draft_size, &data);
    if (err < 0)
        return err;
    err = text_utf8_feed(&utf8, data, node->draft_size);
    free(data);
    if (err == 0 && utf8.pending)
        err = -EILSEQ;
    node->bad_text = err == -EILSEQ;
    return err;
}
