/* Handlers on open files: OPEN, CREATE, READ, WRITE, FLUSH, FSYNC, FALLOCATE, RELEASE. The handle that the kernel
 * keeps for us (fh, handle.h) holds the cache's handle, or a struct control_file for the inodes of the control directory.
 *
 * A handle belongs to the kernel once OPEN or CREATE has been answered; a reply that it refused means
 * that the caller is gone, and the handle is closed here. O_TRUNC comes with OPEN
 * (ATOMIC_O_TRUNC). WRITE carries the file's flags of now: O_APPEND is taken
 * from there, and the kernel's offset is stale when the note grew remotely.
 *
 * Called by libfuse's workers; the attempts and replies also by the park's thread.
 */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fs/control.h"
#include "fs/handle.h"
#include "fs/request.h"

static struct request *file_request(fuse_req_t req, const struct request_kind *kind, uint64_t ino,
                                    const struct fuse_file_info *file) {
    struct request *request = request_create(req, kind, ino, NULL);

    if (request)
        request->file = *file;
    return request;
}

/* --- OPEN, CREATE, RELEASE --- */

static void close_file(void *object) {
    cache_close(object);
}

static void close_control_file(void *object) {
    control_close(object);
}

/* Hands what OPEN or CREATE opened to the kernel. */
static int keep_file(struct request *request, uint64_t ino) {
    struct fuse_file_info *file = &request->file;

    /* The size must be right before the first read; the notifier may come too late for that. */
    if (request->opened.news)
        notify_attributes(request->context->notify, ino);
    file->keep_cache = request->opened.keep;
    file->direct_io = request->opened.direct;
    /* Nothing to report at close: saves a request. */
    file->noflush = (file->flags & O_ACCMODE) == O_RDONLY;
    return handle_open(request->context->handles, request->opened.handle, close_file, file);
}

static int try_open_control(struct request *request) {
    struct control_file *opened;

    int rc = control_open(request->context->control, request->ino, request->file.flags, &opened);
    if (rc < 0)
        return rc;
    request->file.direct_io = 1;
    return handle_open(request->context->handles, opened, close_control_file, &request->file);
}

static int try_open(struct request *request) {
    if (control_is_ino(request->ino))
        return try_open_control(request);
    int rc = cache_open(request->context->cache, request->ino, request->file.flags, &request->parked.waiter,
                        &request->opened);
    return rc ? rc : keep_file(request, request->ino);
}

static void reply_open(struct request *request, int rc) {
    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    if (fuse_reply_open(request->parked.req, &request->file) != 0)
        handle_close(request->context->handles, &request->file);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_open, .reply = reply_open};
    struct request *request = file_request(req, &kind, ino, file);

    if (request)
        request_run(request);
}

static int try_create(struct request *request) {
    if (control_has(request->ino, request->name))
        return -EPERM;
    int rc = cache_make(request->context->cache, request->ino, request->name, request->mode,
                        request->file.flags, &request->parked.waiter, &request->entry, &request->opened);
    if (rc)
        return rc;
    rc = keep_file(request, request->entry.attr.st_ino);
    if (rc < 0)
        cache_forget(request->context->cache, request->entry.attr.st_ino, 1);
    return rc;
}

static void reply_create(struct request *request, int rc) {
    struct fuse_entry_param entry;

    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    request_fill_entry(&request->entry, &entry);
    if (fuse_reply_create(request->parked.req, &entry, &request->file) != 0) {
        handle_close(request->context->handles, &request->file);
        cache_forget(request->context->cache, entry.ino, 1);
    }
}

void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_create, .reply = reply_create, .locks = true};
    struct request *request = file_request(req, &kind, dir, file);

    if (!request)
        return;
    request->name = name;
    request->mode = mode;
    request_run(request);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct request_context *context = fuse_req_userdata(req);

    (void)ino;
    handle_close(context->handles, file);
    fuse_reply_err(req, 0);
}

/* --- READ, WRITE --- */

static int try_read(struct request *request) {
    if (!request->buffer)
        request->buffer = malloc(request->size);
    if (!request->buffer)
        return -ENOMEM;
    if (control_is_ino(request->ino))
        return control_read(handle_object(&request->file), request->buffer, request->size, request->offset,
                            &request->filled);
    return cache_read(handle_object(&request->file), request->buffer, request->size, request->offset,
                      &request->parked.waiter, &request->filled);
}

static void reply_read(struct request *request, int rc) {
    if (rc < 0)
        fuse_reply_err(request->parked.req, -rc);
    else
        fuse_reply_buf(request->parked.req, request->buffer, request->filled);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_read, .reply = reply_read};
    struct request *request = file_request(req, &kind, ino, file);

    if (!request)
        return;
    request->size = size;
    request->offset = (uint64_t)offset;
    request_run(request);
}

static int try_write(struct request *request) {
    if (control_is_ino(request->ino))
        return control_write(handle_object(&request->file), &request->parked.waiter);
    return cache_write(handle_object(&request->file), request->data, request->size, request->offset,
                       request->file.flags, &request->parked.waiter);
}

static void reply_write(struct request *request, int rc) {
    if (rc < 0)
        fuse_reply_err(request->parked.req, -rc);
    else
        fuse_reply_write(request->parked.req, request->size);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
              struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_write, .reply = reply_write};
    struct request *request = file_request(req, &kind, ino, file);

    if (!request)
        return;
    request->data = data;
    request->size = size;
    request->offset = (uint64_t)offset;
    request_run(request);
}

/* --- FLUSH, FSYNC, FALLOCATE --- */

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    int rc = control_is_ino(ino) ? 0 : cache_flush(handle_object(file));

    fuse_reply_err(req, -rc);
}

static int try_fsync(struct request *request) {
    if (control_is_ino(request->ino))
        return 0;
    return cache_fsync(handle_object(&request->file), &request->parked.waiter);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_fsync, .reply = request_reply_status};
    struct request *request = file_request(req, &kind, ino, file);

    (void)data_only;
    if (request)
        request_run(request);
}

static int try_fallocate(struct request *request) {
    return cache_allocate(handle_object(&request->file), request->offset, &request->parked.waiter);
}

/* Only the form that posix_fallocate uses: there is nothing to reserve, no hole to punch. */
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_fallocate, .reply = request_reply_status};
    struct request *request;

    if (mode != 0 || control_is_ino(ino)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    request = file_request(req, &kind, ino, file);
    if (!request)
        return;
    request->offset = (uint64_t)offset + (uint64_t)length;
    request_run(request);
}
