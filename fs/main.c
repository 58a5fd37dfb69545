/* jotsfs: mounts a notes service. This file puts the parts together and takes them apart again.
 *
 * Threads: main (waits for signals), libfuse's loop and its workers (session.c), the park (park.c), the
 * notifier (notify.c), and below fs/ the network and sync threads. All are started after
 * the fork, with SIGTERM, SIGINT and SIGHUP blocked.
 *
 * The order of locks. A lock may be taken while holding those above it only:
 *   1. struct directory's lock    one open directory (ops_dir.c)
 *   2. the cache's lock           the tree and what is owed (cache/)
 *   3. libfuse's req->lock, then se->lock: only libfuse takes them; our interrupt callback runs under req->lock,
 *      takes nothing but 4, and nothing of 1, 2 or 4 is held while calling libfuse
 *   4. leaves: park->lock, notify->lock (then watch->lock), handles->lock, and the locks inside api/ and libc; nothing is called with them held
 * No lock of 1, 2, 4 is held across fuse_reply_*, fuse_lowlevel_notify_*, fsync or network.
 *
 * The end. The notifier is disarmed first, then what is parked is answered, and the notifier joined while workers still
 * answer (its last call may wait for them in the kernel). Then: unmount, end the loop, join the
 * park (it replies through the session), cut the connection, close what was open, drain, close the state. After
 * `fusermount3 -u` the mount is gone already and the same steps run through. kill -9 at any point loses
 * nothing: that is the cache's promise.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "api/http.h"
#include "fs/backend.h"
#include "fs/client.h"
#include "fs/control.h"
#include "fs/credentials.h"
#include "fs/daemon.h"
#include "fs/handle.h"
#include "fs/log.h"
#include "fs/mount.h"
#include "fs/notify.h"
#include "fs/options.h"
#include "fs/park.h"
#include "fs/request.h"
#include "fs/session.h"
#include "fs/signals.h"
#include "fs/usage.h"
#include "fs/version.h"
#include "fs/watch.h"

/* PROVE_MS: how long a mount without state waits for its first answer. */
enum { PROVE_MS = 20000, EXIT_USAGE = 2 };

/* The parts, each NULL until it exists. */
struct parts {
    struct notify *notify;
    struct cache *cache;
    struct park *park;
    struct control *control;
    struct handles *handles;
    struct session *session;
    struct request_context context;
};

/* --- starting --- */

/* The service and the cache, and the token proven. While it is proven a signal simply ends the process. */
static int start_backend(struct parts *parts, const struct options *options, struct credentials *credentials,
                         struct log *log, char **out_why) {
    struct cache_events events = {0};

    if (parts->notify) {
        events.inode_changed = notify_inode;
        events.entry_changed = notify_entry;
        events.news = notify_news;
        events.arg = parts->notify;
    }
    signals_block();
    int rc = backend_open(options, credentials, &events, log, &parts->cache, out_why);
    credentials_release(credentials);
    if (rc < 0)
        return rc;
    signals_unblock();
    rc = cache_prove(parts->cache, PROVE_MS, out_why);
    signals_block();
    return rc;
}

static int start_session(struct parts *parts, const struct options *options) {
    struct session_config config = {
        .path = options->path,
        .source = options->url_given ? options->url : "jotsfs",
        .options = options->mount,
        .read_only = options->read_only,
        .allow_other = options->allow_other,
        .debug = options->debug,
        .main = pthread_self(),
    };

    parts->context = (struct request_context){.cache = parts->cache,
                                              .park = parts->park,
                                              .control = parts->control,
                                              .handles = parts->handles,
                                              .notify = parts->notify};
    int rc = session_create(&config, &parts->context, &parts->session);
    if (rc < 0)
        return rc;
    rc = watch_create(parts->cache, options->path, &parts->context.watch);
    if (rc < 0)
        return rc;
    notify_set_watch(parts->notify, parts->context.watch);
    rc = notify_start(parts->notify, session_fuse(parts->session));
    return rc < 0 ? rc : session_start(parts->session);
}

static int start(struct parts *parts, const struct options *options, struct credentials *credentials,
                 struct log *log, char **out_why) {
    int rc = notify_create(&parts->notify);

    if (rc == 0)
        rc = start_backend(parts, options, credentials, log, out_why);
    if (rc == 0)
        rc = park_create(parts->cache, &parts->park);
    if (rc == 0)
        rc = control_create(parts->cache, options->url, options->uid, options->gid, options->umask,
                            &parts->control);
    if (rc == 0)
        rc = handles_create(&parts->handles);
    if (rc < 0)
        return rc;
    rc = start_session(parts, options);
    if (rc < 0 && asprintf(out_why, "can't mount on %s", options->path) < 0)
        *out_why = NULL;
    return rc;
}

/* --- ending --- */

/* Ends the mount, in the order that the head of this file explains. */
static void stop(struct parts *parts, const struct log *log) {
    if (parts->session) {
        notify_disarm(parts->notify);
        park_close(parts->park);
        notify_stop(parts->notify);
        if (parts->context.watch)
            watch_stop(parts->context.watch);
        session_unmount(parts->session);
        int rc = session_stop(parts->session);
        if (rc < 0)
            log_line(log, LOG_ERR, "serving the mount ended: %s", strerrordesc_np(-rc));
    }
    if (parts->park)
        park_stop(parts->park);
    session_destroy(parts->session);
    parts->session = NULL;
    watch_destroy(parts->context.watch);
    parts->context.watch = NULL;
    /* Files that were open: closed now, or draining would wait for more to be written. */
    handles_destroy(parts->handles);
    parts->handles = NULL;
}

