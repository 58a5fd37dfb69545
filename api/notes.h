/* notes: what the service's note endpoints take and give (API.md, part a). Pure. */
#ifndef JOTSFS_API_NOTES_H
#define JOTSFS_API_NOTES_H

#include <cjson/cJSON.h>

#include "api/request.h"
#include "api/service.h"

/* Makes the request of a call about notes. 0, -ENOMEM, or -EINVAL for a call that misses what its
 * operation needs. On failure the caller still releases OUT. */
int notes_encode(const struct service_call *call, struct request *out);

/* Fills REPLY's notes or receipt from ROOT, which loses the strings that it takes. 0, -ENOMEM, or
 * -EPROTO when ROOT isn't what OP promises. */
int notes_decode(enum service_op op, cJSON *root, struct service_reply *reply);

#endif
