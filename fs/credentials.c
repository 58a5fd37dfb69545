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

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/http.h"
#include "cache/cache.h"

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

/* Who has the state directory can't get at the token: that takes guessing some 200 random bits through sha512crypt. */
static int hash(const char *token, const char *setting, char *out) {
    struct crypt_data *data = calloc(1, sizeof(*data));
    char fresh[CRYPT_GENSALT_OUTPUT_SIZE];
    int rc = data ? 0 : -ENOMEM;

    if (rc == 0 && !setting)
        setting = crypt_gensalt_rn("$6$", 0, NULL, 0, fresh, sizeof(fresh));
    const char *result = rc == 0 && setting ? crypt_r(token, setting, data) : NULL;
    if (rc == 0 && (!result || *result == '*' || strlen(result) >= CACHE_FINGERPRINT_SIZE))
        rc = -EINVAL;
    if (rc == 0)
        strcpy(out, result); // NOLINT(clang-analyzer-security.insecureAPI.strcpy): measured above
    if (data)
        explicit_bzero(data, sizeof(*data));
    free(data);
    return rc;
}

int credentials_fingerprint(const char *setting, char *out, void *arg) {
    const struct credentials *credentials = arg;
    const char *why = NULL;
    char *token = NULL;

    if (credentials->text)
        return hash(credentials->text, setting, out);
    int rc = http_read_token(credentials->file, &token, &why);
    if (rc < 0)
        return rc;
    rc = hash(token, setting, out);
    explicit_bzero(token, strlen(token));
    free(token);
    return rc;
}

void credentials_release(struct credentials *credentials) {
    if (credentials->text)
        explicit_bzero(credentials->text, strlen(credentials->text));
    free(credentials->text);
    free(credentials->file);
    *credentials = (struct credentials){0};
}
