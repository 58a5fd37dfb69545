/* network: one thread, which owns libcurl, all transfers and the token.
 *
 * A call waits in the schedule and is taken by the thread when its class's budget and a free slot allow.
 * From then on it is on `active` until it is answered (DONE is called, with no lock held) or put
 * back into the schedule:
 * - after a 429, which the caller never sees: same bytes, same key, same turn;
 * - after a 401, once the token file holds another token than the one refused.
 * The exception: a 429 that is a replay (API.md C4) would come again for 24 hours. It is reported,
 * as only the caller can make a new key.
 *
 * `lock` guards schedule, active and stopping. Nothing is taken after it; no transfer, no encoding, no
 * callback under it. Everything else is constant or belongs to the thread.
 *
 * The end: `stopping` is set, the thread abandons what is in flight, cancels what is queued,
 * calls every DONE, frees libcurl and ends; network_destroy() waits for it.
 *
 * Called by http.
 */
#include "api/network.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <syslog.h>
#include <time.h>

#include "api/codec.h"
#include "api/schedule.h"

enum {
    IDLE_POLL_MS = 60000,
    MIN_POLL_MS = 5,
    LOG_LINE_MAX = 512,
};

struct network {
    struct transfer_target target;
    struct token *token;
    service_log *log;
    void *log_arg;
    CURLM *multi;
    unsigned active_max;
    pthread_t thread;

    pthread_mutex_t lock;
    struct schedule *schedule;
    struct call **active; /* written by the thread only, which reads it without the lock */
    unsigned active_count;
    bool stopping;
};

