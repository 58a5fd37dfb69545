/* wire: the connection to the kernel, with what libfuse 3.14 has no word for. */
#ifndef JOTSFS_FS_WIRE_H
#define JOTSFS_FS_WIRE_H

#include <stdatomic.h>
#include <stdint.h>

#include "fs/fuse.h"

/* Zero-initialised. */
struct wire {
    atomic_uint_least64_t init; /* number of the INIT request that waits for its reply; 0: none */
};

/* To be called between mounting and serving; the userdata of FUSE must be a struct request_context. On failure everything
 * works, only slower. */
void wire_use(struct fuse_session *fuse);

#endif
