/* origin: which base URLs may be given the token. Pure. */
#ifndef JOTSFS_API_ORIGIN_H
#define JOTSFS_API_ORIGIN_H

#include <stdbool.h>

/* See http_check_url(). *OUT_LOOPBACK tells that the host is this machine. */
int origin_check(const char *url, bool *out_loopback, const char **out_why);

#endif
