/* http: the service over HTTP, on libcurl's multi interface. */
#ifndef JOTSFS_API_HTTP_H
#define JOTSFS_API_HTTP_H

#include "api/service.h"

/* Which lines the service logs. LEVEL is a syslog priority. May be called from any thread. */
typedef void service_log(int level, const char *text, void *arg);

struct http_config {
    const char *base_url;        /* "https://host/api/v1"; http only to loopback */
    const char *token;           /* used when token_file is NULL */
    const char *token_file;      /* re-read when it changes: checked after a 401 and at most once a second */
    unsigned connect_timeout_ms; /* 0: default 5,000 */
    unsigned stall_timeout_ms;   /* no byte for this long ends a transfer; 0: default 30,000 */
    unsigned max_parallel;       /* transfers at once; 0: default 16 */
    service_log *log;            /* may be NULL */
    void *log_arg;
};

/* Checks that URL may be given the token: https, or http to a loopback address; no user
 * part, query or fragment. 0, or -EINVAL with *OUT_WHY a constant text. */
int http_check_url(const char *url, const char **out_why);

/* Reads a token from PATH: must be a regular file, ours, and not accessible to others (0600 or less).
 * Trailing white space is cut. *OUT is malloc'ed; wipe it. -EACCES, -EINVAL, -ENOENT, ... with *OUT_WHY
 * a constant text. */
int http_read_token(const char *path, char **out, const char **out_why);

/* Starts the network thread. Copies CONFIG. -EINVAL for a bad URL or token, what http_read_token() says of
 * the token file, -ENOMEM, -EAGAIN. */
int http_service_create(const struct http_config *config, struct service **out);

#endif
