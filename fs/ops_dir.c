/* Handlers on open directories. A directory handle holds a snapshot of the names, made by the first READDIR
 * and made anew by every READDIR at offset 0 (rewinddir), so that a walk sees each name
 * exactly once however the directory changes. Offset n is the place of entry n: 0 is
 * ".", 1 is "..", then the listing.
 *
 * The kernel allows parallel READDIRs on one directory, in practice one per open file; the
 * handle's lock makes it safe anyway. It is held while the cache is asked (it comes before the
 * cache's lock) and never while replying.
 *
 * READDIRPLUS counts one lookup for each entry it gives out but "." and "..", only when it is known
 * to fit; all are given back if the reply is refused. An entry that vanished since the
 * listing is left out.
 *
 * Called by libfuse's workers; the attempts and replies also by the park's thread.
 */
#include "fs/ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/control.h"
#include "fs/handle.h"
#include "fs/request.h"

enum { DOTS = 2, DIRENT_MIN = 32 };

struct directory {
    uint64_t ino;
    pthread_mutex_t lock; /* then the cache's; guards listing */
    struct cache_listing *listing;
};

/* One name on its way out. */
struct dirent_out {
    const char *name;
    struct stat attr; /* inode and type */
    bool dots;
};

static void directory_close(void *object) {
    struct directory *directory = object;

    cache_listing_destroy(directory->listing);
    pthread_mutex_destroy(&directory->lock);
    free(directory);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct request_context *context = fuse_req_userdata(req);
    struct directory *directory = calloc(1, sizeof(*directory));

    if (!directory) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    directory->ino = ino;
    pthread_mutex_init(&directory->lock, NULL);
    int rc = handle_open(context->handles, directory, directory_close, file);
    if (rc < 0)
        fuse_reply_err(req, -rc);
    else if (fuse_reply_open(req, file) != 0)
        handle_close(context->handles, file);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file) {
    struct request_context *context = fuse_req_userdata(req);

    (void)ino;
    handle_close(context->handles, file);
    fuse_reply_err(req, 0);
}

static int try_fsyncdir(struct request *request) {
    return control_is_ino(request->ino) ? 0 : cache_fsync_dir(request->context->cache, request->ino);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *file) {
    static const struct request_kind kind = {
        .attempt = try_fsyncdir, .reply = request_reply_status, .locks = true};
    struct request *request = request_create(req, &kind, ino, NULL);

    (void)data_only, (void)file;
    if (request)
        request_run(request);
}

/* --- READDIR --- */

/* A fresh snapshot where the request needs one. CACHE_WAIT leaves the old one in place. */
static int directory_list_locked(struct directory *directory, struct request *request) {
    struct cache_listing *listing;

    if (control_is_ino(directory->ino) || (directory->listing && request->offset > 0))
        return 0;
    int rc = cache_list(request->context->cache, directory->ino, &request->parked.waiter, &listing);
    if (rc)
        return rc;
    cache_listing_destroy(directory->listing);
    directory->listing = listing;
    return 0;
}

/* False past the end. */
static bool directory_at_locked(const struct directory *directory, uint64_t place, struct dirent_out *out) {
    bool is_directory = true;
    uint64_t ino = place == 0 ? directory->ino : CACHE_ROOT_INO;

    if (place < DOTS)
        out->name = place == 0 ? "." : "..";
    else if (control_is_ino(directory->ino))
        out->name = control_name_at(place - DOTS, &ino, &is_directory);
    else
        out->name = cache_listing_name(directory->listing, place - DOTS, &ino, &is_directory);
    out->attr = (struct stat){.st_ino = ino, .st_mode = is_directory ? S_IFDIR : S_IFREG};
    out->dots = place < DOTS;
    return out->name != NULL;
}

