/* call: a service call on its way: the request, who wants the reply, where it waits. */
#ifndef JOTSFS_API_CALL_H
#define JOTSFS_API_CALL_H

#include <stdint.h>

#include "api/queue.h"
#include "api/request.h"
#include "api/service.h"

struct transfer;

struct call {
    struct queue_item item; /* first */
    enum service_op op;
    struct request request;
    char *key; /* or NULL */
    service_done *done;
    void *arg;
    struct service_reply *reply; /* made with the call, so that DONE can always be called */
    uint64_t booking;            /* in the budget, while in flight */
    struct transfer *transfer;   /* while in flight */
};

/* Checks and encodes CALL, and copies what it needs of it. -EINVAL, -ENOMEM. */
int call_create(const struct service_call *call, service_done *done, void *arg, struct call **out);

/* Makes the reply as empty as it was: the call goes again. */
void call_forget_reply(struct call *call);

/* Hands the reply over to DONE and frees CALL. */
void call_deliver(struct call *call);

#endif
