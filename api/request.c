/* request: method, path and body of one call.
 *
 * The bytes made here are what an Idempotency-Key stands for: a retry must send the
 * same ones, or the service answers 409 (API.md C4). So a request is made once, when
 * the call is submitted, and only read from then on.
 *
 * Filled in by notes and folders, sent by transfer.
 */
#include "api/request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int request_set(struct request *request, const char *method, const char *format, ...) {
    va_list args;
    int size;

    va_start(args, format);
    size = vasprintf(&request->path, format, args);
    va_end(args);
    if (size < 0) {
        request->path = NULL;
        return -ENOMEM;
    }
    request->method = method;
    return 0;
}

static int is_unreserved(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* TO has room for three bytes for each byte of NAME, and a NUL. */
static void escape(char *to, const char *name) {
    static const char digits[] = "0123456789ABCDEF";

    for (; *name; name++) {
        unsigned char byte = (unsigned char)*name;

        if (is_unreserved(*name)) {
            *to++ = *name;
        } else {
            *to++ = '%';
            *to++ = digits[byte >> 4];
            *to++ = digits[byte & 15];
        }
    }
    *to = '\0';
}

int request_set_named(struct request *request, const char *method, const char *name, const char *suffix) {
    char *escaped;
    int error;

    if (!name || !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    escaped = malloc(3 * strlen(name) + 1);
    if (!escaped)
        return -ENOMEM;
    escape(escaped, name);
    error = request_set(request, method, "/notes/by-filename/%s%s", escaped, suffix);
    free(escaped);
    return error;
}

int request_set_body(struct request *request, const cJSON *root) {
    request->body = cJSON_PrintUnformatted(root);
    if (!request->body)
        return -ENOMEM;
    request->body_size = strlen(request->body);
    return 0;
}

void request_release(struct request *request) {
    free(request->path);
    free(request->body);
    *request = (struct request){0};
}
