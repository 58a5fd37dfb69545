/* Values of options: each reader takes the whole text or refuses it, and writes only what it has understood.
 *
 * Called by options.c through its table, before there are threads.
 */
#include "fs/values.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "cache/cache.h"

/* Longest time that an option may name: 30 days, in ms still an unsigned int. */
#define SECONDS_MAX (30 * 86400)

int value_seconds(const char *value, void *out) {
    uint64_t *ms = out;
    char *end;

    errno = 0;
    double seconds = strtod(value, &end);
    if (errno || end == value || *end || !(seconds >= 0 && seconds <= SECONDS_MAX))
        return -EINVAL;
    *ms = (uint64_t)(seconds * 1000 + 0.5);
    return 0;
}

int value_size(const char *value, void *out) {
    static const char suffixes[] = "kmgt";
    uint64_t *bytes = out;
    unsigned shift = 0;
    char *end;

    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno || end == value || !isdigit((unsigned char)*value))
        return -EINVAL;
    if (*end) {
        const char *suffix = strchr(suffixes, tolower((unsigned char)*end));
        if (!suffix || end[1])
            return -EINVAL;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (number > UINT64_MAX >> shift)
        return -EINVAL;
    *bytes = (uint64_t)number << shift;
    return 0;
}

static int read_number(const char *value, int base, unsigned long max, unsigned long *out) {
    char *end;

    errno = 0;
    unsigned long number = strtoul(value, &end, base);
    if (errno || end == value || *end || !isdigit((unsigned char)*value) || number > max)
        return -EINVAL;
    *out = number;
    return 0;
}

int value_umask(const char *value, void *out) {
    unsigned long number;
    mode_t *mask = out;

    if (read_number(value, 8, 0777, &number) < 0)
        return -EINVAL;
    *mask = (mode_t)number;
    return 0;
}

int value_uid(const char *value, void *out) {
    unsigned long number;
    uid_t *uid = out;

    if (read_number(value, 10, UINT_MAX - 1, &number) == 0) {
        *uid = (uid_t)number;
        return 0;
    }
    const struct passwd *user = getpwnam(value); // NOLINT(concurrency-mt-unsafe): no threads yet
    if (!user)
        return -EINVAL;
    *uid = user->pw_uid;
    return 0;
}

int value_gid(const char *value, void *out) {
    unsigned long number;
    gid_t *gid = out;

    if (read_number(value, 10, UINT_MAX - 1, &number) == 0) {
        *gid = (gid_t)number;
        return 0;
    }
    const struct group *group = getgrnam(value); // NOLINT(concurrency-mt-unsafe): no threads yet
    if (!group)
        return -EINVAL;
    *gid = group->gr_gid;
    return 0;
}

int value_fsync(const char *value, void *out) {
    enum cache_fsync *fsync = out;

    if (strcmp(value, "local") == 0)
        *fsync = CACHE_FSYNC_LOCAL;
    else if (strcmp(value, "server") == 0)
        *fsync = CACHE_FSYNC_SERVER;
    else
        return -EINVAL;
    return 0;
}

int value_path(const char *value, void *out) {
    char **path = out, *made = NULL, *here = NULL;

    if (!*value)
        return -EINVAL;
    if (*value == '/')
        made = strdup(value);
    else if ((here = getcwd(NULL, 0)) && asprintf(&made, "%s/%s", here, value) < 0)
        made = NULL;
    free(here);
    if (!made)
        return -ENOMEM;
    free(*path);
    *path = made;
    return 0;
}
