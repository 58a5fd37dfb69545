/* request: one FUSE request: its arguments, its results, and how it is tried and answered.
 *
 * A handler creates it, fills in the arguments (borrowing libfuse's), and calls request_run.
 */
#ifndef JOTSFS_FS_REQUEST_H
#define JOTSFS_FS_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "cache/cache.h"
#include "fs/fuse.h"
#include "fs/notify.h"
#include "fs/park.h"
#include "fs/wire.h"

struct control;
struct directory;
struct handles;
struct request;

/* What all handlers share: the userdata of the session. Constant while the session runs, but for wire. */
struct request_context {
    struct cache *cache;
    struct park *park;
    struct control *control;
    struct handles *handles;
    struct notify *notify;
    struct watch *watch; /* set before the session starts */
    struct wire wire;
};

/* Constant tables, one per kind of request. */
struct request_kind {
    /* 0, a negative errno, or CACHE_WAIT: called again then. Must leave no trace when it fails. */
    int (*attempt)(struct request *request);
    /* Replies, once; gives back what attempt took if nobody receives it. */
    void (*reply)(struct request *request, int rc);
    /* The kernel holds the lock of directory `ino` (and `new_dir`) until it is answered. */
    bool locks;
};

struct request {
    struct parked parked;
    const struct request_kind *kind;
    struct request_context *context;

    /* Arguments; each kind uses some. Names and data are borrowed until the request has to wait. */
    uint64_t ino; /* of the object, or of the directory of `name` */
    const char *name;
    uint64_t new_dir;
    const char *new_name;
    const void *data;
    size_t size;
    uint64_t offset;
    struct stat attr;
    mode_t mode;
    unsigned flags;
    struct fuse_file_info file;
    struct cache_handle *handle;
    struct directory *directory;

    /* Results. */
    struct cache_entry entry;
    struct cache_opened opened;
    char *buffer; /* malloc'ed, freed with the request */
    size_t filled;
    uint64_t *counted; /* READDIRPLUS: inodes that got a lookup; malloc'ed */
    size_t counted_size;

    struct notify_hold holds[2];
    char *owned[3]; /* copies of name, new_name, data */
};

/* Comes the request from watch.c's child? Such a one waits for nothing and changes nothing. */
bool request_is_own(const struct request *request);

/* Replies ENOMEM and returns NULL when memory is short. */
struct request *request_create(fuse_req_t req, const struct request_kind *kind, uint64_t ino,
                               const char *name);
/* Tries, then replies or parks. Takes REQUEST. Never blocks on anything but the local disk. */
void request_run(struct request *request);

/* Shared replies. */
void request_reply_status(struct request *request, int rc); /* for what has no result */
void request_reply_entry(struct request *request, int rc);
void request_reply_attr(struct request *request, int rc);

/* What the kernel is told of ENTRY. */
void request_fill_entry(const struct cache_entry *entry, struct fuse_entry_param *out);
double request_timeout(int64_t valid_ms);

#endif
