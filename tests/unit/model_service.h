/* model_service: the ops table of api/service.h in memory, over a model_account: no threads, no time of its own.
 *
 * A call that was submitted lies in the line until the test says what becomes of it, in two steps that may be far
 * apart: model_process does it at the service (exactly once per idempotency key), model_deliver brings
 * the answer home. So a test can lose a request, lose its answer, or let either be late.
 *
 * The account outlives its services: a new one on the same account is the next run of the program, the old one
 * may still have calls on the wire (model_cut).
 */
#ifndef JOTSFS_TESTS_MODEL_SERVICE_H
#define JOTSFS_TESTS_MODEL_SERVICE_H

#include "model_account.h"

enum { MODEL_OPS = SERVICE_OP_PROBE_WRITE + 1 };

/* What becomes of a call. */
enum model_fate {
    MODEL_ANSWER,     /* done, answered */
    MODEL_LOSE_CALL,  /* never arrives: in doubt for the caller */
    MODEL_LOSE_REPLY, /* done, in doubt for the caller */
    MODEL_GARBLE,     /* done, the answer can't be understood: 200 without what is there now */
    MODEL_UNSENT,     /* no connection */
    MODEL_REFUSE,     /* refused with `error`, not done */
    MODEL_HOLD,       /* stays in the line until asked again */
};

struct model_key;
struct model_call;

/* The account together with what the service remembers about requests. */
struct model {
    struct account account;
    struct fake_clock *clock;
    struct model_key *keys;
    bool stores_errors;            /* C4: refusals are replayed, too */
    unsigned processed[MODEL_OPS]; /* calls that arrived, replays not counted */
    unsigned replayed;
    unsigned submitted[MODEL_OPS];
    /* Asked for every call that is about to be processed; NULL: MODEL_ANSWER. */
    enum model_fate (*decide)(const struct service_call *call, enum service_error *out_error, void *arg);
    void *decide_arg;
    bool offline;                       /* no call leaves */
    bool out_of_appends, out_of_writes; /* budget: the class has none left for now */
};

void model_init(struct model *model, struct fake_clock *clock);
void model_release(struct model *model);
unsigned model_writes(const struct model *model); /* processed calls that change something */

/* A service for one cache, which destroys it. */
struct service *model_service(struct model *model);
/* Calls in the line. */
size_t model_waiting(const struct service *service);
const struct service_call *model_peek(const struct service *service, size_t index);
/* The call at INDEX meets its fate; false if it is held. */
bool model_answer(struct service *service, size_t index);
bool model_meet(struct service *service, size_t index, enum model_fate fate, enum service_error error);
/* Answers all that is in the line now; the only one of these functions for a thread of its own, beside the cache's. Gives how
 * many. */
size_t model_pump(struct service *service);
/* Halves of it: the call is done at the service; its answer arrives. */
void model_process(struct service *service, size_t index);
void model_deliver(struct service *service, size_t index);
/* The program is killed: what is in the line arrives at the service (ARRIVES) or not; nobody hears the answer. */
void model_cut(struct service *service, bool arrives);

#endif
