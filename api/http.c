/* http: the service over HTTP: one network thread, which owns libcurl, all transfers and the token.
 *
 * A call is encoded on the thread that submits it, waits in the queue, and is
 * taken by the network thread when its class's budget and a free slot allow. From then on
 * it is on `active` and only that thread knows it, until it is answered (DONE is called,
 * with no lock held) or put back into the queue:
 * - after a 429, which the caller never sees: same bytes, same key, same turn;
 * - after a 401, once the token file holds another token than the one refused.
 * The exception: a 429 that is a replay (API.md C4) would come again for 24 hours. It is reported,
 * as only the caller can make a new key.
 *
 * `lock` guards queue, budgets, seen and stopping. Nothing is taken after it; no network, no encoding, no
 * callback under it. Everything else is constant or belongs to the network thread.
 *
 * Foreground calls may use all slots; read-ahead leaves an eighth of them free, prefetch half.
 *
 * The end: `stopping` is set, the thread abandons what is in flight, cancels what is queued,
 * calls every DONE, frees libcurl and ends; destroy() waits for it.
 */
#include "api/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>
#include <time.h>

#include "api/budget.h"
#include "api/codec.h"
#include "api/origin.h"
#include "api/queue.h"
#include "api/token.h"
#include "api/transfer.h"

enum {
    DEFAULT_CONNECT_MS = 5000,
    DEFAULT_STALL_MS = 30000,
    DEFAULT_PARALLEL = 16,
    MAX_PARALLEL = 256,
    KEY_MIN = 8,
    IDLE_POLL_MS = 60000,
    MIN_POLL_MS = 5,
    LINE_MAX_SIZE = 512,
};

struct call {
    struct queue_item item; /* first */
    enum service_op op;
    struct request request;
    char *key; /* or NULL */
    service_done *done;
    void *arg;
    struct service_reply *reply; /* made at submit, so that DONE can always be called */
    uint64_t booking;
    struct transfer *transfer; /* while in flight */
};

struct http {
    struct service service; /* first */
    service_log *log;
    void *log_arg;
    char *base_url;
    struct transfer_target target;
    struct token *token;
    CURLM *multi;
    struct call **active;
    unsigned active_count, active_max;
    pthread_t thread;

    pthread_mutex_t lock;
    struct queue queue;
    struct budget *budgets[SERVICE_CLASSES];
    bool stopping;
};

