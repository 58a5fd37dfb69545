/* The FUSE session. libfuse's own life cycle (fuse_session_unmount after the loop) doesn't fit: it unmounts
 * by path when nobody serves any more, which may hit a newer mount of ours, and an fd closed
 * too early leaves callers hanging. Here the order is: unmount while serving (lazily, so
 * that it always works), end the loop, let the park answer what it has, cut the connection.
 *
 * States: mounted, serving (loop thread runs), stopped (loop joined), destroyed. A loop that ends by itself (fusermount3 -u,
 * abort in sysfs) tells the main thread, which then stops.
 *
 * fuse_session_loop_mt sits in sem_wait, and fuse_session_exit doesn't wake it: the loop thread is
 * poked until it is gone, which also covers a poke that came too early.
 */
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <fuse_opt.h>

#include "fs/mount.h"
#include "fs/ops.h"
#include "fs/signals.h"
#include "fs/wire.h"

enum { WORKERS = 10, POKE_MS = 20 };

struct session {
    struct fuse_session *fuse;
    char *path;
    pthread_t main, loop;
    bool connected, serving, mounted;
    int loop_rc; /* written by the loop thread, read after joining it */
};

/* --- mounting --- */

static int build_options(const struct session_config *config, char **out) {
    char *source = NULL;
    int rc = -1;

    if (asprintf(&source, "fsname=%s", config->source) < 0)
        return -ENOMEM;
    if (fuse_opt_add_opt_escaped(out, source) == 0 &&
        fuse_opt_add_opt(out, "subtype=jotsfs,default_permissions") == 0 &&
        fuse_opt_add_opt(out, config->read_only ? "ro" : "rw") == 0 &&
        (!config->allow_other || fuse_opt_add_opt(out, "allow_other") == 0) &&
        (!config->debug || fuse_opt_add_opt(out, "debug") == 0) &&
        (!config->options || fuse_opt_add_opt(out, config->options) == 0))
        rc = 0;
    free(source);
    return rc < 0 ? -ENOMEM : 0;
}

static struct fuse_session *new_fuse(const struct session_config *config, struct request_context *context) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *fuse = NULL;
    char *options = NULL;

    if (build_options(config, &options) == 0 && fuse_opt_add_arg(&args, "jotsfs") == 0 &&
        fuse_opt_add_arg(&args, "-o") == 0 && fuse_opt_add_arg(&args, options) == 0)
        fuse = fuse_session_new(&args, &ops_table, sizeof(ops_table), context);
    free(options);
    fuse_opt_free_args(&args);
    return fuse;
}

int session_create(const struct session_config *config, struct request_context *context,
                   struct session **out) {
    struct session *session = calloc(1, sizeof(*session));
    int rc = -ENOMEM;

    if (!session)
        return -ENOMEM;
    session->main = config->main;
    session->path = strdup(config->path);
    if (!session->path)
        goto failed;
    rc = -EINVAL;
    session->fuse = new_fuse(config, context);
    if (!session->fuse)
        goto failed;
    rc = -EIO;
    if (fuse_session_mount(session->fuse, session->path) != 0)
        goto failed;
    wire_use(session->fuse);
    session->connected = true;
    session->mounted = true;
    *out = session;
    return 0;

failed:
    session_destroy(session);
    return rc;
}

struct fuse_session *session_fuse(struct session *session) {
    return session->fuse;
}

/* --- serving --- */

static void *session_loop(void *arg) {
    struct session *session = arg;
    struct fuse_loop_config *config = fuse_loop_cfg_create();

    session->loop_rc = -ENOMEM;
    if (config) {
        /* Cloning gained nothing measurable on 2 processors, and session_cut counts on one descriptor. */
        fuse_loop_cfg_set_clone_fd(config, 0);
        fuse_loop_cfg_set_max_threads(config, WORKERS);
        session->loop_rc = fuse_session_loop_mt(session->fuse, config);
        fuse_loop_cfg_destroy(config);
    }
    signals_ended(session->main);
    return NULL;
}

int session_start(struct session *session) {
    int rc = pthread_create(&session->loop, NULL, session_loop, session);

    session->serving = rc == 0;
    return -rc;
}

void session_unmount(struct session *session) {
    if (session->mounted)
        mount_detach(session->path);
    session->mounted = false;
}

/* Joins the loop if it ends within POKE_MS. */
static bool join_soon(struct session *session) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += POKE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return pthread_timedjoin_np(session->loop, NULL, &until) == 0;
}

int session_stop(struct session *session) {
    if (!session->serving)
        return 0;
    fuse_session_exit(session->fuse);
    do
        signals_poke(session->loop);
    while (!join_soon(session));
    session->serving = false;
    return session->loop_rc > 0 ? 0 : session->loop_rc;
}

/* Closes the connection, whoever still uses the mount, and lets libfuse free what belongs to it. fuse_session_unmount
 * would unmount by path, what may be another mount by now, unless poll(2) says POLLERR of the connection
 * (lib/mount.c, fuse_kern_unmount): so in its place comes a pipe that nobody reads. */
static void session_cut(struct session *session) {
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return; /* fuse_session_destroy closes it too */
    close(ends[0]);
    if (dup3(ends[1], fuse_session_fd(session->fuse), O_CLOEXEC) >= 0)
        fuse_session_unmount(session->fuse);
    close(ends[1]);
}

void session_destroy(struct session *session) {
    if (!session)
        return;
    if (session->fuse && session->connected)
        session_cut(session);
    if (session->fuse)
        fuse_session_destroy(session->fuse);
    /* An aborted connection leaves a dead mount. */
    if (session->mounted)
        mount_clear_dead(session->path);
    free(session->path);
    free(session);
}
