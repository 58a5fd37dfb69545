/* model_service: see the head of model_service.h.
 *
 * Idempotency (API.md, "Idempotency-Key"): a key is remembered for 24 hours with the fingerprint of its request and its
 * answer; the same request gets the same answer, marked as a replay, another request under it is refused. Refusals are not
 * remembered unless stores_errors says so.
 */
#include "model_service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t key_life_ms = 24LL * 3600 * 1000;

struct model_key {
    struct model_key *next;
    char *key, *fingerprint;
    int64_t born_ms;
    struct service_reply *reply;
};

struct model_call {
    struct service_call call;
    char *strings[4]; /* key, name, text, title */
    struct service_row *rows;
    service_done *done;
    void *arg;
    struct service_reply *reply; /* processed */
};

struct model_session {
    struct service base;
    struct model *model;
    struct model_call **line;
    size_t count;
    pthread_mutex_t lock; /* of the line; for model_pump only */
};

/* --- copies --- */

static char *copy(const char *data, size_t size) {
    char *out = malloc(size + 1);

    assert_non_null(out);
    memcpy(out, data, size);
    out[size] = '\0';
    return out;
}

static char *copy_string(const char *string) {
    return string ? copy(string, strlen(string)) : NULL;
}

static struct service_reply *copy_reply(const struct service_reply *reply) {
    struct service_reply *out = malloc(sizeof *out);

    assert_non_null(out);
    *out = *reply;
    out->message = copy_string(reply->message);
    out->receipt.filename = copy_string(reply->receipt.filename);
    out->notes = calloc(reply->note_count + 1, sizeof *out->notes);
    out->folders = calloc(reply->folder_count + 1, sizeof *out->folders);
    assert_non_null(out->notes);
    assert_non_null(out->folders);
    for (size_t i = 0; i < reply->note_count; i++) {
        struct service_note *note = &out->notes[i];

        *note = reply->notes[i];
        note->filename = copy_string(note->filename);
        note->title = copy_string(note->title);
        note->body = note->body ? copy(note->body, note->body_size) : NULL;
    }
    for (size_t i = 0; i < reply->folder_count; i++) {
        out->folders[i] = reply->folders[i];
        out->folders[i].name = copy_string(reply->folders[i].name);
    }
    return out;
}

static void copy_rows(struct model_call *call, const struct service_call *from) {
    call->rows = calloc(from->row_count + 1, sizeof *call->rows);
    assert_non_null(call->rows);
    for (size_t i = 0; i < from->row_count; i++) {
        struct service_row *row = &call->rows[i];

        *row = from->rows[i];
        row->title = copy_string(row->title);
        row->text.data = row->text.data ? copy(row->text.data, row->text.size) : NULL;
    }
    call->call.rows = call->rows;
}

static struct model_call *copy_call(const struct service_call *from) {
    struct model_call *call = calloc(1, sizeof *call);

    assert_non_null(call);
    call->call = *from;
    call->call.key = call->strings[0] = copy_string(from->key);
    call->call.name = call->strings[1] = copy_string(from->name);
    call->call.text.data = call->strings[2] = from->text.data ? copy(from->text.data, from->text.size) : NULL;
    call->call.title = call->strings[3] = copy_string(from->title);
    assert_int_equal(from->setting_count, 0); /* the cache doesn't send any yet */
    copy_rows(call, from);
    return call;
}

static void free_call(struct model_call *call) {
    for (size_t i = 0; i < call->call.row_count; i++) {
        free((char *)(uintptr_t)call->rows[i].title);
        free((char *)(uintptr_t)call->rows[i].text.data);
    }
    for (size_t i = 0; i < sizeof call->strings / sizeof call->strings[0]; i++)
        free(call->strings[i]);
    free(call->rows);
    service_reply_destroy(call->reply);
    free(call);
}

/* --- the service's memory of requests --- */

/* Method, path and body in one string. */
static char *fingerprint(const struct service_call *call) {
    char *out = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&out, &size);

    assert_non_null(stream);
    fprintf(stream, "%d|%lld|%s|%s|%d|%lld|%d|", call->op, (long long)call->id, call->name ? call->name : "-",
            call->title ? call->title : "-", call->folder.place, (long long)call->folder.id,
            call->append_only);
    fprintf(stream, "%.*s|", call->text.data ? (int)call->text.size : 1,
            call->text.data ? call->text.data : "-");
    for (size_t i = 0; i < call->row_count; i++)
        fprintf(stream, "%s|%d|%lld|%.*s|", call->rows[i].title, call->rows[i].folder.place,
                (long long)call->rows[i].folder.id, (int)call->rows[i].text.size, call->rows[i].text.data);
    (void)fclose(stream);
    return out;
}

