/* report: what the cache owes, as JSON for programs and as text for people. Pure. */
#ifndef JOTSFS_FS_REPORT_H
#define JOTSFS_FS_REPORT_H

#include <stddef.h>

#include "cache/cache.h"

/* *OUT is malloc'ed. -ENOMEM. */
typedef int report_text(const struct cache_status *status, const char *url, char **out, size_t *out_size);

report_text report_json;
report_text report_plain;

#endif
