/* The mount point. A daemon that was killed leaves a mount behind that answers everything with ENOTCONN; the next
 * start clears it away. Unmounting is lazy throughout: programs that still have files open must not keep the name busy.
 * Without root, fusermount3 does it.
 *
 * Called by main.c before the session exists, and by session.c at its end.
 */
#include "fs/mount.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static int run_fusermount(const char *path) {
    char name[] = "fusermount3", quiet[] = "-q", unmount[] = "-u", lazy[] = "-z", end[] = "--";
    char *const argv[] = {name, quiet, unmount, lazy, end, (char *)(uintptr_t)path, NULL};
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid;
    int status;

    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawnp(&pid, name, NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    if (rc)
        return -rc;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mount_detach(const char *path) {
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    return errno == EPERM ? run_fusermount(path) : -errno;
}

static bool is_dead(int error) {
    return error == ENOTCONN || error == ECONNABORTED;
}

/* Attributes of a mount that has just died may still be cached; what statfs(2) says never is. */
void mount_clear_dead(const char *path) {
    struct statvfs space;

    if (statvfs(path, &space) < 0 && is_dead(errno))
        mount_detach(path);
}

int mount_prepare(const char *path, const char **out_why) {
    struct stat attr;

    mount_clear_dead(path);
    if (stat(path, &attr) < 0) {
        int error = errno;
        *out_why = is_dead(error) ? "a dead mount is there and can't be unmounted" : strerrordesc_np(error);
        return -error;
    }
    if (!S_ISDIR(attr.st_mode)) {
        *out_why = "not a directory";
        return -ENOTDIR;
    }
    return 0;
}
