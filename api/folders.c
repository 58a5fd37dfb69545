/* folders: the folder endpoints: paths, request bodies, folder objects.
 *
 * `GET /folders` is wrapped and unpaginated, everything else is a bare folder.
 * A folder that can't be understood (no id, no name) is left out and makes the reply partial: its notes
 * then carry an unknown folder id, which the cache knows how to show.
 *
 * Called by codec. No state.
 */
#include "api/folders.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "api/json.h"

static int set_name(const struct service_call *call, struct request *out) {
    cJSON *root = cJSON_CreateObject();
    cJSON *folder = cJSON_AddObjectToObject(root, "folder");
    int error = folder ? json_add_string(folder, "name", call->name) : -ENOMEM;

    if (!error)
        error = request_set_body(out, root);
    cJSON_Delete(root);
    return error;
}

int folders_encode(const struct service_call *call, struct request *out) {
    bool named = call->op == SERVICE_OP_FOLDER_CREATE || call->op == SERVICE_OP_FOLDER_RENAME;
    bool by_id = call->op == SERVICE_OP_FOLDER_DELETE || call->op == SERVICE_OP_FOLDER_RENAME;
    int error;

    if ((named && (!call->name || !*call->name)) || (by_id && call->id <= 0))
        return -EINVAL;
    if (call->op == SERVICE_OP_FOLDERS)
        error = request_set(out, "GET", "/folders");
    else if (call->op == SERVICE_OP_FOLDER_CREATE)
        error = request_set(out, "POST", "/folders");
    else
        error = request_set(out, call->op == SERVICE_OP_FOLDER_DELETE ? "DELETE" : "PATCH",
                            "/folders/%" PRId64, call->id);
    return error || !named ? error : set_name(call, out);
}

static bool read_folder(cJSON *object, struct service_folder *folder) {
    if (!json_id(object, "id", &folder->id))
        return false;
    folder->name = json_take_string(object, "name", NULL, NULL);
    json_time(object, "created_at", &folder->created_at);
    json_time(object, "updated_at", &folder->updated_at);
    return folder->name != NULL;
}

static int read_all(const cJSON *root, struct service_reply *reply) {
    const cJSON *items = json_member(root, "folders");
    cJSON *item;

    if (!cJSON_IsArray(items))
        return -EPROTO;
    reply->folders = calloc((size_t)cJSON_GetArraySize(items) + 1, sizeof(*reply->folders));
    if (!reply->folders)
        return -ENOMEM;
    cJSON_ArrayForEach(item, items) {
        struct service_folder *folder = &reply->folders[reply->folder_count];

        reply->item_count++;
        if (read_folder(item, folder))
            reply->folder_count++;
        else
            *folder = (struct service_folder){0};
    }
    reply->partial = reply->folder_count < reply->item_count;
    return 0;
}

int folders_decode(enum service_op op, cJSON *root, struct service_reply *reply) {
    if (op == SERVICE_OP_FOLDERS)
        return read_all(root, reply);
    reply->folders = calloc(1, sizeof(*reply->folders));
    if (!reply->folders)
        return -ENOMEM;
    reply->folder_count = 1;
    return read_folder(root, &reply->folders[0]) ? 0 : -EPROTO;
}
