/* folders: what the service's folder endpoints take and give (API.md, "Folders"). Pure. */
#ifndef JOTSFS_API_FOLDERS_H
#define JOTSFS_API_FOLDERS_H

#include <cjson/cJSON.h>

#include "api/request.h"
#include "api/service.h"

/* As notes_encode() and notes_decode(), for calls about folders. */
int folders_encode(const struct service_call *call, struct request *out);
int folders_decode(enum service_op op, cJSON *root, struct service_reply *reply);

#endif