__attribute__((format(printf, 3, 4))) static void say(struct network *network, int level, const char *format,
                                                      ...) {
    char text[LOG_LINE_MAX];
    va_list args;

    if (!network->log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    network->log(level, text, network->log_arg);
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

/* --- the thread: sending --- */

static void refresh_token(struct network *network, bool force) {
    const char *why;

    if (token_refresh(network->token, now_ms(), force, &why))
        say(network, LOG_NOTICE, "the token file has changed: using the new token");
    if (why)
        say(network, LOG_WARNING, "%s; the old token stays in use", why);
}

/* Takes CALL off `active`; AGAIN puts it back into the schedule in the same breath, so that raise()
 * finds it. */
static void detach(struct network *network, struct call *call, bool again) {
    if (call->transfer)
        curl_multi_remove_handle(network->multi, transfer_easy(call->transfer));
    transfer_destroy(call->transfer);
    call->transfer = NULL;
    pthread_mutex_lock(&network->lock);
    for (unsigned i = 0; i < network->active_count; i++) {
        if (network->active[i] == call) {
            network->active[i] = network->active[--network->active_count];
            break;
        }
    }
    if (again)
        schedule_put_back(network->schedule, call);
    pthread_mutex_unlock(&network->lock);
}

/* Books and reports a call without an answer. */
static void fail(struct network *network, struct call *call, enum transfer_end end, const char *why) {
    pthread_mutex_lock(&network->lock);
    if (end == TRANSFER_UNSENT)
        schedule_unsent(network->schedule, call);
    else
        schedule_answered(network->schedule, call, NULL, now_ms());
    pthread_mutex_unlock(&network->lock);
    codec_fail(call->reply, end == TRANSFER_UNSENT ? SERVICE_UNSENT : SERVICE_IN_DOUBT, why);
}

static void start(struct network *network, struct call *call) {
    size_t answer_max = codec_answer_max(call->op, &call->request);

    refresh_token(network, false);
    call->transfer = transfer_create(&network->target, &call->request, call->key, token_get(network->token),
                                     answer_max, call);
    if (call->transfer && curl_multi_add_handle(network->multi, transfer_easy(call->transfer)) == CURLM_OK)
        return;
    fail(network, call, TRANSFER_UNSENT, "out of memory");
    detach(network, call, false);
    call_deliver(call);
}

/* Sends all that may leave. How long to wait for more, or -1 at the end. */
static int64_t send_all(struct network *network) {
    for (;;) {
        int64_t wait_ms = IDLE_POLL_MS;
        struct call *call = NULL;
        bool stopping;

        pthread_mutex_lock(&network->lock);
        stopping = network->stopping;
        if (!stopping)
            call = schedule_take(network->schedule, network->active_count, now_ms(), &wait_ms);
        if (call)
            network->active[network->active_count++] = call;
        pthread_mutex_unlock(&network->lock);
        if (stopping)
            return -1;
        if (!call)
            return wait_ms < MIN_POLL_MS ? MIN_POLL_MS : wait_ms;
        start(network, call);
    }
}

/* --- the thread: answers --- */

/* Books what became of an answered call. */
static void settle(struct network *network, const struct call *call, bool throttled) {
    const struct header *header = transfer_header(call->transfer);
    struct budget_news news = {header->limit, header->remaining, header_reset_ms(header, time(NULL))};
    int64_t wait_ms = throttled ? header_wait_ms(header, time(NULL)) + jitter_ms() : 0;

    pthread_mutex_lock(&network->lock);
    if (throttled)
        schedule_refused(network->schedule, call, &news, wait_ms, now_ms());
    else
        /* The headers of a replay may be those of the first answer. */
        schedule_answered(network->schedule, call, header->replayed ? NULL : &news, now_ms());
    pthread_mutex_unlock(&network->lock);
    if (throttled)
        say(network, LOG_DEBUG, "%s: throttled, next try in %lld ms", service_op_name(call->op),
            (long long)wait_ms);
}

/* True when the call goes back into the schedule. */
static bool judge(struct network *network, struct call *call, const struct codec_answer *answer) {
    const struct header *header = transfer_header(call->transfer);
    const struct token_line *used = transfer_token(call->transfer);
    bool throttled;

    call->reply->date = header->date > 0 ? header->date : 0;
    call->reply->replayed = header->replayed;
    throttled = codec_decode(call->op, answer, call->reply);
    token_line_censor(used, call->reply->message);
    settle(network, call, throttled && !header->replayed);
    if (throttled)
        return !header->replayed;
    if (call->reply->outcome != SERVICE_REFUSED || call->reply->error != SERVICE_ERROR_UNAUTHENTICATED)
        return false;
    refresh_token(network, true);
    return !token_is_current(network->token, used);
}

/* False when not even a connection was made. */
static bool finish(struct network *network, struct call *call, CURLcode code) {
    struct codec_answer answer;
    enum transfer_end end = transfer_finish(call->transfer, code, &answer);
    bool again = false;

    if (end == TRANSFER_ANSWERED) {
        again = judge(network, call, &answer);
        if (again)
            call_forget_reply(call);
    } else {
        const char *why = transfer_why(call->transfer, code);

        say(network, LOG_DEBUG, "%s: %s: %s", service_op_name(call->op),
            end == TRANSFER_UNSENT ? "not sent" : "no answer", why);
        fail(network, call, end, why);
    }
    detach(network, call, again);
    if (!again)
        call_deliver(call);
    return end != TRANSFER_UNSENT;
}

/* Over TLS, libcurl lets transfers wait for the one that connects. When that fails it tries again with the
 * next of them, for the whole timeout each: 16 calls would take 80 s to find out that nobody is there. */
static void fail_waiting(struct network *network) {
    unsigned i = 0;

    while (i < network->active_count) {
        struct call *call = network->active[i];

        if (transfer_abandon(call->transfer) != TRANSFER_UNSENT) {
            i++;
            continue;
        }
        fail(network, call, TRANSFER_UNSENT, "the connection that it waited for failed");
        detach(network, call, false); /* another one takes its place */
        call_deliver(call);
    }
}

/* Finishes all that are done; true if there were any. */
static bool collect(struct network *network) {
    CURLMsg *message;
    int left;
    bool any = false;
    bool unsent = false;

    while ((message = curl_multi_info_read(network->multi, &left)) != NULL) {
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        unsent |= !finish(network, transfer_owner(easy), code);
        any = true;
    }
    if (unsent && network->target.origin.secure)
        fail_waiting(network);
    return any;
}

static struct call *drain(struct network *network) {
    struct call *call;

    pthread_mutex_lock(&network->lock);
    call = schedule_drain(network->schedule);
    pthread_mutex_unlock(&network->lock);
    return call;
}

static void end_all(struct network *network) {
    struct call *call;

    while (network->active_count > 0) {
        call = network->active[network->active_count - 1];
        fail(network, call, transfer_abandon(call->transfer), "abandoned at the end");
        detach(network, call, false);
        call_deliver(call);
    }
    while ((call = drain(network)) != NULL) {
        codec_fail(call->reply, SERVICE_UNSENT, "cancelled at the end");
        call_deliver(call);
    }
    curl_multi_cleanup(network->multi);
    network->multi = NULL;
}

static void *run(void *arg) {
    struct network *network = arg;
    int64_t wait_ms;
    int running;

    while ((wait_ms = send_all(network)) >= 0) {
        curl_multi_perform(network->multi, &running);
        if (!collect(network))
            curl_multi_poll(network->multi, NULL, 0, (int)wait_ms, NULL);
    }
    end_all(network);
    return NULL;
}

/* --- any thread --- */

void network_submit(struct network *network, struct call *call, uint64_t *out_ticket) {
    pthread_mutex_lock(&network->lock);
    schedule_add(network->schedule, call);
    if (out_ticket)
        *out_ticket = call->item.ticket;
    pthread_mutex_unlock(&network->lock);
    curl_multi_wakeup(network->multi);
}

void network_raise(struct network *network, uint64_t ticket, enum service_priority priority) {
    pthread_mutex_lock(&network->lock);
    schedule_raise(network->schedule, ticket, priority);
    /* One in flight may come back with a 429, and then waits with its new priority. */
    for (unsigned i = 0; i < network->active_count; i++) {
        struct queue_item *item = &network->active[i]->item;

        if (item->ticket == ticket && priority < item->priority)
            item->priority = priority;
    }
    pthread_mutex_unlock(&network->lock);
    curl_multi_wakeup(network->multi);
}

void network_budget(struct network *network, enum service_class class_id, struct service_budget *out) {
    pthread_mutex_lock(&network->lock);
    schedule_state(network->schedule, class_id, now_ms(), out);
    pthread_mutex_unlock(&network->lock);
}

/* The thread has ended, or never began. */
static void network_free(struct network *network) {
    if (network->multi)
        curl_multi_cleanup(network->multi);
    schedule_destroy(network->schedule);
    token_destroy(network->token);
    pthread_mutex_destroy(&network->lock);
    free(network->active);
    free(network);
}

void network_destroy(struct network *network) {
    if (!network)
        return;
    /* Woken under the lock: once the thread sees `stopping`, it frees the multi handle. */
    pthread_mutex_lock(&network->lock);
    network->stopping = true;
    curl_multi_wakeup(network->multi);
    pthread_mutex_unlock(&network->lock);
    pthread_join(network->thread, NULL);
    network_free(network);
}

static int set_up(struct network *network) {
    network->active = calloc(network->active_max, sizeof(struct call *));
    network->multi = curl_multi_init();
    network->schedule = schedule_create(network->active_max);
    if (!network->active || !network->multi || !network->schedule)
        return -ENOMEM;
    curl_multi_setopt(network->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(network->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)network->active_max);
    curl_multi_setopt(network->multi, CURLMOPT_MAXCONNECTS, (long)network->active_max);
    return 0;
}

/* Signals are for other threads; the SIGPIPE of a TLS library stays pending here and does nothing. */
static int start_thread(struct network *network) {
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&network->thread, NULL, run, network);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

int network_create(const struct network_config *config, struct network **out) {
    struct network *network = calloc(1, sizeof(*network));
    int error;

    if (!network)
        return -ENOMEM;
    network->target = config->target;
    network->log = config->log;
    network->log_arg = config->log_arg;
    network->active_max = config->max_parallel;
    pthread_mutex_init(&network->lock, NULL);
    error = set_up(network);
    network->token = config->token;
    if (!error)
        error = start_thread(network);
    if (error) {
        network->token = NULL; /* stays the caller's */
        network_free(network);
        return error;
    }
    *out = network;
    return 0;
}
