/* plan: the shortest list of API calls that turns base into want. Pure: no I/O, no clock.
 *
 * Input are the nodes in which the two sides differ, and the busy ones (the dirty set;
 * clean nodes never stand in the way, because a name they hold can't be wanted: it is
 * refused at create and rename). Nothing records operations: after every reply the caller plans again
 * from what is then true (DESIGN.md section 3).
 */
#ifndef JOTSFS_CACHE_PLAN_H
#define JOTSFS_CACHE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLAN_ROOT_INO = 1, PLAN_BATCH_MAX = 50 };

/* How want's content relates to base's. */
enum plan_body {
    PLAN_BODY_SAME,
    PLAN_BODY_APPEND,  /* base + lines that an append call can express */
    PLAN_BODY_REWRITE, /* anything else; also the content of a node without base */
};

/* A file. Base: base_id != 0. Want: want_name != NULL. Strings are borrowed. */
struct plan_note {
    uint64_t ino;
    int64_t base_id;
    const char *base_name;  /* the service's filename */
    const char *base_shown; /* the name under which base appears in its directory */
    uint64_t base_dir;      /* inode of that directory, PLAN_ROOT_INO when un-foldered */
    const char *want_name;  /* NULL: wants to be gone */
    uint64_t want_dir;
    const char *busy_name; /* busy: the name that the request gives it, nobody else may take it; NULL: none */
    uint64_t busy_dir;     /* busy: the directory that the request puts it in, not to be deleted; 0: none */
    uint64_t body_bytes;   /* size of the wanted body, for the bounds of a batch and the cost of a swap */
    enum plan_body body;
    unsigned batch_max;  /* largest batch it may be part of (halved after refusals), 1..PLAN_BATCH_MAX */
    bool locked;         /* append-only: no title, no body; move, append, delete only */
    bool rich;           /* never title, body or append */
    bool cold;           /* what it shows isn't here: to be fetched before its base can be given away */
    bool append_creates; /* no base: its content was born by appends, so that a creating append may make it */
    bool want_locked;    /* no base: wants to be append-only */
    bool local;          /* no base: scratch name, never sent */
    bool hold_name;      /* create, rename, move and delete still wait to settle */
    bool hold_body;      /* a rewrite still waits; an append never does */
    bool busy;           /* a request is in flight or frozen, or it is parked by a final error: no step now */
};

struct plan_folder {
    uint64_t ino;
    int64_t base_id;
    const char *base_name;
    const char *base_shown;
    const char *want_name; /* NULL: wants to be gone */
    const char *busy_name; /* as for notes */
    bool hold;             /* create, rename and delete still wait to settle */
    bool busy;
};

struct plan_input {
    const struct plan_folder *folders;
    size_t folder_count;
    const struct plan_note *notes;
    size_t note_count;
    uint64_t batch_bytes; /* most body bytes in one bulk call */
};

enum plan_op {
    PLAN_FETCH,        /* a GET: another node seeks the base of `ino` and takes it once its body is here */
    PLAN_ADOPT_NOTE,   /* no call: `ino` takes over the base of `from` */
    PLAN_ADOPT_FOLDER, /* no call; what is based in `from`, or on its way there, is then in `ino` */
    PLAN_FOLDER_CREATE,
    PLAN_FOLDER_RENAME, /* to `title` */
    PLAN_FOLDER_DELETE,
    PLAN_CREATE,        /* POST; those of one `batch` != 0 go in one bulk call */
    PLAN_APPEND_CREATE, /* creating append by name */
    PLAN_APPEND,
    PLAN_PATCH, /* `fields` */
    PLAN_MOVE,
    PLAN_DELETE,
};

enum plan_field { PLAN_TITLE = 1, PLAN_CONTENT = 2, PLAN_FOLDER = 4 };

struct plan_step {
    enum plan_op op;
    uint64_t ino;
    uint64_t from;     /* PLAN_ADOPT_*: the node that loses its base */
    unsigned fields;   /* PLAN_PATCH: which of enum plan_field */
    const char *title; /* the name that the step gives, borrowed from the input; NULL: none, or `temporary` */
    bool temporary;    /* PLAN_PATCH, PLAN_FOLDER_RENAME: to a temporary name, to break a cycle */
    unsigned batch;    /* PLAN_CREATE: 0 = alone; the steps of a batch are neighbours */
    size_t after;      /* SIZE_MAX: may be sent now; else the last of the steps that must be answered first */
};

/* Carrying the steps out one after the other in list order is always right. So is sending
 * all that have no `after`, at once and in any order, and planning again after each reply. */
struct plan {
    struct plan_step *steps;
    size_t count;
};

/* Plans. Steps of a node whose want is unreachable now (busy, held, waiting for such a
 * node) are left out. A create waits for both holds, with append_creates only for
 * hold_name. Adoptions come first; when there are any, only they are returned, and the
 * caller plans again after carrying them out (the content relation of an adopter is
 * then another). A node whose name a new one wants keeps its base as long as that one is held. -ENOMEM. Release with plan_release. */
int plan_make(const struct plan_input *input, struct plan *out);
void plan_release(struct plan *plan);

/* Number of API calls in PLAN that change something (a batch is one, an adoption none). */
size_t plan_calls(const struct plan *plan);

#endif
