/* session: our connection to the kernel: made, mounted, served, ended. */
#ifndef JOTSFS_FS_SESSION_H
#define JOTSFS_FS_SESSION_H

#include <pthread.h>
#include <stdbool.h>

#include "fs/fuse.h"
#include "fs/request.h"

struct session;

struct session_config {
    const char *path;    /* the mount point, absolute */
    const char *source;  /* what mount(8) and df show as the device */
    const char *options; /* more for mount(2), comma-separated, or NULL */
    bool read_only, allow_other, debug;
    pthread_t main; /* is told when serving has ended by itself */
};

/* Makes and mounts it; CONTEXT is what the handlers see and must outlive it. On failure libfuse or fusermount3 has told
 * why on stderr. -EINVAL, -ENOMEM, -EIO. */
int session_create(const struct session_config *config, struct request_context *context,
                   struct session **out);
struct fuse_session *session_fuse(struct session *session);
/* Starts serving, on threads of its own. -EAGAIN. */
int session_start(struct session *session);
/* Takes the mount off its mount point, while serving goes on. */
void session_unmount(struct session *session);
/* Ends serving: when it returns no handler runs. Returns what the loop ended with: 0 or a negative errno. */
int session_stop(struct session *session);
/* Cuts the connection: the kernel ends what is left with ENOTCONN. Every request must have been answered. NULL is fine. */
void session_destroy(struct session *session);

#endif
