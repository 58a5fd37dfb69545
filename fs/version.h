/* version: what the Makefile says we are. */
#ifndef JOTSFS_FS_VERSION_H
#define JOTSFS_FS_VERSION_H

#ifndef JOTSFS_VERSION
#define JOTSFS_VERSION "dev"
#endif

#endif
