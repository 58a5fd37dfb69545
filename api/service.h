/* service: the notes service as the rest of jotsfs sees it: typed calls, typed replies.
 *
 * One ops table. api/http.c implements it over HTTP; tests/unit/model_service.c in
 * memory, so that the whole synchroniser runs in a unit test. Facts about the
 * service: shared API.md.
 */
#ifndef JOTSFS_API_SERVICE_H
#define JOTSFS_API_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/error.h"

/* Rate classes (API.md C20). */
enum service_class { SERVICE_READ, SERVICE_WRITE, SERVICE_APPEND, SERVICE_CLASSES };

/* Who is served first when a class is short of budget. */
enum service_priority { SERVICE_FOREGROUND, SERVICE_READ_AHEAD, SERVICE_PREFETCH };

enum service_op {
    SERVICE_OP_LIST,           /* one page of notes: sort, folder, limit, offset */
    SERVICE_OP_GET,            /* id */
    SERVICE_OP_GET_BY_NAME,    /* name */
    SERVICE_OP_CREATE,         /* rows[0] */
    SERVICE_OP_BULK,           /* rows, 1..SERVICE_BULK_MAX */
    SERVICE_OP_PATCH,          /* id; title, text, folder, settings as present */
    SERVICE_OP_DELETE,         /* id */
    SERVICE_OP_APPEND,         /* id, text */
    SERVICE_OP_APPEND_BY_NAME, /* name, text, append_only, client_encrypted (used if it creates) */
    SERVICE_OP_MOVE,           /* id, folder */
    SERVICE_OP_FOLDERS,        /* all of them */
    SERVICE_OP_FOLDER_CREATE,  /* name */
    SERVICE_OP_FOLDER_RENAME,  /* id, name */
    SERVICE_OP_FOLDER_DELETE,  /* id */
    SERVICE_OP_PROBE_WRITE,    /* PATCH /notes/0: refused with not_found when the token may write */
};

enum { SERVICE_BULK_MAX = 50, SERVICE_PAGE_MAX = 200, SERVICE_KEY_MAX = 255 };

struct service_text {
    const char *data; /* UTF-8, may be NULL when absent */
    size_t size;
};

/* Where a note goes. */
enum service_place { SERVICE_PLACE_KEEP, SERVICE_PLACE_ROOT, SERVICE_PLACE_FOLDER };

struct service_folder_ref {
    enum service_place place;
    int64_t id; /* for SERVICE_PLACE_FOLDER */
};

struct service_row {
    const char *title;
    struct service_text text;
    struct service_folder_ref folder;
    bool append_only;
    bool client_encrypted;
};

enum service_sort { SERVICE_SORT_UPDATED, SERVICE_SORT_CREATED, SERVICE_SORT_APPENDED };

/* One settings key of a PATCH; VALUE NULL clears it. Known keys: append_deadline_hours,
 * alert_email, webhook_url, webhook_secret, webhook_format. */
struct service_setting {
    const char *key;
    const char *value;
};

/* A call. All pointers are borrowed for the duration of submit only. */
struct service_call {
    enum service_op op;
    enum service_priority priority;
    const char *key; /* Idempotency-Key, needed for every call that changes something but the probe */
    int64_t id;
    const char *name;
    struct service_text text; /* absent: data NULL */
    const char *title;
    struct service_folder_ref folder;
    bool append_only;
    bool client_encrypted;
    const struct service_row *rows;
    size_t row_count;
    const struct service_setting *settings;
    size_t setting_count;
    enum service_sort sort;
    unsigned limit;
    unsigned offset;
    bool filter_folder; /* LIST: only notes of `folder` (root or an id) */
};

/* What a note object told; fields that were absent have no bit in `has` (API.md C5). */
enum service_note_has {
    SERVICE_HAS_FOLDER = 1 << 0,
    SERVICE_HAS_APPEND_ONLY = 1 << 1,
    SERVICE_HAS_SIZE = 1 << 2,
    SERVICE_HAS_UPDATED = 1 << 3,
    SERVICE_HAS_CREATED = 1 << 4,
    SERVICE_HAS_APPENDED = 1 << 5, /* last_appended_at was there (it may be null = 0) */
    SERVICE_HAS_BODY = 1 << 6,
    SERVICE_HAS_SETTINGS = 1 << 7, /* a full note: every settings field below is known */
    SERVICE_HAS_ENCRYPTED = 1 << 8,
};

