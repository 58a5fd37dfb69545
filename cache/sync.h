/* sync: the sync thread: it alone submits calls and handles their replies. Needs the cache's lock. */
#ifndef JOTSFS_CACHE_SYNC_H
#define JOTSFS_CACHE_SYNC_H

#include "cache/cache_internal.h"

enum call_kind {
    CALL_QUERY,  /* a node's GET or LIST (fetch.c) */
    CALL_FROZEN, /* frozen requests of one key (push.c, outcome.c) */
    CALL_POLL,   /* pull.c */
    CALL_SWEEP,
    CALL_FOLDERS,
    CALL_IDENTITY, /* account.c */
    CALL_PROBE,    /* may the token write? (pull.c) */
};

/* A call on its way out, then back with its reply. Owns what `call` points to. */
struct completion {
    struct completion *next;
    struct cache *cache;
    enum call_kind kind;
    struct service_call call;
    char *key, *name, *title;
    struct service_row *rows;
    char **texts;           /* loaded or given: one a row, or one */
    char **titles;          /* of the rows; the requests they stand in may be settled while the call waits */
    uint64_t *text_numbers; /* body files to load texts from, 0 = given */
    size_t text_count;
    uint64_t *inos; /* nodes concerned */
    size_t ino_count;
    uint64_t sequence;           /* of pull.sequence, its own */
    enum service_priority ahead; /* not foreground: started by readahead.c */
    uint64_t ticket;
    bool confirms;  /* asks for a note that a list missed (pull.confirming) */
    uint64_t since; /* a folder's listing: sequence of its first page */
    struct service_reply *reply;
    uint64_t stored; /* body file with the reply's body, 0 = none */
};

/* An empty call about COUNT nodes (texts: one per node, at least one). NULL without memory. */
struct completion *sync_call_create(struct cache *cache, enum call_kind kind, size_t count);
void sync_call_destroy(struct completion *call);
/* Queues CALL; it is submitted when the lock is next given up by the sync thread. Takes ownership. */
void sync_call_queue(struct cache *cache, struct completion *call);

/* One round without waiting: replies, polls, pushes, durability. Gives the lock up while it syncs and submits. *OUT_AT_MS: when
 * to look again at the latest. The sync thread's body; unit tests call it themselves. */
void sync_round(struct cache *cache, int64_t *out_at_ms);
void *sync_thread(void *arg);
/* Makes all commits so far safe from power loss, and the names of files. The lock is given up meanwhile. */
int sync_log(struct cache *cache);
/* Makes everything safe from power loss, after the thread has ended. */
void sync_finish(struct cache *cache);

#endif
