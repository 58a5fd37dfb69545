/* http: the service over HTTP: the ops table on top of a network thread.
 *
 * Checks the configuration, above all where the token may go, and starts the network. A call is
 * made ready (encoded, copied) on the thread that submits it and handed over to network, which owns it
 * from then on.
 *
 * Created by main; called by cache through the ops table, from any thread.
 */
#include "api/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/network.h"
#include "api/origin.h"
#include "api/token.h"

enum {
    DEFAULT_CONNECT_MS = 5000,
    DEFAULT_STALL_MS = 30000,
    DEFAULT_PARALLEL = 16,
    MAX_PARALLEL = 256,
};

struct http {
    struct service service; /* first */
    char *base_url;
    struct network *network;
};

static struct http *http_of(struct service *service) {
    return (struct http *)service;
}

static int op_submit(struct service *service, const struct service_call *call, service_done *done, void *arg,
                     uint64_t *out_ticket) {
    struct call *made;
    int error = call_create(call, done, arg, &made);

    if (!error)
        network_submit(http_of(service)->network, made, out_ticket);
    return error;
}

static void op_raise(struct service *service, uint64_t ticket, enum service_priority priority) {
    if ((unsigned)priority <= SERVICE_PREFETCH)
        network_raise(http_of(service)->network, ticket, priority);
}

static void op_budget(struct service *service, enum service_class class_id, struct service_budget *out) {
    network_budget(http_of(service)->network, class_id, out);
}

static void op_destroy(struct service *service) {
    struct http *http = http_of(service);

    network_destroy(http->network);
    free(http->base_url);
    free(http);
    curl_global_cleanup();
}

static int copy_base_url(const char *url, char **out) {
    char *copy = strdup(url);

    if (!copy)
        return -ENOMEM;
    for (size_t size = strlen(copy); size > 0 && copy[size - 1] == '/'; size--)
        copy[size - 1] = '\0';
    *out = copy;
    return 0;
}

static int start(struct http *http, const struct http_config *config) {
    unsigned parallel = config->max_parallel ? config->max_parallel : DEFAULT_PARALLEL;
    unsigned stall_ms = config->stall_timeout_ms ? config->stall_timeout_ms : DEFAULT_STALL_MS;
    unsigned connect_ms = config->connect_timeout_ms ? config->connect_timeout_ms : DEFAULT_CONNECT_MS;
    struct network_config network = {
        .target = {.connect_timeout_ms = (long)connect_ms,
                   .stall_timeout_s = (long)stall_ms / 1000 + (stall_ms % 1000 > 0)},
        .max_parallel = parallel > MAX_PARALLEL ? MAX_PARALLEL : parallel,
        .log = config->log,
        .log_arg = config->log_arg,
    };
    const char *why;
    int error;

    if (!config->base_url || origin_check(config->base_url, &network.target.origin, &why))
        return -EINVAL;
    error = copy_base_url(config->base_url, &http->base_url);
    if (!error)
        error = token_create(config->token, config->token_file, &network.token);
    if (error)
        return error;
    network.target.base_url = http->base_url;
    error = network_create(&network, &http->network);
    if (error)
        token_destroy(network.token);
    return error;
}

int http_service_create(const struct http_config *config, struct service **out) {
    static const struct service_ops ops = {op_submit, op_raise, op_budget, op_destroy};
    struct http *http;
    int error;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    http = calloc(1, sizeof(*http));
    error = http ? start(http, config) : -ENOMEM;
    if (error) {
        if (http)
            free(http->base_url);
        free(http);
        curl_global_cleanup();
        return error;
    }
    http->service.ops = &ops;
    *out = &http->service;
    return 0;
}

int http_check_url(const char *url, const char **out_why) {
    struct origin origin;

    return origin_check(url, &origin, out_why);
}

int http_read_token(const char *path, char **out, const char **out_why) {
    return token_read(path, out, out_why);
}
