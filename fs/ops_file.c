/* Handlers on open files: OPEN, CREATE, READ, WRITE, FLUSH, FSYNC, FALLOCATE, RELEASE. The handle that the kernel
 * keeps for us (fh) is the cache's handle, or a struct control_file for the inodes of the control directory.
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
#include "fs/request.h"

static struct cache_handle *handle_of(const struct fuse_file_info *file) {
    return (struct cache_handle *)(uintptr_t)file->fh;
}

static struct control_file *control_file_of(const struct fuse_file_info *file) {
    return (struct control_file *)(uintptr_t)file->fh;
}

static struct request *file_request(fuse_req_t req, const struct request_kind *kind, uint64_t ino,
                                    const struct fuse_file_info *file) {
    struct request *request = request_create(req, kind, ino, NULL);

    if (request)
        request->file = *file;
    return request;
}

/* --- OPEN, CREATE, RELEASE --- */

static void close_handle(uint64_t ino, const struct fuse_file_info *file) {
    if (control_is_ino(ino))
        control_close(control_file_of(file));
    else
        cache_close(handle_of(file));
}

static int try_open(struct request *request) {
    if (control_is_ino(request->ino))
        return control_open(request->context->control, request->ino, request->file.flags,
                            &request->control_file);
    return cache_open(request->context->cache, request->ino, request->file.flags, &request->parked.waiter,
                      &request->opened);
}

/* What the kernel is told of the handle that OPEN or CREATE made. */
static void fill_file(struct request *request) {
    struct fuse_file_info *file = &request->file;

    if (request->control_file) {
        file->fh = (uintptr_t)request->control_file;
        file->direct_io = 1;
        return;
    }
    file->fh = (uintptr_t)request->opened.handle;
    file->keep_cache = request->opened.keep;
    file->direct_io = request->opened.direct;
    /* Nothing to report at close: saves a request. */
    file->noflush = (file->flags & O_ACCMODE) == O_RDONLY;
}

static void reply_open(struct request *request, int rc) {
    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    fill_file(request);
    if (fuse_reply_open(request->parked.req, &request->file) != 0)
        close_handle(request->ino, &request->file);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    static const struct request_kind kind = {try_open, reply_open};
    struct request *request = file_request(req, &kind, ino, file);

    if (request)
        request_run(request);
}

static int try_create(struct request *request) {
    if (control_has(request->ino, request->name))
        return -EPERM;
    return cache_make(request->context->cache, request->ino, request->name, request->mode,
                      request->file.flags, &request->parked.waiter, &request->entry, &request->opened);
}

static void reply_create(struct request *request, int rc) {
    struct fuse_entry_param entry;

    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    request_fill_entry(&request->entry, &entry);
    fill_file(request);
    if (fuse_reply_create(request->parked.req, &entry, &request->file) != 0) {
        cache_close(request->opened.handle);
        cache_forget(request->context->cache, entry.ino, 1);
    }
}

void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *file) {
    static const struct request_kind kind = {try_create, reply_create};
    struct request *request = file_request(req, &kind, dir, file);

    if (!request)
        return;
    request->name = name;
    request->mode = mode;
    request_run(request);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    close_handle(ino, file);
    fuse_reply_err(req, 0);
}

/* --- READ, WRITE --- */

static int try_read(struct request *request) {
    if (!request->buffer)
        request->buffer = malloc(request->size);
    if (!request->buffer)
        return -ENOMEM;
    if (control_is_ino(request->ino))
        return control_read(control_file_of(&request->file), request->buffer, request->size, request->offset,
                            &request->filled);
    return cache_read(handle_of(&request->file), request->buffer, request->size, request->offset,
                      &request->parked.waiter, &request->filled);
}

static void reply_read(struct request *request, int rc) {
    if (rc < 0)
        fuse_reply_err(request->parked.req, -rc);
    else
        fuse_reply_buf(request->parked.req, request->buffer, request->filled);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    static const struct request_kind kind = {try_read, reply_read};
    struct request *request = file_request(req, &kind, ino, file);

    if (!request)
        return;
    request->size = size;
    request->offset = (uint64_t)offset;
    request_run(request);
}

static int try_write(struct request *request) {
    if (control_is_ino(request->ino))
        return control_write(control_file_of(&request->file), &request->parked.waiter);
    return cache_write(handle_of(&request->file), request->data, request->size, request->offset,
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
    static const struct request_kind kind = {try_write, reply_write};
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
    int rc = control_is_ino(ino) ? 0 : cache_flush(handle_of(file));

    fuse_reply_err(req, -rc);
}

static int try_fsync(struct request *request) {
    if (control_is_ino(request->ino))
        return 0;
    return cache_fsync(handle_of(&request->file), &request->parked.waiter);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file) {
    static const struct request_kind kind = {try_fsync, request_reply_status};
    struct request *request = file_request(req, &kind, ino, file);

    (void)data_only;
    if (request)
        request_run(request);
}

static int try_fallocate(struct request *request) {
    return cache_allocate(handle_of(&request->file), request->offset, &request->parked.waiter);
}

/* Only the form that posix_fallocate uses: there is nothing to reserve, no hole to punch. */
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  struct fuse_file_info *file) {
    static const struct request_kind kind = {try_fallocate, request_reply_status};
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
