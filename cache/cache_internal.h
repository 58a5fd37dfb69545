/* What the modules of cache/ share: the one lock, the account's state, saving.
 *
 * Lock: `lock` guards everything below it here, every node, and the store. It is never
 * held across fsync, network or a reply to the kernel. `_locked` is not spelled out in this
 * directory: but for the functions of cache.h and those that say otherwise, the caller
 * holds the lock.
 */
#ifndef JOTSFS_CACHE_INTERNAL_H
#define JOTSFS_CACHE_INTERNAL_H

#include <pthread.h>
#include <stdarg.h>
#include <syslog.h>

#include "cache/cache.h"
#include "cache/statedir.h"
#include "cache/store.h"
#include "cache/text.h"
#include "cache/tree.h"

enum {
    CACHE_AWAIT_MS = 2000,    /* a poll or refusal is awaited this long (DESIGN.md section 4) */
    CACHE_NOTE_CAP = 3145728, /* API.md C26: a hint until a receipt tells */
};

/* Is the service reachable, and does it accept the token? */
enum link_state { LINK_UNKNOWN, LINK_ONLINE, LINK_OFFLINE };
enum account_state {
    ACCOUNT_UNKNOWN,
    ACCOUNT_OK,
    ACCOUNT_UNAUTHENTICATED,
    ACCOUNT_FORBIDDEN,
    ACCOUNT_READ_ONLY
};

/* Is the token of the account that the state belongs to? (account.c) */
enum identity { IDENTITY_TRUSTED, IDENTITY_ASKING, IDENTITY_FOREIGN };

struct link {
    enum link_state state;
    enum account_state account;
    char *message;       /* of the last refusal or failure */
    unsigned failures;   /* in a row */
    int64_t retry_at_ms; /* offline or refused: next attempt */
};

/* A list that is read page by page (sweep.h). */
struct scan {
    uint64_t since; /* sequence of its first page's call: what was seen since is there */
    unsigned offset;
    size_t pages; /* that held something */
    bool partial; /* it held items that could not be understood */
};

/* Polling (pull.c, sweep.c). */
struct pull {
    bool listed; /* a complete list has been seen (or loaded) */
    bool polling, sweeping, page_asked, listing_folders;
    bool poll_wanted, sweep_wanted, folders_wanted;
    bool widened;         /* the poll under way has left its first page */
    bool mark_held;       /* news was put off: the mark must not advance past it */
    unsigned confirming;  /* notes that lists missed and that are being asked for */
    unsigned failures;    /* polls or pages in a row */
    int64_t retry_at_ms;  /* after a failure: not before */
    int64_t polled_at_ms; /* when the last successful poll was sent; INT64_MIN: never */
    int64_t poll_sent_ms;
    int64_t sweep_sent_ms; /* when the sweep under way began */
    int64_t swept_at_ms;   /* when the last complete one began; INT64_MIN: never. State counts as one */
    int64_t page_at_ms, folders_at_ms, folders_sent_ms;
    int64_t called_at_ms;      /* last call that asked for freshness */
    int64_t mark, stored_mark; /* newest server time that polls have covered */
    int64_t poll_newest;       /* newest item of the poll under way */
    struct scan poll, sweep;
    size_t page_proven; /* most items the service has put on one page */
    size_t page_cap;    /* that is all it gives, whatever the limit; 0: not known to be less (API.md C7) */
    bool sizeless;      /* list items lack byte_size or updated_at (API.md C5) */
    bool blind;         /* they lack updated_at: lists don't tell every change */
    uint64_t sequence;  /* counts own changes applied and calls made: tells stale lists */
    uint64_t folder_change; /* sequence of the last own change of a folder */
    uint64_t polls;         /* completed ones */
    int error;              /* of the last poll, negative errno */
    bool probe_failed, probe_answered;
    bool refreshing;              /* somebody asked for news right now */
    bool probed;                  /* whether the token may write is known, or being asked */
    struct cache_waiter *waiters; /* of polls */
};

