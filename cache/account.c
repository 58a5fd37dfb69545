/* account: the state directory belongs to one account.
 *
 * A token that the state hasn't been used with may belong to somebody else's notes: what is owed would go to a stranger, and every
 * note we know would count as deleted. So before anything else a few known notes are asked for by id, which never are
 * another account's (API.md: foreign records are not_found). One that is seen proves the account, and the token's
 * fingerprint (a salted hash, made by the caller) is remembered; none: the mount is refused.
 *
 *     trusted -> go on        asking -> trusted | foreign
 */
#include "cache/account.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ACCOUNT_ASKS = 5 };

static int remember(struct cache *cache) {
    cache->identity = IDENTITY_TRUSTED;
    cache_begin(cache);
    (void)store_put_meta(cache->store, "token", cache->fingerprint);
    return cache_commit(cache);
}

int account_load(struct cache *cache) {
    char fingerprint[CACHE_FINGERPRINT_SIZE], *stored = NULL;
    int err;

    cache->identity = IDENTITY_TRUSTED;
    if (!cache->config.fingerprint)
        return 0;
    err = store_get_meta(cache->store, "token", &stored);
    if (err == 0 && stored)
        err = cache->config.fingerprint(stored, fingerprint, cache->config.fingerprint_arg);
    if (err == 0 && stored && strcmp(stored, fingerprint) == 0)
        goto out;
    if (err == 0)
        err = cache->config.fingerprint(NULL, cache->fingerprint, cache->config.fingerprint_arg);
    if (err < 0)
        goto out;
    /* Nothing known and nothing owed: nothing to lose. */
    if (!cache->tree.note_by_id && !cache->tree.dirty)
        err = remember(cache);
    else
        cache->identity = IDENTITY_ASKING;
out:
    free(stored);
    return err;
}

/* The known note that was shown last and hasn't been asked for. */
static struct node *pick(struct cache *cache) {
    struct node *node, *next, *best = NULL;

    HASH_ITER(hh_id, cache->tree.note_by_id, node, next) {
        if (!node->missed && (!best || node->r.updated_at > best->r.updated_at))
            best = node;
    }
    return best;
}

void account_tick(struct cache *cache) {
    struct completion *call;
    struct node *node;

    if (cache->identity != IDENTITY_ASKING || cache->identity_asked ||
        cache_now_ms(cache) < cache->identity_retry_ms)
        return;
    node = cache->identity_asks < ACCOUNT_ASKS ? pick(cache) : NULL;
    if (!node) {
        cache->identity = IDENTITY_FOREIGN;
        cache_log(cache, LOG_ERR,
                  "none of the notes known here is seen with this token: it belongs to another account");
        pthread_cond_broadcast(&cache->wake);
        return;
    }
    call = sync_call_create(cache, CALL_IDENTITY, 1);
    if (!call)
        return;
    call->inos[0] = node->r.ino;
    call->call.op = SERVICE_OP_GET;
    call->call.id = node->r.id;
    cache->identity_asked = true;
    sync_call_queue(cache, call);
}

void account_done(struct cache *cache, const struct completion *call) {
    const struct service_reply *reply = call->reply;
    struct node *node = tree_find(&cache->tree, call->inos[0]);

    cache->identity_asked = false;
    if (reply->outcome == SERVICE_OK) {
        if (remember(cache) < 0)
            cache_log(cache, LOG_WARNING, "the token's fingerprint could not be kept");
        pthread_cond_broadcast(&cache->wake);
    } else if (reply->outcome == SERVICE_REFUSED && reply->error == SERVICE_ERROR_NOT_FOUND) {
        cache->identity_asks++;
        if (node)
            node->missed = true;
    } else {
        cache->identity_retry_ms = cache_now_ms(cache) + CACHE_AWAIT_MS;
    }
}
