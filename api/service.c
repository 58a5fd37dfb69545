/* service: what every implementation of the ops table shares: the facts about
 * each operation, in one table, and the release of replies.
 *
 * The rate class of an operation is by name (API.md C20): reads are GET, appends
 * are /append, everything else is a write.
 *
 * Called by api/http.c, the model service of the unit tests, and cache/.
 */
#include "api/service.h"

#include <stdlib.h>

struct op_facts {
    const char *name;
    enum service_class class_id;
    bool writes;
};

static const struct op_facts facts[] = {
    [SERVICE_OP_LIST] = {"list", SERVICE_READ, false},
    [SERVICE_OP_GET] = {"get", SERVICE_READ, false},
    [SERVICE_OP_GET_BY_NAME] = {"get-by-name", SERVICE_READ, false},
    [SERVICE_OP_CREATE] = {"create", SERVICE_WRITE, true},
    [SERVICE_OP_BULK] = {"bulk", SERVICE_WRITE, true},
    [SERVICE_OP_PATCH] = {"patch", SERVICE_WRITE, true},
    [SERVICE_OP_DELETE] = {"delete", SERVICE_WRITE, true},
    [SERVICE_OP_APPEND] = {"append", SERVICE_APPEND, true},
    [SERVICE_OP_APPEND_BY_NAME] = {"append-by-name", SERVICE_APPEND, true},
    [SERVICE_OP_MOVE] = {"move", SERVICE_WRITE, true},
    [SERVICE_OP_FOLDERS] = {"folders", SERVICE_READ, false},
    [SERVICE_OP_FOLDER_CREATE] = {"folder-create", SERVICE_WRITE, true},
    [SERVICE_OP_FOLDER_RENAME] = {"folder-rename", SERVICE_WRITE, true},
    [SERVICE_OP_FOLDER_DELETE] = {"folder-delete", SERVICE_WRITE, true},
    [SERVICE_OP_PROBE_WRITE] = {"probe-write", SERVICE_WRITE, false},
};

enum service_class service_class_of(enum service_op op) {
    return facts[op].class_id;
}

bool service_op_writes(enum service_op op) {
    return facts[op].writes;
}

const char *service_op_name(enum service_op op) {
    return facts[op].name;
}

void service_note_release(struct service_note *note) {
    free(note->filename);
    free(note->title);
    free(note->body);
    free(note->alert_email);
    free(note->webhook_url);
    free(note->webhook_format);
    free(note->webhook_disabled_at);
    free(note->alerted_at);
    *note = (struct service_note){0};
}

void service_reply_destroy(struct service_reply *reply) {
    if (!reply)
        return;
    for (size_t i = 0; i < reply->note_count; i++)
        service_note_release(&reply->notes[i]);
    for (size_t i = 0; i < reply->folder_count; i++)
        free(reply->folders[i].name);
    free(reply->notes);
    free(reply->folders);
    free(reply->receipt.filename);
    free(reply->message);
    free(reply);
}
