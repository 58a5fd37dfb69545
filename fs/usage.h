/* usage: what `jotsfs --help` says. */
#ifndef JOTSFS_FS_USAGE_H
#define JOTSFS_FS_USAGE_H

extern const char usage_text[];

#endif