static struct model_key *find_key(struct model *model, const char *name) {
    for (struct model_key *key = model->keys; key; key = key->next)
        if (strcmp(key->key, name) == 0 && model->clock->real_ms - key->born_ms < key_life_ms)
            return key;
    return NULL;
}

static void remember(struct model *model, const struct service_call *call,
                     const struct service_reply *reply) {
    struct model_key *key = calloc(1, sizeof *key);

    assert_non_null(key);
    *key = (struct model_key){model->keys, copy_string(call->key), fingerprint(call), model->clock->real_ms,
                              copy_reply(reply)};
    model->keys = key;
}

static struct service_reply *replay(const struct model_key *key, const struct service_call *call) {
    char *print = fingerprint(call);
    bool same = strcmp(print, key->fingerprint) == 0;
    struct service_reply *reply =
        same ? copy_reply(key->reply) : account_refusal(SERVICE_ERROR_KEY_CONFLICT, "key was used otherwise");

    free(print);
    reply->replayed = same;
    return reply;
}

static struct service_reply *process(struct model *model, const struct service_call *call) {
    bool writes = service_op_writes(call->op);
    struct model_key *key;

    if (writes)
        assert_true(call->key && strlen(call->key) >= 8); /* every change carries its key */
    key = writes ? find_key(model, call->key) : NULL;
    if (key) {
        model->replayed++;
        return replay(key, call);
    }
    model->processed[call->op]++;
    struct service_reply *reply = account_carry_out(&model->account, call);
    if (writes && (reply->outcome == SERVICE_OK || model->stores_errors))
        remember(model, call, reply);
    return reply;
}

void model_init(struct model *model, struct fake_clock *clock) {
    *model = (struct model){.clock = clock};
    account_init(&model->account, clock);
}

void model_release(struct model *model) {
    for (struct model_key *key = model->keys, *next; key; key = next) {
        next = key->next;
        free(key->key);
        free(key->fingerprint);
        service_reply_destroy(key->reply);
        free(key);
    }
    account_release(&model->account);
    *model = (struct model){0};
}

unsigned model_writes(const struct model *model) {
    unsigned count = 0;

    for (int op = 0; op < MODEL_OPS; op++)
        count += service_op_writes((enum service_op)op) ? model->processed[op] : 0;
    return count;
}

/* --- the line --- */

static struct model_session *session(const struct service *service) {
    return (struct model_session *)(uintptr_t)service;
}

static int submit(struct service *service, const struct service_call *call, service_done *done, void *arg,
                  uint64_t *out_ticket) {
    struct model_session *self = session(service);

    pthread_mutex_lock(&self->lock);
    struct model_call **line = realloc(self->line, (self->count + 1) * sizeof(struct model_call *));
    assert_non_null(line);
    self->line = line;
    self->model->submitted[call->op]++;
    line[self->count] = copy_call(call);
    line[self->count]->done = done;
    line[self->count]->arg = arg;
    self->count++;
    pthread_mutex_unlock(&self->lock);
    if (out_ticket)
        *out_ticket = 0;
    return 0;
}

static void raise_call(struct service *service, uint64_t ticket, enum service_priority priority) {
    (void)service;
    (void)ticket;
    (void)priority;
}

static void budget(struct service *service, enum service_class class_id, struct service_budget *out) {
    const struct model *model = session(service)->model;
    bool out_of = (class_id == SERVICE_APPEND && model->out_of_appends) ||
                  (class_id == SERVICE_WRITE && model->out_of_writes);

    *out = (struct service_budget){.limit = 600, .remaining = out_of ? 0 : 600, .wait_ms = out_of ? 1000 : 0};
}

static void finish(struct model_session *self, size_t index, struct service_reply *reply) {
    struct model_call *call = self->line[index];

    self->count--;
    for (size_t i = index; i < self->count; i++)
        self->line[i] = self->line[i + 1];
    call->done(reply, call->arg);
    free_call(call);
}

