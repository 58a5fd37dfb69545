/* tree: the inodes and dentries in memory: two sides per node, `want` and `base`.
 *
 * Pure memory, guarded by the cache's lock. What must survive is in node->r and written by
 * cache_save (cache_internal.h).
 */
#ifndef JOTSFS_CACHE_TREE_H
#define JOTSFS_CACHE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/memory.h"
#define uthash_malloc(size) memory_must(size)
#include <uthash.h>

#include "api/service.h"
#include "cache/body.h"
#include "cache/store.h"
#include "cache/tail.h"
#include "cache/text.h"

struct cache_waiter;

/* What a node has under way with the service, besides a frozen request. */
enum node_query {
    NODE_QUERY_NONE,
    NODE_QUERY_FETCH,   /* GET for a reader, or to learn how the body ends; LIST of a folder */
    NODE_QUERY_CONFIRM, /* GET of a note that a list missed */
    NODE_QUERY_CHECK,   /* GET before a PATCH or DELETE, LIST before a folder's DELETE */
    NODE_QUERY_RESOLVE, /* GET that decides what became of a request in doubt */
};

struct node {
    struct store_node r;
    struct node *dir;      /* directory of want; NULL = gone (or the root) */
    struct node *children; /* folder: its nodes, hashed by name */
    UT_hash_handle hh_ino, hh_name, hh_id;
    struct node *folder_next;              /* list of all folders */
    struct node *dirty_next, **dirty_prev; /* nodes in which base and want may differ, oldest first */

    /* content; open while handles or the sync thread need them */
    struct body *body, *draft;
    struct tail *tail;
    uint64_t draft_size;
    uint64_t safe_draft;   /* number of the draft file whose bytes an fdatasync has covered at least once */
    uint64_t trusted_body; /* number of the body that this run has written or verified */
    uint64_t change;       /* counts local changes of the content */
    uint64_t saved_change; /* value of it that the service has, for a draft */
    bool unsynced;         /* draft or tail has bytes that no fdatasync covers */
    bool unsaved;          /* times changed since the row was written */
    struct text_utf8 utf8; /* where the tail's bytes stand */

    uint64_t lookups; /* the kernel's references */
    unsigned handles, writers;

    /* synchronisation (DESIGN.md sections 2 and 3) */
    int64_t quiet_at_ms;     /* last change or last close by a writer; settling counts from here */
    int64_t line_at_ms;      /* append-born and not yet created: when its first line was complete */
    int64_t rewritten_at_ms; /* held open: when the rewrite began or was last uploaded */
    int64_t retry_at_ms;     /* after a failure: not before */
    unsigned failures;
    bool awaited; /* the sync thread comes back to it by itself, whatever is written meanwhile */
    bool hurry;   /* fsync or flush: settle no longer */
    bool checked; /* the check before PATCH or DELETE has just succeeded */
    int64_t checked_at_ms;
    char *gone_name; /* the name it had when it was given up */
    bool delete_now; /* unlink of a locked note waits for the answer */
    bool reread;     /* unsettled body: this open has read it again */
    bool
        pinned; /* rewritten since its first writer opened it: no news is shown before the last one closes it */
    bool ahead;                     /* its body was fetched, or is being fetched, before anybody asked */
    enum service_priority priority; /* of the query */
    bool news;                      /* changed without the kernel's doing since the last open */
    int64_t read_at_ms;             /* when the last GET told base */
    bool refetch;                   /* a GET crossed a request of ours: again when that is done */
    unsigned moves;                 /* counts changes of its place */
    bool bad_text;                  /* the file holds what can't be sent (EILSEQ): parked locally */
    uint8_t batch_max;
    enum node_query query;
    uint64_t ticket;             /* of the query */
    struct store_frozen *frozen; /* request whose outcome isn't applied yet */
    bool in_flight;              /* frozen and submitted */
    int64_t tried_at_ms; /* when an attempt that the service may have got was last given up; 0 = none */
    bool in_doubt;       /* loaded from a former run, or too long unanswered: resolve before resending */
    double pace;         /* tokens of the note's own append pacing (push.c) */
    int64_t paced_at_ms;
    uint64_t seen;        /* sequence of the last list that held it (sweep.c) */
    bool missed;          /* the last sweep did not hold it */
    int64_t listed_at_ms; /* folder: its own listing was fresh then; 0: never */
    uint64_t
        own_change; /* sequence number of what base was last set by: what was asked for before is older */
    unsigned error_count; /* final errors so far: sampled by handles */
    int last_error;       /* the last of them */
    struct cache_waiter *waiters;
};

struct tree {
    struct node *by_ino, *note_by_id, *folder_by_id;
    struct node *root;
    struct node *folder_list;
    struct node *dirty, **dirty_end;
    uint64_t notes, folders; /* shown ones */
};

/* Makes the root. -ENOMEM. */
int tree_init(struct tree *tree);
void tree_release(struct tree *tree);

/* Takes over REC, which has no name yet, and puts the node into the tables. NULL without memory. */
struct node *tree_add(struct tree *tree, struct store_node *rec);
/* Takes the node out of all tables and frees it; it has no handles, lookups or waiters. */
void tree_remove(struct tree *tree, struct node *node);

struct node *tree_find(const struct tree *tree, uint64_t ino);
struct node *tree_find_note(const struct tree *tree, int64_t id);
struct node *tree_find_folder(const struct tree *tree, int64_t id);
/* NAME is normalised. */
struct node *tree_child(const struct node *dir, const char *name);
/* A note (not scratch) that wants NAME in whatever directory, except SELF. */
struct node *tree_note_named(const struct tree *tree, const char *name, const struct node *self);
/* A folder whose name equals NAME case-insensitively, except SELF. */
struct node *tree_folder_named(const struct tree *tree, const char *name, const struct node *self);

/* Want: gives the node the name NAME in DIR (both free), or none. -ENOMEM leaves all as it was. */
int tree_place(struct tree *tree, struct node *node, struct node *dir, const char *name);
void tree_unplace(struct tree *tree, struct node *node);
/* Base: (re)enters the node under r.id = ID; 0 takes it out. */
void tree_set_id(struct tree *tree, struct node *node, int64_t id);

/* The dirty list; both are idempotent. */
void tree_mark_dirty(struct tree *tree, struct node *node);
void tree_mark_clean(struct tree *tree, struct node *node);

/* Replaces *FIELD by a copy of VALUE (NULL allowed). -ENOMEM leaves it. */
int tree_set_string(char **field, const char *value);

#endif
