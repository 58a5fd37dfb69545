/* options: the command line. */
#ifndef JOTSFS_FS_OPTIONS_H
#define JOTSFS_FS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cache/cache.h"

enum options_command {
    OPTIONS_MOUNT,
    OPTIONS_STATUS,
    OPTIONS_FLUSH,
    OPTIONS_REFRESH,
    OPTIONS_HELP,
    OPTIONS_VERSION,
};

struct options {
    enum options_command command;
    char *url;
    bool url_given; /* as an argument */
    char *path;     /* mount point, or state directory of `flush`; absolute */
    bool foreground, debug, json;

    uint64_t ttl_ms, settle_ms, settle_delete_ms, drain_timeout_ms, request_timeout_ms;
    uint64_t cache_size_bytes;
    enum cache_fsync fsync;
    bool append_only, read_only, allow_other;
    char *token_file, *state_dir; /* absolute; token_file may be NULL */
    char **local;                 /* globs, NULL-terminated, or NULL */
    size_t local_count;
    mode_t umask;
    uid_t uid;
    gid_t gid;
    char *mount; /* options for mount(2) that are passed on, comma-separated, or NULL */
};

/* Reads the command line, and the environment for what it doesn't say. 0, or -EINVAL or -ENOMEM with *OUT_WHY malloc'ed;
 * release OUT in any case. */
int options_init(struct options *out, int argc, char **argv, char **out_why);
void options_release(struct options *options);

#endif
