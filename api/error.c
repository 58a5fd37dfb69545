/* error: one table, read in three directions.
 *
 * The service names its refusals by `error.code` (API.md, "Error codes"). The
 * rest of jotsfs branches on the enum; a program that called us gets the errno
 * (DESIGN.md section 5). `validation_failed` is EINVAL here: the cache knows
 * when it means a clash of names and makes EEXIST or ENOTUNIQ of it.
 *
 * Called by api/codec.c (codes), cache/ (errno) and the log and status (names).
 */
#include "api/error.h"

#include <errno.h>
#include <string.h>

struct row {
    const char *code;
    int error_number;
};

static const struct row table[] = {
    [SERVICE_ERROR_NONE] = {"none", 0},
    [SERVICE_ERROR_UNAUTHENTICATED] = {"unauthenticated", EACCES},
    [SERVICE_ERROR_FORBIDDEN] = {"forbidden", EACCES},
    [SERVICE_ERROR_LOCKED] = {"note_locked", EPERM},
    [SERVICE_ERROR_NOT_FOUND] = {"not_found", ENOENT},
    [SERVICE_ERROR_INVALID] = {"validation_failed", EINVAL},
    [SERVICE_ERROR_CAP] = {"cap_exceeded", EDQUOT},
    [SERVICE_ERROR_STORAGE] = {"storage_cap_exceeded", EDQUOT},
    [SERVICE_ERROR_TOO_LARGE] = {"content_too_large", EFBIG},
    [SERVICE_ERROR_TYPE] = {"content_type_mismatch", EPERM},
    [SERVICE_ERROR_RATE_LIMITED] = {"rate_limited", EIO},
    [SERVICE_ERROR_KEY_CONFLICT] = {"idempotency_key_conflict", EIO},
    [SERVICE_ERROR_UNAVAILABLE] = {"service_unavailable", ETIMEDOUT},
    [SERVICE_ERROR_OTHER] = {"other", EIO},
};

enum { ROWS = sizeof(table) / sizeof(table[0]) };

enum service_error service_error_from_code(const char *code) {
    for (int i = SERVICE_ERROR_NONE + 1; code && i < SERVICE_ERROR_OTHER; i++) {
        if (strcmp(table[i].code, code) == 0)
            return (enum service_error)i;
    }
    return SERVICE_ERROR_OTHER;
}

const char *service_error_code(enum service_error error) {
    return (unsigned)error < ROWS ? table[error].code : table[SERVICE_ERROR_OTHER].code;
}

int service_error_errno(enum service_error error) {
    return (unsigned)error < ROWS ? -table[error].error_number : -EIO;
}
