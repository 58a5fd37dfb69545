/* Extended attributes. The kernel asks for security.capability before every single WRITE
 * (LESSONS.md), so `security.*` and `system.*` are answered from a constant before
 * anything else. ENOSYS would silence it but also end all other attributes for good.
 *
 * Called by libfuse's workers.
 */
#include <errno.h>
#include <stddef.h>

#include "fs/ops.h"

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    (void)ino, (void)name, (void)size;
    fuse_reply_err(req, ENODATA);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags) {
    (void)ino, (void)name, (void)value, (void)size, (void)flags;
    fuse_reply_err(req, EOPNOTSUPP);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    (void)ino;
    if (size == 0)
        fuse_reply_xattr(req, 0);
    else
        fuse_reply_buf(req, NULL, 0);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
    (void)ino, (void)name;
    fuse_reply_err(req, ENODATA);
}