struct cache {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the sync thread and cache_prove/cache_drain; CLOCK_MONOTONIC */
    struct cache_config config;
    struct cache_clock clock;
    struct statedir *dir;
    struct store *store;
    struct service *service;
    struct tree tree;
    struct pull pull;
    struct link link;
    struct completion *outbox, **outbox_end;           /* calls to submit (sync.c) */
    struct completion *completions, **completions_end; /* replies to handle */
    unsigned in_flight;                                /* calls whose reply hasn't been handled */
    unsigned frozen_in_flight;
    int64_t push_again_ms; /* not planned again before */
    size_t owing;          /* nodes that push can still do something about */
    bool started, stopping, kicked;
    bool had_state; /* the state directory held a list when it was opened */
    bool draining;  /* settle times are cut short */
    bool closing;   /* for good: the mount is gone */
    bool handover;
    bool recheck_bodies;  /* the machine was restarted since: cached bodies are verified before use */
    int64_t synced_at_ms; /* last time that everything was made safe from power loss */
    bool unsynced;        /* something was written since */
    enum text_rule rule;  /* learned (API.md C1) */
    int64_t note_cap;     /* bytes per note, learned */
    int64_t storage_used, storage_cap; /* -1 = unknown */
    enum identity identity;
    char fingerprint[CACHE_FINGERPRINT_SIZE]; /* of a token that is new here */
    bool identity_asked;
    unsigned identity_asks;
    int64_t identity_retry_ms;
    uint64_t bodies, body_bytes; /* cached */
    struct cache_waiter *flush_waiters;
    struct garbage *garbage; /* files that no row names once the open transaction is committed */
    struct garbage *waste;   /* files that no row names: removed once that is safe from power loss */
    struct readahead *readahead;
    bool clashes;   /* a note may be shown as NAME~ID because its name was taken (place.c) */
    unsigned depth; /* of transactions */
    pthread_t thread;
};

/* --- time and text, for all modules --- */
int64_t cache_now_ms(struct cache *cache);  /* monotonic */
int64_t cache_time_ns(struct cache *cache); /* since the epoch */
int64_t cache_time(struct cache *cache);    /* seconds since the epoch */
void cache_log(struct cache *cache, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Path of a node below the mount, for people; malloc'ed, "?" for what is gone. */
char *cache_path(const struct node *node);

/* A transaction of the store. Nests; files released inside are removed once the outermost is committed. A failure is
 * logged. */
void cache_begin(struct cache *cache);
int cache_commit(struct cache *cache);
/* Writes node->r; on failure logs and gives the errno. Joins an open transaction. */
int cache_save(struct cache *cache, struct node *node);
/* Frees a node that nothing needs any more (no name, handle, lookup, base, request), on disk too. Otherwise nothing. */
void cache_reap(struct cache *cache, struct node *node);
/* A body file is no longer needed by NODE: removed unless NODE refers to it otherwise. */
void cache_release_body(struct cache *cache, struct node *node, uint64_t number);
/* The same for the node's tail file. */
void cache_release_tail(struct cache *cache, const struct node *node);
/* What may be removed when all that is committed now is safe from power loss. */
struct garbage *cache_take_waste(struct cache *cache);
/* SAFE: it is; else WASTE is kept for the next time. Takes ownership. */
void cache_remove_waste(struct cache *cache, struct garbage *waste, bool safe);
/* Leaves the files to the next start. */
void cache_forget_waste(struct cache *cache);
/* Something of the node's want changed: it is owed, a final error no longer counts. Saves. */
int cache_want_changed(struct cache *cache, struct node *node);
/* Fills what the kernel is told about a node. */
void cache_fill_entry(struct cache *cache, struct node *node, struct cache_entry *out);

/* --- waiting --- */
/* What a request has already waited for, in waiter->stage: nothing is awaited twice. */
enum cache_stage {
    STAGE_POLLED = 1,
    STAGE_FETCHED = 2,
    STAGE_SYNCED = 4,
    STAGE_LISTED = 8,
    STAGE_DELETED = 16,
    STAGE_FLUSHED = 32,
};
int cache_wait_on(struct cache *cache, struct cache_waiter **list, struct cache_waiter *waiter,
                  int64_t timeout_ms);
void cache_wake_all(struct cache_waiter **list, int error);
void cache_unlink_waiter(struct cache_waiter *waiter);
/* Makes the sync thread look again. */
void cache_kick(struct cache *cache);

/* --- what the kernel must hear --- */
void cache_tell_inode(struct cache *cache, struct node *node, bool data);
void cache_tell_entry(struct cache *cache, const struct node *dir, const char *name, const struct node *node);

#endif
