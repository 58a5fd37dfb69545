/* Going to the background. The fork is made before any thread exists (a thread doesn't survive it); everything that can fail
 * happens in the child, and a pipe tells the parent how it went: one NUL byte for success, else a text. Until
 * then the child stays in the terminal's process group, so that ^C ends both. A child that
 * dies closes the pipe without a word.
 *
 * In the foreground all of this is a no-op but for printing.
 *
 * Called by main.
 */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_SIZE = 2048 };

pid_t daemon_fork(struct daemon *out) {
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid < 0) {
        pid = -errno;
        close(ends[0]);
        close(ends[1]);
        return pid;
    }
    close(ends[pid ? 1 : 0]);
    out->report = ends[pid ? 0 : 1];
    return pid;
}

int daemon_wait(struct daemon *daemon, pid_t pid) {
    char report[REPORT_SIZE];
    size_t size = 0;
    ssize_t got;

    while ((got = read(daemon->report, report + size, sizeof(report) - 1 - size)) != 0) {
        if (got < 0 && errno != EINTR)
            break;
        size += got > 0 ? (size_t)got : 0;
    }
    if (size == 1 && report[0] == '\0')
        return 0;
    report[size] = '\0';
    if (size > 0)
        fprintf(stderr, "jotsfs: %s\n", report);
    else
        fprintf(stderr, "jotsfs: the process ended before the mount was up\n");
    waitpid(pid, NULL, 0);
    return 1;
}

static void tell(struct daemon *daemon, const char *report, size_t size) {
    /* The waiting process may be gone; there is nobody else to tell. */
    ssize_t written = write(daemon->report, report, size);
    (void)written;
    close(daemon->report);
    daemon->report = -1;
}

void daemon_ready(struct daemon *daemon) {
    int null;

    if (daemon->report < 0)
        return;
    setsid();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    tell(daemon, "", 1);
}

void daemon_failed(struct daemon *daemon, const char *why) {
    if (daemon->report < 0)
        fprintf(stderr, "jotsfs: %s\n", why);
    else
        tell(daemon, why, strlen(why));
}