/* Room for SIZE bytes of entries and for the inodes that may be counted among them. */
static int prepare(struct request *request) {
    if (!request->buffer)
        request->buffer = malloc(request->size);
    if (!request->counted)
        request->counted = calloc(request->size / DIRENT_MIN + 1, sizeof(*request->counted));
    return request->buffer && request->counted ? 0 : -ENOMEM;
}

static int try_readdir(struct request *request) {
    struct directory *directory = request->directory;
    struct dirent_out entry;
    int rc = prepare(request);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&directory->lock);
    rc = directory_list_locked(directory, request);
    for (uint64_t place = request->offset; rc == 0 && directory_at_locked(directory, place, &entry);
         place++) {
        size_t left = request->size - request->filled;
        size_t used = fuse_add_direntry(request->parked.req, request->buffer + request->filled, left,
                                        entry.name, &entry.attr, (off_t)place + 1);
        if (used > left)
            break;
        request->filled += used;
    }
    pthread_mutex_unlock(&directory->lock);
    return rc;
}

/* Attributes of the entry at PLACE, counting one lookup. Of "." and ".." the kernel takes only type and number. */
static int plus_entry_locked(struct request *request, uint64_t place, const struct dirent_out *entry,
                             struct fuse_entry_param *out) {
    struct request_context *context = request->context;
    struct cache_entry found;
    int rc;

    *out = (struct fuse_entry_param){.attr = entry->attr};
    if (entry->dots)
        return 0;
    if (control_is_ino(entry->attr.st_ino))
        rc = control_getattr(context->control, entry->attr.st_ino, &found);
    else
        rc = cache_listing_entry(context->cache, request->directory->listing, place - DOTS, &found);
    if (rc < 0)
        return rc;
    request_fill_entry(&found, out);
    if (!control_is_ino(out->ino))
        request->counted[request->counted_size++] = out->ino;
    return 0;
}

/* Adds the entries from request->offset on that fit. */
static int plus_fill_locked(struct request *request) {
    struct dirent_out entry;
    struct fuse_entry_param param;

    for (uint64_t place = request->offset; directory_at_locked(request->directory, place, &entry); place++) {
        size_t left = request->size - request->filled;
        if (fuse_add_direntry_plus(request->parked.req, NULL, 0, entry.name, NULL, 0) > left)
            return 0;
        int rc = plus_entry_locked(request, place, &entry, &param);
        if (rc == -ENOENT)
            continue;
        if (rc < 0)
            return request->filled ? 0 : rc;
        request->filled += fuse_add_direntry_plus(request->parked.req, request->buffer + request->filled,
                                                  left, entry.name, &param, (off_t)place + 1);
    }
    return 0;
}

static int try_readdirplus(struct request *request) {
    int rc = prepare(request);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&request->directory->lock);
    rc = directory_list_locked(request->directory, request);
    if (rc == 0)
        rc = plus_fill_locked(request);
    pthread_mutex_unlock(&request->directory->lock);
    return rc;
}

static void reply_readdir(struct request *request, int rc) {
    if (rc < 0) {
        fuse_reply_err(request->parked.req, -rc);
        return;
    }
    if (fuse_reply_buf(request->parked.req, request->buffer, request->filled) == 0)
        return;
    for (size_t i = 0; i < request->counted_size; i++)
        cache_forget(request->context->cache, request->counted[i], 1);
}

static void readdir_request(fuse_req_t req, const struct request_kind *kind, uint64_t ino, size_t size,
                            off_t offset, const struct fuse_file_info *file) {
    struct request *request = request_create(req, kind, ino, NULL);

    if (!request)
        return;
    request->size = size;
    request->offset = (uint64_t)offset;
    request->directory = handle_object(file);
    request_run(request);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    static const struct request_kind kind = {.attempt = try_readdir, .reply = reply_readdir, .locks = true};

    readdir_request(req, &kind, ino, size, offset, file);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    static const struct request_kind kind = {
        .attempt = try_readdirplus, .reply = reply_readdir, .locks = true};

    readdir_request(req, &kind, ino, size, offset, file);
}
