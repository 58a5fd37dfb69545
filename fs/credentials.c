/* The token, by rank: -o token_file (whoever names a file means it), $FRESHJOTS_TOKEN, systemd's
 * credential. A file is not read here: the service reads it, checks its mode, and
 * reads it again when it changes.
 *
 * /proc/PID/environ shows the memory that execve filled, whatever unsetenv does to the array of
 * pointers, so the value is overwritten in place.
 *
 * Called by main before there are threads.
 */
#include "fs/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 1 if it was there. */
static int take_from_environment(struct credentials *out) {
    char *value = secure_getenv("FRESHJOTS_TOKEN");
    int rc = 0;

    if (!value)
        return 0;
    if (*value) {
        out->text = strdup(value);
        rc = out->text ? 1 : -ENOMEM;
        explicit_bzero(value, strlen(value));
    }
    unsetenv("FRESHJOTS_TOKEN"); // NOLINT(concurrency-mt-unsafe): no threads yet
    return rc;
}

static int take_credential(struct credentials *out) {
    const char *directory = secure_getenv("CREDENTIALS_DIRECTORY");

    if (!directory || *directory != '/')
        return -ENOENT;
    if (asprintf(&out->file, "%s/freshjots-token", directory) < 0) {
        out->file = NULL;
        return -ENOMEM;
    }
    if (access(out->file, F_OK) == 0)
        return 0;
    free(out->file);
    out->file = NULL;
    return -ENOENT;
}

int credentials_init(struct credentials *out, const char *token_file) {
    *out = (struct credentials){0};
    int rc = take_from_environment(out);
    if (rc < 0)
        return rc;
    if (token_file) {
        credentials_release(out);
        out->file = strdup(token_file);
        return out->file ? 0 : -ENOMEM;
    }
    return rc > 0 ? 0 : take_credential(out);
}

void credentials_release(struct credentials *credentials) {
    if (credentials->text)
        explicit_bzero(credentials->text, strlen(credentials->text));
    free(credentials->text);
    free(credentials->file);
    *credentials = (struct credentials){0};
}
