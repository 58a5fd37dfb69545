/* codec: a call as a request, an HTTP answer as a reply. Pure. */
#ifndef JOTSFS_API_CODEC_H
#define JOTSFS_API_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include "api/request.h"
#include "api/service.h"

/* 0, -ENOMEM, or -EINVAL for a call that misses what its operation needs, or texts that aren't UTF-8.
 * OUT is released on failure. The same call always gives the same bytes. */
int codec_encode(const struct service_call *call, struct request *out);

/* A complete HTTP answer. DATA has a NUL after its SIZE bytes and is overwritten; NULL when there is none. */
struct codec_answer {
    int status;
    char *data;
    size_t size;
};

/* Judges ANSWER and fills in REPLY (outcome, error, message, status, objects), which is all zero but for
 * what the headers told. True when the call was throttled: it is to be sent
 * again, and REPLY says so in case it can't be. */
bool codec_decode(enum service_op op, const struct codec_answer *answer, struct service_reply *reply);

/* The outcome when there is no complete answer. WHY is a text for people. */
void codec_fail(struct service_reply *reply, enum service_outcome outcome, const char *why);

/* The largest (decoded) answer to take for REQUEST. */
size_t codec_answer_max(enum service_op op, const struct request *request);

#endif
