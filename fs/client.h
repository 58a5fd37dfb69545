/* client: the subcommands, as a client of the mount's control directory. */
#ifndef JOTSFS_FS_CLIENT_H
#define JOTSFS_FS_CLIENT_H

#include <stdbool.h>

/* True if PATH has a control directory: a jotsfs is mounted there. */
bool client_is_mount(const char *path);
/* Exit statuses. They print. */
int client_status(const char *path, bool json);
int client_flush(const char *path);
int client_refresh(const char *path);

#endif
