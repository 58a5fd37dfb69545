/* A FUSE request on its way through fs/. The handlers in ops_*.c are tables of two plain functions, one
 * that tries and one that replies; what happens between them is here and in
 * park.c. Requests live on the heap from the start, because a waiter that is
 * registered with the cache can't move.
 *
 * Owner: the handler until request_run, then this module and the park; request_run and
 * the park end it through request_finish, exactly once.
 */
#include "fs/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control.h"
#include "fs/watch.h"

static struct request *request_of(struct parked *parked) {
    return (struct request *)((char *)parked - offsetof(struct request, parked));
}

static int request_attempt(struct parked *parked) {
    struct request *request = request_of(parked);

    return request->kind->attempt(request);
}

static void request_finish(struct parked *parked, int rc) {
    struct request *request = request_of(parked);

    request->kind->reply(request, rc);
    if (request->kind->locks) {
        notify_let_go(request->context->notify, &request->holds[0]);
        notify_let_go(request->context->notify, &request->holds[1]);
    }
    for (size_t i = 0; i < sizeof(request->owned) / sizeof(request->owned[0]); i++)
        free(request->owned[i]);
    free(request->buffer);
    free(request->counted);
    free(request);
}

/* SIZE bytes at DATA as memory of our own, at *OUT. Nothing for NULL. */
static int copy(const void *data, size_t size, char **out) {
    if (!data)
        return 0;
    *out = malloc(size ? size : 1);
    if (!*out)
        return -ENOMEM;
    memcpy(*out, data, size);
    return 0;
}

static int request_own(struct parked *parked) {
    struct request *request = request_of(parked);

    if (copy(request->name, request->name ? strlen(request->name) + 1 : 0, &request->owned[0]) < 0 ||
        copy(request->new_name, request->new_name ? strlen(request->new_name) + 1 : 0, &request->owned[1]) <
            0 ||
        copy(request->data, request->size, &request->owned[2]) < 0)
        return -ENOMEM;
    request->name = request->owned[0];
    request->new_name = request->owned[1];
    request->data = request->owned[2];
    return 0;
}

struct request *request_create(fuse_req_t req, const struct request_kind *kind, uint64_t ino,
                               const char *name) {
    struct request *request = calloc(1, sizeof(*request));

    if (!request) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    request->parked.req = req;
    request->parked.attempt = request_attempt;
    request->parked.own = request_own;
    request->parked.finish = request_finish;
    request->kind = kind;
    request->context = fuse_req_userdata(req);
    request->ino = ino;
    request->name = name;
    return request;
}

bool request_is_own(const struct request *request) {
    return watch_is_child(request->context->watch, fuse_req_ctx(request->parked.req)->pid);
}

void request_run(struct request *request) {
    struct notify *notify = request->context->notify;

    if (request->kind->locks)
        notify_hold(notify, &request->holds[0], request->ino);
    if (request->kind->locks && request->new_dir)
        notify_hold(notify, &request->holds[1], request->new_dir);
    park_run(request->context->park, &request->parked);
}

double request_timeout(int64_t valid_ms) {
    return valid_ms > 0 ? (double)valid_ms / 1000.0 : 0;
}

void request_fill_entry(const struct cache_entry *entry, struct fuse_entry_param *out) {
    *out = (struct fuse_entry_param){
        .ino = entry->attr.st_ino,
        .generation = 1, /* inode numbers are never used twice */
        .attr = entry->attr,
        .attr_timeout = request_timeout(entry->attr_valid_ms),
        .entry_timeout = request_timeout(entry->valid_ms),
    };
}

void request_reply_status(struct request *request, int rc) {
    fuse_reply_err(request->parked.req, -rc);
}

void request_reply_entry(struct request *request, int rc) {
    struct fuse_entry_param entry;

    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    request_fill_entry(&request->entry, &entry);
    /* A reply that the kernel no longer wants carries no lookup. */
    if (fuse_reply_entry(request->parked.req, &entry) != 0 && !control_is_ino(entry.ino))
        cache_forget(request->context->cache, entry.ino, 1);
}

void request_reply_attr(struct request *request, int rc) {
    if (rc < 0)
        fuse_reply_err(request->parked.req, -rc);
    else
        fuse_reply_attr(request->parked.req, &request->entry.attr,
                        request_timeout(request->entry.attr_valid_ms));
}
