/* network: the thread that sends calls and reads answers. */
#ifndef JOTSFS_API_NETWORK_H
#define JOTSFS_API_NETWORK_H

#include "api/call.h"
#include "api/http.h"
#include "api/service.h"
#include "api/token.h"
#include "api/transfer.h"

struct network;

struct network_config {
    struct transfer_target target; /* its strings must outlive the network */
    struct token *token;           /* taken over on success */
    unsigned max_parallel;
    service_log *log;
    void *log_arg;
};

/* Starts the thread. -ENOMEM, -EAGAIN. */
int network_create(const struct network_config *config, struct network **out);
/* Takes CALL over. Never blocks. *OUT_TICKET (if not NULL) is written before DONE can run. */
void network_submit(struct network *network, struct call *call, uint64_t *out_ticket);
void network_raise(struct network *network, uint64_t ticket, enum service_priority priority);
void network_budget(struct network *network, enum service_class class_id, struct service_budget *out);
/* Ends every call with its DONE, and the thread. Well under a second, whatever the network does. */
void network_destroy(struct network *network);

#endif