static void release(struct parts *parts) {
    control_destroy(parts->control);
    if (parts->cache)
        cache_destroy(parts->cache);
    park_destroy(parts->park);
    notify_destroy(parts->notify);
}

/* --- commands --- */

/* The daemon, from its first step to its last. Returns the exit status. */
static int serve(const struct options *options, struct credentials *credentials, struct daemon *daemon) {
    struct log log = {.foreground = options->foreground, .debug = options->debug};
    struct parts parts = {0};
    char *why = NULL;
    int rc;

    if (!options->foreground)
        openlog("jotsfs", LOG_PID, LOG_DAEMON);
    if (chdir("/") < 0)
        log_line(&log, LOG_WARNING, "can't change to /: %s", strerrordesc_np(errno));
    rc = start(&parts, options, credentials, &log, &why);
    if (rc == 0) {
        daemon_ready(daemon);
        signals_wait();
        stop(&parts, &log);
        rc = backend_drain(parts.cache, options->drain_timeout_ms, &log) > 0;
    } else {
        stop(&parts, &log);
        daemon_failed(daemon, why ? why : strerrordesc_np(-rc));
    }
    release(&parts);
    free(why);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What can be said at once: no token, no mount point, a URL that must not be given a token. Prints. */
static int check(const struct options *options, struct credentials *credentials) {
    const char *why = NULL;

    if (http_check_url(options->url, &why) < 0) {
        fprintf(stderr, "jotsfs: %s: %s\n", options->url, why);
        return -EINVAL;
    }
    if (credentials_init(credentials, options->token_file) < 0) {
        fprintf(stderr, "jotsfs: no token: set FRESHJOTS_TOKEN or use -o token_file=PATH\n");
        return -ENOENT;
    }
    return 0;
}

static int command_mount(const struct options *options) {
    struct daemon daemon = {.report = -1};
    struct credentials credentials = {0};
    const char *why = NULL;
    pid_t pid = 0;

    if (mount_prepare(options->path, &why) < 0) {
        fprintf(stderr, "jotsfs: %s: %s\n", options->path, why);
        return EXIT_FAILURE;
    }
    if (check(options, &credentials) < 0)
        return EXIT_FAILURE;
    if (!options->foreground)
        pid = daemon_fork(&daemon);
    if (pid < 0)
        fprintf(stderr, "jotsfs: %s\n", strerrordesc_np(-pid));
    int status = pid > 0    ? daemon_wait(&daemon, pid)
                 : pid == 0 ? serve(options, &credentials, &daemon)
                            : EXIT_FAILURE;
    credentials_release(&credentials);
    return status;
}

/* `flush STATE_DIR`: what a mount left behind is sent without one. */
static int flush_state(const struct options *options) {
    struct log log = {.foreground = true, .debug = options->debug};
    struct parts parts = {0};
    struct credentials credentials = {0};
    char *why = NULL;

    if (check(options, &credentials) < 0)
        return EXIT_FAILURE;
    int rc = start_backend(&parts, options, &credentials, &log, &why);
    if (rc == 0)
        rc = backend_drain(parts.cache, options->drain_timeout_ms, &log) > 0;
    else
        fprintf(stderr, "jotsfs: %s: %s\n", options->path, why ? why : strerrordesc_np(-rc));
    credentials_release(&credentials);
    release(&parts);
    free(why);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int command_flush(struct options *options) {
    char *database = NULL;

    if (client_is_mount(options->path))
        return client_flush(options->path);
    if (asprintf(&database, "%s/state.db", options->path) < 0)
        return EXIT_FAILURE;
    int rc = access(database, F_OK);
    free(database);
    if (rc < 0) {
        fprintf(stderr, "jotsfs: %s: neither a jotsfs mount nor a state directory\n", options->path);
        return EXIT_FAILURE;
    }
    free(options->state_dir);
    options->state_dir = strdup(options->path);
    return options->state_dir ? flush_state(options) : EXIT_FAILURE;
}

static int run(struct options *options) {
    switch (options->command) {
    case OPTIONS_MOUNT:
        return command_mount(options);
    case OPTIONS_STATUS:
        return client_status(options->path, options->json);
    case OPTIONS_FLUSH:
        return command_flush(options);
    case OPTIONS_REFRESH:
        return client_refresh(options->path);
    case OPTIONS_HELP:
        fputs(usage_text, stdout);
        return EXIT_SUCCESS;
    case OPTIONS_VERSION:
        printf("jotsfs %s (libfuse %s)\n", JOTSFS_VERSION, fuse_pkgversion());
        return EXIT_SUCCESS;
    }
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    struct options options;
    char *why = NULL;
    int status = EXIT_USAGE;

    /* No core file and no other process of the user may show the token. */
    prctl(PR_SET_DUMPABLE, 0);
    signals_init();
    if (argc > 1 && strcmp(argv[1], WATCH_COMMAND) == 0)
        return watch_child(argc, argv);
    int rc = options_init(&options, argc, argv, &why);
    umask(077);
    if (rc < 0)
        fprintf(stderr, "jotsfs: %s\nTry: jotsfs --help\n", why ? why : strerrordesc_np(-rc));
    else
        status = run(&options);
    free(why);
    options_release(&options);
    return status;
}