struct service_note {
    unsigned has;
    int64_t id;     /* > 0 */
    char *filename; /* never NULL; any UTF-8 */
    char *title;    /* may be NULL */
    bool rich;
    int64_t folder_id; /* 0 = root */
    bool append_only;
    bool client_encrypted;
    int64_t byte_size;
    int64_t updated_at, created_at, last_appended_at; /* seconds since the epoch, 0 = null */
    char *body;                                       /* NUL-terminated too; NULL when absent or null */
    size_t body_size;
    bool body_exact;           /* false: the body holds what a file can't show (NUL) or isn't a string */
    int append_deadline_hours; /* 0 = null; the others: NULL = null */
    char *alert_email, *webhook_url, *webhook_format, *webhook_disabled_at, *alerted_at;
    int64_t webhook_failure_count;
};

struct service_folder {
    int64_t id;
    char *name;
    int64_t created_at, updated_at;
};

/* Reply to an append (API.md, POST append). Absent numbers are -1. */
struct service_receipt {
    int64_t id;
    char *filename; /* may be NULL */
    bool created;
    int64_t byte_size, bytes_remaining, storage_used, storage_cap;
    int64_t updated_at; /* 0 = absent */
};

enum service_outcome {
    SERVICE_OK,
    SERVICE_REFUSED,  /* the service said no with an error code: it did nothing */
    SERVICE_IN_DOUBT, /* sent without a trustworthy answer (timeout, reset, 5xx, truncated, garbage): done or
                       * not; `status` 2xx: it said yes, but not what is there now */
    SERVICE_UNSENT,   /* certainly never processed: no connection, or cancelled in the queue */
};

struct service_reply {
    enum service_outcome outcome;
    enum service_error error;   /* SERVICE_REFUSED: the code; SERVICE_IN_DOUBT: SERVICE_ERROR_UNAVAILABLE */
    char *message;              /* for log and status, may be NULL; never holds the token */
    int status;                 /* HTTP status, 0 when there was none */
    bool replayed;              /* Idempotent-Replay: true */
    int64_t date;               /* server's Date in seconds since the epoch, 0 = unknown */
    bool partial;               /* LIST: items that could not be understood were left out */
    struct service_note *notes; /* LIST, GET*, CREATE, BULK, PATCH, MOVE */
    size_t note_count;
    size_t item_count; /* LIST: items received, also those left out (API.md C7) */
    struct service_folder *folders;
    size_t folder_count;
    struct service_receipt receipt; /* APPEND* */
};

void service_note_release(struct service_note *note);
/* Frees REPLY and all that it holds. NULL is fine. */
void service_reply_destroy(struct service_reply *reply);

/* Takes ownership of REPLY. Runs on the service's own thread: it must not block or call submit. */
typedef void service_done(struct service_reply *reply, void *arg);

struct service_budget {
    int64_t limit, remaining; /* of the current window; -1 while unknown */
    int64_t resets_in_ms;     /* until the window refills, 0 when full or unknown */
    int64_t wait_ms;          /* a foreground call submitted now leaves after about this time; 0 = at once */
    unsigned queued;          /* calls that wait for budget */
};

struct service;

struct service_ops {
    /* Queues CALL; DONE is called exactly once, also on destroy. Never blocks. A call waits in
     * the queue while its class has no budget; a 429 puts it back (same key), it is not
     * reported, unless it is a replay, which would come again under that key (API.md C4): SERVICE_REFUSED
     * with SERVICE_ERROR_RATE_LIMITED and `replayed`. *OUT_TICKET names the call (may be NULL); it is
     * written before DONE can run. -ENOMEM, -EINVAL. */
    int (*submit)(struct service *service, const struct service_call *call, service_done *done, void *arg,
                  uint64_t *out_ticket);
    /* Raises the priority of a call that still waits. Unknown tickets are ignored. */
    void (*raise)(struct service *service, uint64_t ticket, enum service_priority priority);
    /* What is known of a class's budget. Cheap. */
    void (*budget)(struct service *service, enum service_class class_id, struct service_budget *out);
    /* Cancels what is queued, abandons what is in flight, calls every DONE, frees SERVICE. */
    void (*destroy)(struct service *service);
};

/* First member of every implementation. */
struct service {
    const struct service_ops *ops;
};

enum service_class service_class_of(enum service_op op);
/* True for calls that change something on the server. */
bool service_op_writes(enum service_op op);
const char *service_op_name(enum service_op op);

#endif
