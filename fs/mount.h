/* mount: the mount point as the kernel has it. */
#ifndef JOTSFS_FS_MOUNT_H
#define JOTSFS_FS_MOUNT_H

/* Checks that PATH is a directory; a dead mount on it (ENOTCONN) is unmounted first. 0, or a negative errno with
 * *OUT_WHY a constant text. */
int mount_prepare(const char *path, const char **out_why);
/* Unmounts what is mounted on PATH, lazily, so also while it is in use. Blocks while the kernel writes back. */
int mount_detach(const char *path);
/* Unmounts PATH if a dead mount is on it. */
void mount_clear_dead(const char *path);

#endif
