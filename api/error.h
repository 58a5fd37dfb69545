/* error: the service's error codes, and what each is as an errno: the only table of it. */
#ifndef JOTSFS_API_ERROR_H
#define JOTSFS_API_ERROR_H

/* `error.code` of the error envelope (API.md "Error codes"); branch on these, never on status. */
enum service_error {
    SERVICE_ERROR_NONE,
    SERVICE_ERROR_UNAUTHENTICATED,
    SERVICE_ERROR_FORBIDDEN,
    SERVICE_ERROR_LOCKED, /* note_locked */
    SERVICE_ERROR_NOT_FOUND,
    SERVICE_ERROR_INVALID,   /* validation_failed */
    SERVICE_ERROR_CAP,       /* cap_exceeded */
    SERVICE_ERROR_STORAGE,   /* storage_cap_exceeded */
    SERVICE_ERROR_TOO_LARGE, /* content_too_large, and a 413 without JSON */
    SERVICE_ERROR_TYPE,      /* content_type_mismatch */
    SERVICE_ERROR_RATE_LIMITED,
    SERVICE_ERROR_KEY_CONFLICT, /* idempotency_key_conflict */
    SERVICE_ERROR_UNAVAILABLE,  /* service_unavailable, 5xx, no or no trustworthy answer */
    SERVICE_ERROR_OTHER,        /* any code not listed */
};

/* Code string to enum; SERVICE_ERROR_OTHER for unknown strings. */
enum service_error service_error_from_code(const char *code);
const char *service_error_code(enum service_error error);
/* Negative errno as in DESIGN.md section 5 (0 for SERVICE_ERROR_NONE). */
int service_error_errno(enum service_error error);

#endif
