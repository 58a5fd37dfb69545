/* values: how the text of an option's value is read. */
#ifndef JOTSFS_FS_VALUES_H
#define JOTSFS_FS_VALUES_H

/* All: 0, or -EINVAL (-ENOMEM). OUT points to what the option is kept in. */
int value_seconds(const char *value, void *out); /* uint64_t, in ms; fractions allowed, 30 days at most */
int value_size(const char *value, void *out);    /* uint64_t, in bytes; K, M, G, T */
int value_umask(const char *value, void *out);   /* mode_t */
int value_uid(const char *value, void *out);     /* uid_t; number or name */
int value_gid(const char *value, void *out);     /* gid_t; number or name */
int value_fsync(const char *value, void *out);   /* enum cache_fsync */
int value_path(const char *value, void *out);    /* char *, malloc'ed, absolute; the old one is freed */

#endif