__attribute__((format(printf, 3, 4))) static void say(struct http *http, int level, const char *format, ...) {
    char text[LINE_MAX_SIZE];
    va_list args;

    if (!http->log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    http->log(level, text, http->log_arg);
}

/* Counts on while the machine sleeps, as the server's windows do. */
static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Spreads clients that were all told the same moment. */
static int64_t jitter_ms(void) {
    unsigned char byte = 0;

    (void)!getrandom(&byte, 1, GRND_NONBLOCK);
    return 100 + byte;
}

static void call_destroy(struct call *call) {
    if (!call)
        return;
    transfer_destroy(call->transfer);
    service_reply_destroy(call->reply);
    request_release(&call->request);
    free(call->key);
    free(call);
}

/* --- network thread: sending --- */

static void deliver(struct call *call) {
    struct service_reply *reply = call->reply;

    call->reply = NULL;
    call->done(reply, call->arg);
    call_destroy(call);
}

static void cancel(struct call *call, const char *why) {
    codec_fail(call->reply, SERVICE_UNSENT, why);
    deliver(call);
}

static unsigned slots_for(const struct http *http, enum service_priority priority) {
    switch (priority) {
    case SERVICE_FOREGROUND:
        return http->active_max;
    case SERVICE_READ_AHEAD:
        return http->active_max - http->active_max / 8;
    case SERVICE_PREFETCH:
        break;
    }
    return http->active_max - http->active_max / 2;
}

/* The next call that may leave, or NULL; then *OUT_WAIT_MS (if any waits for budget) is when to look again. */
static struct call *take_locked(struct http *http, int64_t now, int64_t *out_wait_ms) {
    for (int p = 0; p < QUEUE_PRIORITIES; p++) {
        enum service_priority priority = (enum service_priority)p;

        for (int i = 0; i < SERVICE_CLASSES && http->active_count < slots_for(http, priority); i++) {
            struct queue_item *item = queue_first(&http->queue, (enum service_class)i, priority);
            int64_t wait_ms;

            if (!item)
                continue;
            if (budget_take(http->budgets[i], priority, now, &((struct call *)item)->booking)) {
                queue_remove(&http->queue, item);
                return (struct call *)item;
            }
            wait_ms = budget_wait(http->budgets[i], priority, 0, now);
            if (wait_ms < *out_wait_ms)
                *out_wait_ms = wait_ms;
        }
    }
    return NULL;
}

static void refresh_token(struct http *http, bool force) {
    const char *why;

    if (token_refresh(http->token, now_ms(), force, &why))
        say(http, LOG_NOTICE, "the token file has changed: using the new token");
    if (why)
        say(http, LOG_WARNING, "%s; the old token stays in use", why);
}

static void start(struct http *http, struct call *call) {
    refresh_token(http, false);
    call->transfer = transfer_create(&http->target, &call->request, call->key, token_get(http->token),
                                     codec_answer_max(call->op, &call->request), call);
    if (call->transfer && curl_multi_add_handle(http->multi, transfer_easy(call->transfer)) == CURLM_OK) {
        http->active[http->active_count++] = call;
        return;
    }
    pthread_mutex_lock(&http->lock);
    budget_unsent(http->budgets[call->item.class_id], call->booking);
    pthread_mutex_unlock(&http->lock);
    cancel(call, "out of memory");
}

/* Sends all that may leave. How long to wait for more, or -1 at the end. */
static int64_t send_all(struct http *http) {
    for (;;) {
        int64_t wait_ms = IDLE_POLL_MS;
        struct call *call = NULL;
        bool stopping;

        pthread_mutex_lock(&http->lock);
        stopping = http->stopping;
        if (!stopping)
            call = take_locked(http, now_ms(), &wait_ms);
        pthread_mutex_unlock(&http->lock);
        if (stopping)
            return -1;
        if (!call)
            return wait_ms < MIN_POLL_MS ? MIN_POLL_MS : wait_ms;
        start(http, call);
    }
}

/* --- network thread: answers --- */

/* Ends CALL's transfer and takes it off the active ones. */
static void detach(struct http *http, struct call *call) {
    curl_multi_remove_handle(http->multi, transfer_easy(call->transfer));
    transfer_destroy(call->transfer);
    call->transfer = NULL;
    for (unsigned i = 0; i < http->active_count; i++) {
        if (http->active[i] == call) {
            http->active[i] = http->active[--http->active_count];
            break;
        }
    }
}

static void put_back(struct http *http, struct call *call) {
    free(call->reply->message);
    *call->reply = (struct service_reply){0};
    pthread_mutex_lock(&http->lock);
    queue_put_back(&http->queue, &call->item);
    pthread_mutex_unlock(&http->lock);
}

/* The class of some operations is a guess (API.md C20): what they tell counts only when it fits. */
static bool fits(const struct budget *budget, enum service_op op, int64_t limit) {
    struct service_budget state;

    if (op != SERVICE_OP_MOVE && op != SERVICE_OP_FOLDER_CREATE && op != SERVICE_OP_FOLDER_RENAME &&
        op != SERVICE_OP_FOLDER_DELETE)
        return true;
    budget_state(budget, 0, now_ms(), &state);
    return limit == state.limit;
}

/* Books what became of an answered call. */
static void settle(struct http *http, const struct call *call, bool throttled) {
    const struct header *header = transfer_header(call->transfer);
    struct budget *budget = http->budgets[call->item.class_id];
    struct budget_news news = {header->limit, header->remaining, header_reset_ms(header, time(NULL))};
    int64_t wait_ms = throttled ? header_wait_ms(header, time(NULL)) + jitter_ms() : 0;

    pthread_mutex_lock(&http->lock);
    if (!fits(budget, call->op, news.limit))
        news = (struct budget_news){-1, -1, -1};
    if (throttled)
        budget_refused(budget, call->booking, &news, wait_ms, now_ms());
    else
        budget_answered(budget, call->booking, &news, now_ms());
    pthread_mutex_unlock(&http->lock);
    if (throttled)
        say(http, LOG_DEBUG, "%s: throttled, next try in %lld ms", service_op_name(call->op),
            (long long)wait_ms);
}

/* True when the call goes back into the queue. */
static bool judge(struct http *http, struct call *call, const struct codec_answer *answer) {
    const struct header *header = transfer_header(call->transfer);
    const struct token_line *used = transfer_token(call->transfer);
    bool throttled;

    call->reply->date = header->date > 0 ? header->date : 0;
    call->reply->replayed = header->replayed;
    throttled = codec_decode(call->op, answer, call->reply);
    token_line_censor(used, call->reply->message);
    settle(http, call, throttled && !header->replayed);
    if (throttled)
        return !header->replayed;
    if (call->reply->outcome != SERVICE_REFUSED || call->reply->error != SERVICE_ERROR_UNAUTHENTICATED)
        return false;
    refresh_token(http, true);
    return !token_is_current(http->token, used);
}

/* Books and reports a call without an answer. */
static void fail(struct http *http, struct call *call, enum transfer_end end, const char *why) {
    struct budget *budget = http->budgets[call->item.class_id];

    pthread_mutex_lock(&http->lock);
    if (end == TRANSFER_UNSENT)
        budget_unsent(budget, call->booking);
    else
        budget_answered(budget, call->booking, NULL, now_ms());
    pthread_mutex_unlock(&http->lock);
    codec_fail(call->reply, end == TRANSFER_UNSENT ? SERVICE_UNSENT : SERVICE_IN_DOUBT, why);
}

static void finish(struct http *http, struct call *call, CURLcode code) {
    struct codec_answer answer;
    enum transfer_end end = transfer_finish(call->transfer, code, &answer);
    bool again = false;

    if (end == TRANSFER_ANSWERED) {
        again = judge(http, call, &answer);
    } else {
        const char *why = transfer_why(call->transfer, code);

        say(http, LOG_DEBUG, "%s: %s: %s", service_op_name(call->op),
            end == TRANSFER_UNSENT ? "not sent" : "no answer", why);
        fail(http, call, end, why);
    }
    detach(http, call);
    if (again)
        put_back(http, call);
    else
        deliver(call);
}

/* Finishes all that are done; true if there were any. */
static bool collect(struct http *http) {
    CURLMsg *message;
    int left;
    bool any = false;

    while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        finish(http, transfer_owner(easy), code);
        any = true;
    }
    return any;
}

