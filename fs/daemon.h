/* daemon: the way into the background: the caller's process waits until the mount is up. */
#ifndef JOTSFS_FS_DAEMON_H
#define JOTSFS_FS_DAEMON_H

#include <sys/types.h>

struct daemon {
    int report; /* -1: in the foreground */
};

/* Forks. 0 in the daemon to be, its pid in the waiting process, or a negative errno. Call before there are threads. */
pid_t daemon_fork(struct daemon *out);
/* In the waiting process: the status to exit with. Prints what the daemon reports when it fails. */
int daemon_wait(struct daemon *daemon, pid_t pid);

/* In the daemon, once: the mount is up; it leaves the terminal, its session and the working directory. */
void daemon_ready(struct daemon *daemon);
/* In the daemon, instead: WHY is printed by the waiting process. */
void daemon_failed(struct daemon *daemon, const char *why);

#endif
