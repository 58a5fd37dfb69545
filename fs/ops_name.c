/* Handlers that make, remove and move names: MKNOD, MKDIR, UNLINK, RMDIR, RENAME; and the refusals: a note can be
 * neither a device nor a link (EPERM). The control directory's names can't be touched (EPERM).
 *
 * Called by libfuse's workers; the attempts and replies also by the park's thread.
 */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/control.h"
#include "fs/request.h"

static void name_request(fuse_req_t req, const struct request_kind *kind, uint64_t dir, const char *name,
                         mode_t mode) {
    struct request *request = request_create(req, kind, dir, name);

    if (!request)
        return;
    request->mode = mode;
    request_run(request);
}

static int try_mknod(struct request *request) {
    if (!S_ISREG(request->mode) || control_has(request->ino, request->name))
        return -EPERM;
    int rc =
        cache_make(request->context->cache, request->ino, request->name, request->mode,
                   O_WRONLY | O_CREAT | O_EXCL, &request->parked.waiter, &request->entry, &request->opened);
    if (rc == 0)
        cache_close(request->opened.handle);
    return rc;
}

void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t device) {
    static const struct request_kind kind = {
        .attempt = try_mknod, .reply = request_reply_entry, .locks = true};

    (void)device;
    name_request(req, &kind, dir, name, mode);
}

static int try_mkdir(struct request *request) {
    if (control_has(request->ino, request->name))
        return -EPERM;
    return cache_mkdir(request->context->cache, request->ino, request->name, request->mode,
                       &request->parked.waiter, &request->entry);
}

void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode) {
    static const struct request_kind kind = {
        .attempt = try_mkdir, .reply = request_reply_entry, .locks = true};

    name_request(req, &kind, dir, name, mode);
}

static int try_unlink(struct request *request) {
    if (control_has(request->ino, request->name))
        return -EPERM;
    return cache_unlink(request->context->cache, request->ino, request->name, &request->parked.waiter);
}

void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name) {
    static const struct request_kind kind = {
        .attempt = try_unlink, .reply = request_reply_status, .locks = true};

    name_request(req, &kind, dir, name, 0);
}

static int try_rmdir(struct request *request) {
    if (control_has(request->ino, request->name))
        return -EPERM;
    return cache_rmdir(request->context->cache, request->ino, request->name, &request->parked.waiter);
}

void op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name) {
    static const struct request_kind kind = {
        .attempt = try_rmdir, .reply = request_reply_status, .locks = true};

    name_request(req, &kind, dir, name, 0);
}

static int try_rename(struct request *request) {
    if (control_has(request->ino, request->name) || control_has(request->new_dir, request->new_name))
        return -EPERM;
    return cache_rename(request->context->cache, request->ino, request->name, request->new_dir,
                        request->new_name, request->flags, &request->parked.waiter);
}

void op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t new_dir, const char *new_name,
               unsigned flags) {
    static const struct request_kind kind = {
        .attempt = try_rename, .reply = request_reply_status, .locks = true};
    struct request *request = request_create(req, &kind, dir, name);

    if (!request)
        return;
    request->new_dir = new_dir;
    request->new_name = new_name;
    request->flags = flags;
    request_run(request);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name) {
    (void)target, (void)dir, (void)name;
    fuse_reply_err(req, EPERM);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_dir, const char *new_name) {
    (void)ino, (void)new_dir, (void)new_name;
    fuse_reply_err(req, EPERM);
}