static struct service_reply *no_answer(enum service_outcome outcome, int status) {
    struct service_reply *reply = calloc(1, sizeof *reply);

    assert_non_null(reply);
    reply->outcome = outcome;
    reply->error = SERVICE_ERROR_UNAVAILABLE;
    reply->status = status;
    reply->message = copy_string(outcome == SERVICE_UNSENT ? "no connection" : "no answer");
    return reply;
}

static void destroy(struct service *service) {
    struct model_session *self = session(service);

    while (self->count)
        finish(self, 0, no_answer(SERVICE_UNSENT, 0));
    free(self->line);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

static const struct service_ops ops = {submit, raise_call, budget, destroy};

struct service *model_service(struct model *model) {
    struct model_session *self = calloc(1, sizeof *self);

    assert_non_null(self);
    self->base.ops = &ops;
    self->model = model;
    pthread_mutex_init(&self->lock, NULL);
    return &self->base;
}

size_t model_waiting(const struct service *service) {
    return session(service)->count;
}

const struct service_call *model_peek(const struct service *service, size_t index) {
    assert_true(index < session(service)->count);
    return &session(service)->line[index]->call;
}

void model_process(struct service *service, size_t index) {
    struct model_call *call = session(service)->line[index];

    if (!call->reply)
        call->reply = process(session(service)->model, &call->call);
}

void model_deliver(struct service *service, size_t index) {
    struct model_call *call = session(service)->line[index];
    struct service_reply *reply = call->reply;

    call->reply = NULL;
    finish(session(service), index, reply ? reply : no_answer(SERVICE_IN_DOUBT, 0));
}

static void log_call(const struct model_session *self, size_t index, enum model_fate fate) {
    static const char *const fates[] = {"answered", "call lost", "reply lost", "reply garbled",
                                        "not sent", "refused",   "held"};
    const struct service_call *call = &self->line[index]->call;

    fprintf(stderr, "[%lld]   %s %lld %s \"%.*s\": %s\n", (long long)self->model->clock->now_ms,
            service_op_name(call->op), (long long)call->id,
            call->title  ? call->title
            : call->name ? call->name
                         : "",
            (int)call->text.size, call->text.data ? call->text.data : "", fates[fate]);
}

bool model_meet(struct service *service, size_t index, enum model_fate fate, enum service_error error) {
    struct model_session *self = session(service);

    if (getenv("TEST_LOG"))
        log_call(self, index, fate);
    switch (fate) {
    case MODEL_HOLD:
        return false;
    case MODEL_ANSWER:
        model_process(service, index);
        model_deliver(service, index);
        return true;
    case MODEL_LOSE_REPLY:
        model_process(service, index);
        finish(self, index, no_answer(SERVICE_IN_DOUBT, 502));
        return true;
    case MODEL_GARBLE:
        model_process(service, index);
        finish(self, index, no_answer(SERVICE_IN_DOUBT, 200));
        return true;
    case MODEL_LOSE_CALL:
        finish(self, index, no_answer(SERVICE_IN_DOUBT, 0));
        return true;
    case MODEL_UNSENT:
        finish(self, index, no_answer(SERVICE_UNSENT, 0));
        return true;
    case MODEL_REFUSE:
        finish(self, index, account_refusal(error, "refused by the test"));
        return true;
    }
    return false;
}

bool model_answer(struct service *service, size_t index) {
    struct model *model = session(service)->model;
    enum service_error error = SERVICE_ERROR_OTHER;
    enum model_fate fate = MODEL_ANSWER;

    if (model->offline)
        fate = MODEL_UNSENT;
    else if (model->decide)
        fate = model->decide(model_peek(service, index), &error, model->decide_arg);
    return model_meet(service, index, fate, error);
}

void model_cut(struct service *service, bool arrives) {
    struct model_session *self = session(service);

    for (size_t i = 0; i < self->count && arrives; i++)
        model_process(service, i);
}

size_t model_pump(struct service *service) {
    struct model_session *self = session(service);

    pthread_mutex_lock(&self->lock);
    size_t answered = 0, count = self->count, held = 0;
    for (size_t i = 0; i < count; i++)
        held += !model_answer(service, held);
    answered = count - held;
    pthread_mutex_unlock(&self->lock);
    return answered;
}
