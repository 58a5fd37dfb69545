/* call: what becomes of a service call between submit and DONE.
 *
 * Everything that can fail for lack of memory or for a bad argument does so here, on the thread of
 * whoever submits. After that a call always ends with one DONE, and its bytes and key never change:
 * each retry is identical (API.md C4).
 *
 * Owned by the queue, then by the network thread. Called by http and network.
 */
#include "api/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/codec.h"

enum { KEY_MIN = 8 };

static bool is_key(const char *key) {
    size_t size = strlen(key);

    if (size < KEY_MIN || size > SERVICE_KEY_MAX)
        return false;
    for (; *key; key++) {
        if (*key <= ' ' || *key > '~')
            return false;
    }
    return true;
}

static bool is_valid(const struct service_call *call) {
    if ((unsigned)call->op > SERVICE_OP_PROBE_WRITE || (unsigned)call->priority > SERVICE_PREFETCH)
        return false;
    return call->key ? is_key(call->key) : !service_op_writes(call->op);
}

static void call_destroy(struct call *call) {
    service_reply_destroy(call->reply);
    request_release(&call->request);
    free(call->key);
    free(call);
}

int call_create(const struct service_call *call, service_done *done, void *arg, struct call **out) {
    struct call *made;
    int error;

    if (!is_valid(call) || !done)
        return -EINVAL;
    made = calloc(1, sizeof(*made));
    if (!made)
        return -ENOMEM;
    made->item.class_id = service_class_of(call->op);
    made->item.priority = call->priority;
    made->op = call->op;
    made->done = done;
    made->arg = arg;
    made->reply = calloc(1, sizeof(*made->reply));
    if (call->key)
        made->key = strdup(call->key);
    error = made->reply && (made->key || !call->key) ? codec_encode(call, &made->request) : -ENOMEM;
    if (error)
        call_destroy(made);
    else
        *out = made;
    return error;
}

void call_forget_reply(struct call *call) {
    /* Only an error has been decoded: there are no objects. */
    free(call->reply->message);
    *call->reply = (struct service_reply){0};
}

void call_deliver(struct call *call) {
    struct service_reply *reply = call->reply;

    call->reply = NULL;
    call->done(reply, call->arg);
    call_destroy(call);
}
