/* The table of handlers, and what is agreed with the kernel at INIT. What is left out is left
 * out on purpose, because the kernel then does the right thing by itself:
 *   flock, getlk, setlk   locks are kept by the kernel, for this machine
 *   access                default_permissions checks modes
 *   lseek                 SEEK_DATA and SEEK_HOLE see one extent
 *   copy_file_range       falls back to read and write
 *   tmpfile               O_TMPFILE is EOPNOTSUPP
 *   write_buf             data must be looked at, so splicing it is of no use
 * Never agreed to: WRITEBACK_CACHE (it breaks O_APPEND against remote appends) and
 * EXPLICIT_INVAL_DATA (with keep_cache, bytes that came from the server read as NUL), LESSONS.md.
 *
 * Called by libfuse's workers (session.c).
 */
#include "fs/ops.h"

#include "fs/request.h"

/* BACKGROUND_MAX: how many asynchronous requests (read-ahead) the kernel has under way; its 12 would be used up by reads
 * that are parked. */
enum { WRITE_MAX = 1 << 20, BACKGROUND_MAX = 128 };

static void op_init(void *context, struct fuse_conn_info *conn) {
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
                            FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS |
                            FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ASYNC_DIO;

    (void)context;
    conn->want = wanted & conn->capable;
    if (conn->max_write > WRITE_MAX)
        conn->max_write = WRITE_MAX;
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX;
}

const struct fuse_lowlevel_ops ops_table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .statfs = op_statfs,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .symlink = op_symlink,
    .link = op_link,
    .getxattr = op_getxattr,
    .setxattr = op_setxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
};
