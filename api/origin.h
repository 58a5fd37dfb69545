/* origin: which base URLs may be given the token. Pure. */
#ifndef JOTSFS_API_ORIGIN_H
#define JOTSFS_API_ORIGIN_H

#include <stdbool.h>

struct origin {
    bool secure;   /* https */
    bool loopback; /* the host is this machine */
};

/* See http_check_url(). */
int origin_check(const char *url, struct origin *out, const char **out_why);

#endif
