/* status: what is owed and what is known, for people (cache.h, "what is owed").
 *
 * A copy: the caller formats it without the lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/content.h"
#include "cache/link.h"

static const char *pending_kind(const struct node *node) {
    if (!node->dir)
        return "delete";
    if (!node->r.id)
        return "create";
    if (node->r.content == STORE_CONTENT_DRAFT)
        return "rewrite";
    if (node->r.content == STORE_CONTENT_TAIL)
        return "append";
    if (node->r.base_shown && strcmp(node->r.name, node->r.base_shown) != 0)
        return "rename";
    return node->r.dir != node->r.base_dir && !node->r.folder ? "move" : "change";
}

static int describe(const struct node *node, struct cache_pending *out) {
    out->path = cache_path(node);
    out->kind = pending_kind(node);
    out->since = node->r.changed_at;
    if (node->r.content == STORE_CONTENT_TAIL)
        out->bytes = content_unsent(node);
    else if (node->r.content == STORE_CONTENT_DRAFT)
        out->bytes = node->draft_size;
    if (!out->path)
        return -ENOMEM;
    out->error = node->bad_text ? -EILSEQ : node->r.error;
    if (!out->error)
        return 0;
    out->code = strdup(node->bad_text ? "not_text" : (node->r.error_code ? node->r.error_code : ""));
    out->message =
        strdup(node->bad_text ? "the file holds bytes that are not UTF-8 text; it stays on this machine"
                              : (node->r.error_message ? node->r.error_message : ""));
    return out->code && out->message ? 0 : -ENOMEM;
}

static int describe_all(struct cache *cache, struct cache_status *status) {
    const struct node *node;
    size_t count = 0;
    int err = 0;

    for (node = cache->tree.dirty; node; node = node->dirty_next)
        count++;
    status->pending = calloc(count + 1, sizeof(*status->pending));
    if (!status->pending)
        return -ENOMEM;
    for (node = cache->tree.dirty; node && err == 0; node = node->dirty_next) {
        if (!node->r.scratch && (node->dir || node->r.id || node->frozen))
            err = describe(node, &status->pending[status->pending_count++]);
    }
    return err;
}

static int fill(struct cache *cache, struct cache_status *status) {
    status->online = cache->link.state == LINK_ONLINE;
    status->account =
        cache->identity == IDENTITY_FOREIGN ? "another account" : link_account_name(cache->link.account);
    status->notes = cache->tree.notes;
    status->folders = cache->tree.folders;
    status->bodies = cache->bodies;
    status->bytes = cache->body_bytes;
    for (unsigned i = 0; i < SERVICE_CLASSES; i++)
        cache->service->ops->budget(cache->service, (enum service_class)i, &status->budget[i]);
    if (cache->link.message && !(status->account_message = strdup(cache->link.message)))
        return -ENOMEM;
    return describe_all(cache, status);
}

int cache_status(struct cache *cache, struct cache_status **out) {
    struct cache_status *status = calloc(1, sizeof(*status));
    int err;

    if (!status)
        return -ENOMEM;
    pthread_mutex_lock(&cache->lock);
    err = fill(cache, status);
    pthread_mutex_unlock(&cache->lock);
    if (err < 0) {
        cache_status_destroy(status);
        return err;
    }
    status->saved = status->pending_count == 0;
    *out = status;
    return 0;
}

void cache_status_destroy(struct cache_status *status) {
    if (!status)
        return;
    for (size_t i = 0; status->pending && i < status->pending_count; i++) {
        free(status->pending[i].path);
        free(status->pending[i].code);
        free(status->pending[i].message);
    }
    free(status->pending);
    free(status->account_message);
    free(status);
}
