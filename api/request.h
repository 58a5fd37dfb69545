/* request: one call as HTTP sees it: method, path, body. Pure. */
#ifndef JOTSFS_API_REQUEST_H
#define JOTSFS_API_REQUEST_H

#include <cjson/cJSON.h>
#include <stddef.h>

/* Zero-initialise it; all of it is owned. */
struct request {
    const char *method; /* constant text */
    char *path;         /* below the base URL: "/notes/7?..." */
    char *body;         /* JSON, or NULL */
    size_t body_size;
};

/* Sets method and path. 0 or -ENOMEM. */
int request_set(struct request *request, const char *method, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sets method and path "/notes/by-filename/NAME" SUFFIX, with every byte of NAME outside RFC 3986's
 * unreserved ones escaped. -EINVAL for names that URL normalisation would eat: empty, "." and ".."
 * (API.md C25). */
int request_set_named(struct request *request, const char *method, const char *name, const char *suffix);

/* Prints ROOT as the body. 0 or -ENOMEM. */
int request_set_body(struct request *request, const cJSON *root);

void request_release(struct request *request);

#endif
