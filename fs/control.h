/* control: the directory `.jotsfs` in the root of the mount: reachable by name, not listed.
 *
 * `status` (JSON) and `status.txt` are texts made at open; writing to `flush` and `refresh`
 * starts the work and waits for it.
 */
#ifndef JOTSFS_FS_CONTROL_H
#define JOTSFS_FS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cache/cache.h"

#define CONTROL_NAME ".jotsfs"

struct control;
struct control_file;

/* URL is borrowed. -ENOMEM. */
int control_create(struct cache *cache, const char *url, uid_t uid, gid_t gid, mode_t umask,
                   struct control **out);
void control_destroy(struct control *control);

/* True for inode numbers of the control directory and its files: the top bit is theirs. */
bool control_is_ino(uint64_t ino);
/* True if NAME in directory DIR is ours: the directory itself, or anything in it. */
bool control_has(uint64_t dir, const char *name);
/* The files in the control directory. NULL past the end. */
const char *control_name_at(uint64_t index, uint64_t *out_ino, bool *out_directory);

/* None counts lookups or waits. -ENOENT. */
int control_lookup(struct control *control, uint64_t dir, const char *name, struct cache_entry *out);
int control_getattr(struct control *control, uint64_t ino, struct cache_entry *out);
/* SET: enum cache_set. Truncating does nothing, everything else is EPERM. */
int control_setattr(struct control *control, uint64_t ino, unsigned set, struct cache_entry *out);

/* FLAGS: open(2). -EACCES for reading what is written to and the reverse, -EISDIR, -ENOMEM. */
int control_open(struct control *control, uint64_t ino, int flags, struct control_file **out);
int control_read(struct control_file *file, void *data, size_t size, uint64_t offset, size_t *out_size);
/* Does what the file is for: CACHE_WAIT until it is done, then 0 or an errno (cache_flush_all, cache_refresh). */
int control_write(struct control_file *file, struct cache_waiter *waiter);
void control_close(struct control_file *file);

#endif
