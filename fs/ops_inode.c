/* Handlers on inodes: LOOKUP, FORGET, GETATTR, SETATTR, STATFS. Each unpacks, tries with a
 * plain function and replies (request.h). The control directory's inodes go to
 * control.c, everything else to the cache.
 *
 * Lookup counts: one for every entry that the kernel accepted. A reply that it refused
 * gives its lookup back (request_reply_entry).
 *
 * Called by libfuse's workers; the attempts and replies also by the park's thread.
 */
#include "fs/ops.h"

#include <errno.h>

#include "fs/control.h"
#include "fs/handle.h"
#include "fs/request.h"

static int try_lookup(struct request *request) {
    if (control_has(request->ino, request->name))
        return control_lookup(request->context->control, request->ino, request->name, &request->entry);
    return cache_lookup(request->context->cache, request->ino, request->name,
                        request_is_own(request) ? NULL : &request->parked.waiter, &request->entry);
}

/* A name that isn't there is remembered by the kernel too: as an entry without inode. */
static void reply_lookup(struct request *request, int rc) {
    struct fuse_entry_param nothing = {.entry_timeout = request_timeout(request->entry.valid_ms)};

    if (rc == -ENOENT && request->entry.valid_ms > 0)
        fuse_reply_entry(request->parked.req, &nothing);
    else
        request_reply_entry(request, rc);
}

void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name) {
    static const struct request_kind kind = {.attempt = try_lookup, .reply = reply_lookup, .locks = true};
    struct request *request = request_create(req, &kind, dir, name);

    if (request)
        request_run(request);
}

static void forget(fuse_req_t req, uint64_t ino, uint64_t lookups) {
    struct request_context *context = fuse_req_userdata(req);

    if (!control_is_ino(ino))
        cache_forget(context->cache, ino, lookups);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups) {
    forget(req, ino, lookups);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    for (size_t i = 0; i < count; i++)
        forget(req, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static int try_getattr(struct request *request) {
    if (control_is_ino(request->ino))
        return control_getattr(request->context->control, request->ino, &request->entry);
    return cache_getattr(request->context->cache, request->ino,
                         request_is_own(request) ? NULL : &request->parked.waiter, &request->entry);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_getattr, .reply = request_reply_attr};
    struct request *request = request_create(req, &kind, ino, NULL);

    (void)file;
    if (request)
        request_run(request);
}

/* FUSE_SET_ATTR_* as the cache's bits. The kernel's ctime is of no interest: every change sets it. */
static unsigned set_bits(int set) {
    static const struct {
        int fuse;
        unsigned cache;
    } bits[] = {
        {FUSE_SET_ATTR_MODE, CACHE_SET_MODE},
        {FUSE_SET_ATTR_UID, CACHE_SET_UID},
        {FUSE_SET_ATTR_GID, CACHE_SET_GID},
        {FUSE_SET_ATTR_SIZE, CACHE_SET_SIZE},
        {FUSE_SET_ATTR_ATIME, CACHE_SET_ATIME},
        {FUSE_SET_ATTR_MTIME, CACHE_SET_MTIME},
        {FUSE_SET_ATTR_ATIME_NOW, CACHE_SET_ATIME_NOW},
        {FUSE_SET_ATTR_MTIME_NOW, CACHE_SET_MTIME_NOW},
    };
    unsigned result = 0;

    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
        if (set & bits[i].fuse)
            result |= bits[i].cache;
    return result;
}

static int try_setattr(struct request *request) {
    if (control_is_ino(request->ino))
        return control_setattr(request->context->control, request->ino, request->flags, &request->entry);
    return cache_setattr(request->context->cache, request->ino, &request->attr, request->flags,
                         request->handle, &request->parked.waiter, &request->entry);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_setattr, .reply = request_reply_attr};
    struct request *request = request_create(req, &kind, ino, NULL);

    if (!request)
        return;
    request->attr = *attr;
    request->flags = request_is_own(request) ? 0 : set_bits(set);
    if (file && !control_is_ino(ino))
        request->handle = handle_object(file);
    request_run(request);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino) {
    struct request_context *context = fuse_req_userdata(req);
    struct statvfs result = {0};

    (void)ino;
    cache_statfs(context->cache, &result);
    fuse_reply_statfs(req, &result);
}
