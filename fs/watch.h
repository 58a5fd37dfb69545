/* watch: programs that watch files with inotify see what changed without the kernel, too. */
#ifndef JOTSFS_FS_WATCH_H
#define JOTSFS_FS_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cache;
struct watch;

/* First argument of the program when it is started by watch.c. */
#define WATCH_COMMAND "--raise-inotify"

/* Starts the thread. PATH: the mount point, absolute, mounted. -ENOMEM, -EAGAIN. */
int watch_create(struct cache *cache, const char *path, struct watch **out);
/* INO changed. Only queues; any lock may be held. */
void watch_changed(struct watch *watch, uint64_t ino);
/* Is PID the child? Its requests ask for nothing and change nothing. */
bool watch_is_child(const struct watch *watch, pid_t pid);
/* Ends the thread and the child, whose requests must still be answered meanwhile. */
void watch_stop(struct watch *watch);
/* After watch_stop. NULL is fine. */
void watch_destroy(struct watch *watch);

/* The child's whole life; ARGV[2] and so on are what to touch. */
int watch_child(int argc, char **argv);

#endif
