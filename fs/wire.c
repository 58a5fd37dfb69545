/* The connection to the kernel. Everything passes unchanged, but for one flag in the reply to INIT that libfuse
 * 3.14 can't set: HANDLE_KILLPRIV_V2, the promise that set-user-ID and set-group-ID bits go
 * when a file is written, truncated or given away (the cache does that). A kernel that has it believes the
 * inode has no capabilities until its attributes are read again, and no longer asks for
 * security.capability before each single WRITE: an append is OPEN, WRITE, FLUSH and (not
 * waited for) RELEASE, a request in four less (fuse_send_init in the kernel's fs/fuse/inode.c).
 * A kernel that does not offer the flag goes on asking, and xattr.c goes on answering.
 *
 * INIT is the first request. It is answered by the thread that read it, before any other comes.
 *
 * Called by libfuse's workers.
 */
#include "fs/wire.h"

#include <linux/fuse.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/request.h"

static ssize_t wire_read(int fd, void *buffer, size_t size, void *userdata) {
    struct request_context *context = userdata;
    const struct fuse_in_header *header = buffer;
    const struct fuse_init_in *init = (const struct fuse_init_in *)(header + 1);
    ssize_t got = read(fd, buffer, size);

    if (got >= (ssize_t)(sizeof(*header) + offsetof(struct fuse_init_in, flags) + sizeof(init->flags)) &&
        header->opcode == FUSE_INIT && (init->flags & FUSE_HANDLE_KILLPRIV_V2))
        atomic_store(&context->wire.init, header->unique);
    return got;
}

static ssize_t wire_writev(int fd, struct iovec *parts, int count, void *userdata) {
    struct request_context *context = userdata;
    const struct fuse_out_header *header = parts[0].iov_base;
    uint64_t init = atomic_load(&context->wire.init);

    if (init && header->unique == init) {
        struct fuse_init_out *reply = count == 2 ? parts[1].iov_base : NULL;
        if (reply && parts[1].iov_len >= offsetof(struct fuse_init_out, flags) + sizeof(reply->flags))
            reply->flags |= FUSE_HANDLE_KILLPRIV_V2;
        atomic_store(&context->wire.init, 0);
    }
    return writev(fd, parts, count);
}

void wire_use(struct fuse_session *fuse) {
    static const struct fuse_custom_io io = {.writev = wire_writev, .read = wire_read};

    (void)fuse_session_custom_io(fuse, &io, fuse_session_fd(fuse));
}
