/* fuse: libfuse's low-level API, at the one version that fs/ is written for. */
#ifndef JOTSFS_FS_FUSE_H
#define JOTSFS_FS_FUSE_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#endif
