/* handle: what the kernel holds open (fh of files and directories), so that all of it can be closed when the
 * connection ends without RELEASE.
 */
#ifndef JOTSFS_FS_HANDLE_H
#define JOTSFS_FS_HANDLE_H

#include "fs/fuse.h"

struct handles;

/* -ENOMEM. */
int handles_create(struct handles **out);
/* Closes everything that is still open; no handler may run any more. NULL is fine. */
void handles_destroy(struct handles *handles);

/* Puts OBJECT into FILE->fh, to be closed with CLOSE. Closes it and returns -ENOMEM when memory is short. */
int handle_open(struct handles *handles, void *object, void (*close)(void *object),
                struct fuse_file_info *file);
/* The object in FILE->fh. */
void *handle_object(const struct fuse_file_info *file);
/* Closes the object in FILE->fh. */
void handle_close(struct handles *handles, const struct fuse_file_info *file);

#endif