static struct call *take_any(struct http *http) {
    struct queue_item *item = NULL;

    pthread_mutex_lock(&http->lock);
    for (int i = 0; i < SERVICE_CLASSES && !item; i++) {
        for (int p = 0; p < QUEUE_PRIORITIES && !item; p++)
            item = queue_first(&http->queue, (enum service_class)i, (enum service_priority)p);
    }
    if (item)
        queue_remove(&http->queue, item);
    pthread_mutex_unlock(&http->lock);
    return (struct call *)item;
}

static void end_all(struct http *http) {
    struct call *call;

    while (http->active_count > 0) {
        call = http->active[http->active_count - 1];
        fail(http, call, transfer_abandon(call->transfer), "abandoned at the end");
        detach(http, call);
        deliver(call);
    }
    while ((call = take_any(http)) != NULL)
        cancel(call, "cancelled at the end");
    curl_multi_cleanup(http->multi);
    http->multi = NULL;
}

static void *run(void *arg) {
    struct http *http = arg;
    int64_t wait_ms;
    int running;

    while ((wait_ms = send_all(http)) >= 0) {
        curl_multi_perform(http->multi, &running);
        if (!collect(http))
            curl_multi_poll(http->multi, NULL, 0, (int)wait_ms, NULL);
    }
    end_all(http);
    return NULL;
}

/* --- the ops table: any thread --- */

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

static bool is_call(const struct service_call *call) {
    if ((unsigned)call->op > SERVICE_OP_PROBE_WRITE || (unsigned)call->priority > SERVICE_PREFETCH)
        return false;
    return call->key ? is_key(call->key) : !service_op_writes(call->op);
}

static int op_submit(struct service *service, const struct service_call *call, service_done *done, void *arg,
                     uint64_t *out_ticket) {
    struct http *http = (struct http *)service;
    struct call *made;
    int error;

    if (!is_call(call) || !done)
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
    if (error) {
        call_destroy(made);
        return error;
    }
    pthread_mutex_lock(&http->lock);
    queue_add(&http->queue, &made->item);
    if (out_ticket)
        *out_ticket = made->item.ticket;
    pthread_mutex_unlock(&http->lock);
    curl_multi_wakeup(http->multi);
    return 0;
}

