/* `jotsfs status|flush|refresh MOUNTPOINT`: reads and writes the files in MOUNTPOINT/.jotsfs, as anybody could.
 * It needs neither token nor state, and works for whoever may use the mount.
 *
 * Called by main.
 */
#include "fs/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/control.h"

/* A descriptor of the control file NAME, or a negative errno. */
static int open_control(const char *path, const char *name, int flags) {
    char *file;

    if (asprintf(&file, "%s/" CONTROL_NAME "/%s", path, name) < 0)
        return -ENOMEM;
    int fd = open(file, flags | O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    free(file);
    return fd;
}

bool client_is_mount(const char *path) {
    int fd = open_control(path, "status", O_PATH);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int complain(const char *path, int error) {
    const char *why = strerrordesc_np(error);

    if (error == ENOENT || error == ENOTDIR)
        why = "no jotsfs is mounted there";
    else if (error == ENOTCONN)
        why = "the mount is dead; mount it again";
    fprintf(stderr, "jotsfs: %s: %s\n", path, why);
    return 1;
}

static int copy_out(int fd) {
    char data[4096];
    ssize_t got;

    while ((got = read(fd, data, sizeof(data))) > 0)
        if (fwrite(data, 1, (size_t)got, stdout) != (size_t)got)
            return -EIO;
    return got < 0 ? -errno : fflush(stdout) ? -EIO : 0;
}

static int print(const char *path, const char *name) {
    int fd = open_control(path, name, O_RDONLY);

    if (fd < 0)
        return fd;
    int rc = copy_out(fd);
    close(fd);
    return rc;
}

int client_status(const char *path, bool json) {
    int rc = print(path, json ? "status" : "status.txt");

    return rc < 0 ? complain(path, -rc) : 0;
}

/* Writes to the control file NAME, which waits until it is done. */
static int act(const char *path, const char *name) {
    int fd = open_control(path, name, O_WRONLY), rc = 0;

    if (fd < 0)
        return fd;
    if (write(fd, "1\n", 2) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int client_flush(const char *path) {
    int rc = act(path, "flush");

    if (rc != -EIO && rc != -ETIMEDOUT)
        return rc < 0 ? complain(path, -rc) : 0;
    fprintf(stderr, "jotsfs: %s: %s\n", path,
            rc == -EIO ? "the service refused changes" : "the service can't be reached; changes are kept");
    print(path, "status.txt");
    return 1;
}

int client_refresh(const char *path) {
    int rc = act(path, "refresh");

    if (rc == -ETIMEDOUT) {
        fprintf(stderr, "jotsfs: %s: the service can't be reached\n", path);
        return 1;
    }
    return rc < 0 ? complain(path, -rc) : 0;
}