static void op_raise(struct service *service, uint64_t ticket, enum service_priority priority) {
    struct http *http = (struct http *)service;

    if ((unsigned)priority > SERVICE_PREFETCH)
        return;
    pthread_mutex_lock(&http->lock);
    queue_raise(&http->queue, ticket, priority);
    pthread_mutex_unlock(&http->lock);
    curl_multi_wakeup(http->multi);
}

static void op_budget(struct service *service, enum service_class class_id, struct service_budget *out) {
    struct http *http = (struct http *)service;

    pthread_mutex_lock(&http->lock);
    budget_state(http->budgets[class_id], queue_count(&http->queue, class_id, SERVICE_FOREGROUND), now_ms(),
                 out);
    out->queued = queue_count(&http->queue, class_id, SERVICE_PREFETCH);
    pthread_mutex_unlock(&http->lock);
}

/* Frees what create() made; the thread has ended or never began. */
static void http_free(struct http *http) {
    if (http->multi)
        curl_multi_cleanup(http->multi);
    for (int i = 0; i < SERVICE_CLASSES; i++)
        budget_destroy(http->budgets[i]);
    token_destroy(http->token);
    pthread_mutex_destroy(&http->lock);
    free(http->active);
    free(http->base_url);
    free(http);
    curl_global_cleanup();
}

static void op_destroy(struct service *service) {
    struct http *http = (struct http *)service;

    /* Woken under the lock: once the thread sees `stopping`, it frees the multi handle. */
    pthread_mutex_lock(&http->lock);
    http->stopping = true;
    curl_multi_wakeup(http->multi);
    pthread_mutex_unlock(&http->lock);
    pthread_join(http->thread, NULL);
    http_free(http);
}

/* --- creation --- */

static int set_target(struct http *http, const struct http_config *config) {
    unsigned connect_ms = config->connect_timeout_ms ? config->connect_timeout_ms : DEFAULT_CONNECT_MS;
    unsigned stall_ms = config->stall_timeout_ms ? config->stall_timeout_ms : DEFAULT_STALL_MS;
    const char *why;
    size_t size;

    if (!config->base_url || origin_check(config->base_url, &http->target.loopback, &why))
        return -EINVAL;
    http->base_url = strdup(config->base_url);
    if (!http->base_url)
        return -ENOMEM;
    for (size = strlen(http->base_url); size > 0 && http->base_url[size - 1] == '/'; size--)
        http->base_url[size - 1] = '\0';
    http->target.base_url = http->base_url;
    http->target.connect_timeout_ms = (long)connect_ms;
    http->target.stall_timeout_s = (long)(stall_ms + 999) / 1000;
    return 0;
}

static int set_up(struct http *http, const struct http_config *config) {
    unsigned parallel = config->max_parallel ? config->max_parallel : DEFAULT_PARALLEL;
    int error = set_target(http, config);

    if (!error)
        error = token_create(config->token, config->token_file, &http->token);
    if (error)
        return error;
    http->log = config->log;
    http->log_arg = config->log_arg;
    http->active_max = parallel > MAX_PARALLEL ? MAX_PARALLEL : parallel;
    http->active = calloc(http->active_max, sizeof(*http->active));
    http->multi = curl_multi_init();
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        http->budgets[i] = budget_create((enum service_class)i);
        if (!http->budgets[i])
            return -ENOMEM;
    }
    if (!http->active || !http->multi)
        return -ENOMEM;
    queue_init(&http->queue);
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)http->active_max);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)http->active_max);
    return 0;
}

/* Signals are for other threads; libcurl's SIGPIPE too. */
static int start_thread(struct http *http) {
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&http->thread, NULL, run, http);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? -error : 0;
}

int http_service_create(const struct http_config *config, struct service **out) {
    static const struct service_ops ops = {op_submit, op_raise, op_budget, op_destroy};
    struct http *http;
    int error;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    http = calloc(1, sizeof(*http));
    if (!http) {
        curl_global_cleanup();
        return -ENOMEM;
    }
    http->service.ops = &ops;
    pthread_mutex_init(&http->lock, NULL);
    error = set_up(http, config);
    if (!error)
        error = start_thread(http);
    if (error) {
        http_free(http);
        return error;
    }
    *out = &http->service;
    return 0;
}

int http_check_url(const char *url, const char **out_why) {
    bool loopback;

    return origin_check(url, &loopback, out_why);
}

int http_read_token(const char *path, char **out, const char **out_why) {
    return token_read(path, out, out_why);
}
