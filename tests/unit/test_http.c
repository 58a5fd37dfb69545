/* Tests of api/http, network, transfer, token and origin, against a small server in this program that
 * does as its script says: one step for each request, the last one for all that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/http.h"
#include "api/token.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nDate: Sat, 02 May 2026 12:34:56 GMT\r\n"
#define NOTE "{\"id\":7,\"filename\":\"a\",\"plain_body\":\"b\"}"
#define NOTE_REPLY OK_HEAD "Content-Length: 40\r\n\r\n" NOTE

enum { LOG_SIZE = 1 << 16, CONNECTIONS_MAX = 64 };

enum action { ANSWER, ANSWER_AND_CLOSE, CLOSE, RESET, HANG, DRIP, FLOOD };

struct step {
    enum action action;
    const char *text;
};

struct server {
    int listener;
    uint16_t port;
    pthread_t acceptor;
    pthread_t threads[CONNECTIONS_MAX];
    pthread_mutex_t lock; /* guards all below */
    int sockets[CONNECTIONS_MAX];
    unsigned connections;
    const struct step *steps;
    size_t step_count, at;
    char log[LOG_SIZE]; /* all requests, as they came */
    size_t log_size;
    bool stopping;
};

struct connection {
    struct server *server;
    int socket;
};

/* --- the server --- */

static void send_text(int to, const char *text) {
    size_t size = strlen(text);

    while (size > 0) {
        ssize_t sent = send(to, text, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        text += sent;
        size -= (size_t)sent;
    }
}

static void flood(int to) {
    char *block = malloc(1 << 20);

    assert_non_null(block);
    memset(block, 'x', 1 << 20);
    block[(1 << 20) - 1] = '\0';
    send_text(to, OK_HEAD "\r\n\"");
    for (int i = 0; i < 80; i++)
        send_text(to, block);
    free(block);
}

static void drip(int to) {
    for (int i = 0; i < 30; i++) {
        send_text(to, "x");
        usleep(100000);
    }
}

/* Reads one request into TEXT; false at the end of the connection. */
static bool read_request(int from, char *text, size_t max) {
    size_t size = 0;

    for (;;) {
        ssize_t got = recv(from, text + size, max - size - 1, 0);
        const char *end;
        const char *length;

        if (got <= 0)
            return false;
        size += (size_t)got;
        text[size] = '\0';
        end = strstr(text, "\r\n\r\n");
        length = strstr(text, "Content-Length: ");
        if (end && size >= (size_t)(end - text) + 4 + (length ? strtoul(length + 16, NULL, 10) : 0))
            return true;
    }
}

static struct step next_step(struct server *server, const char *request) {
    struct step step;

    pthread_mutex_lock(&server->lock);
    step = server->steps[server->at];
    if (server->at + 1 < server->step_count)
        server->at++;
    assert_true(server->log_size + strlen(request) < LOG_SIZE);
    strcpy(server->log + server->log_size, request);
    server->log_size += strlen(request);
    pthread_mutex_unlock(&server->lock);
    return step;
}

/* False when the connection is to be closed. */
static bool play(int socket_fd, struct step step) {
    struct linger reset = {1, 0};
    char byte;

    switch (step.action) {
    case ANSWER:
        send_text(socket_fd, step.text);
        return true;
    case ANSWER_AND_CLOSE:
        send_text(socket_fd, step.text);
        return false;
    case DRIP:
        send_text(socket_fd, step.text);
        drip(socket_fd);
        return false;
    case FLOOD:
        flood(socket_fd);
        return false;
    case RESET:
        setsockopt(socket_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        return false;
    case HANG:
        (void)!recv(socket_fd, &byte, 1, 0);
        return false;
    case CLOSE:
        break;
    }
    return false;
}

static void *serve(void *arg) {
    struct connection *connection = arg;
    char *text = malloc(LOG_SIZE);

    assert_non_null(text);
    while (read_request(connection->socket, text, LOG_SIZE)) {
        if (!play(connection->socket, next_step(connection->server, text)))
            break;
    }
    free(text);
    shutdown(connection->socket, SHUT_WR);
    pthread_mutex_lock(&connection->server->lock);
    for (unsigned i = 0; i < connection->server->connections; i++) {
        if (connection->server->sockets[i] == connection->socket)
            connection->server->sockets[i] = -1;
    }
    close(connection->socket);
    pthread_mutex_unlock(&connection->server->lock);
    free(connection);
    return NULL;
}

static void *accept_all(void *arg) {
    struct server *server = arg;

    for (;;) {
        struct connection *connection;
        int socket_fd = accept(server->listener, NULL, NULL);

        if (socket_fd < 0)
            return NULL;
        connection = malloc(sizeof(*connection));
        assert_non_null(connection);
        *connection = (struct connection){server, socket_fd};
        pthread_mutex_lock(&server->lock);
        assert_true(server->connections < CONNECTIONS_MAX);
        server->sockets[server->connections] = socket_fd;
        assert_int_equal(pthread_create(&server->threads[server->connections++], NULL, serve, connection), 0);
        pthread_mutex_unlock(&server->lock);
    }
}

static struct server *server_create(const struct step *steps, size_t count) {
    struct server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);

    assert_non_null(server);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->steps = steps;
    server->step_count = count;
    pthread_mutex_init(&server->lock, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(server->listener, 64), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->acceptor, NULL, accept_all, server), 0);
    return server;
}

static void server_destroy(struct server *server) {
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->acceptor, NULL);
    pthread_mutex_lock(&server->lock);
    for (unsigned i = 0; i < server->connections; i++) {
        if (server->sockets[i] >= 0)
            shutdown(server->sockets[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < server->connections; i++)
        pthread_join(server->threads[i], NULL);
    close(server->listener);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static unsigned count_in_log(struct server *server, const char *text) {
    unsigned count = 0;

    pthread_mutex_lock(&server->lock);
    for (const char *at = server->log; (at = strstr(at, text)) != NULL; at++)
        count++;
    pthread_mutex_unlock(&server->lock);
    return count;
}

/* --- the client --- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct service_reply *reply;
    unsigned done;
};

static void waiter_init(struct waiter *waiter) {
    *waiter = (struct waiter){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

static void on_done(struct service_reply *reply, void *arg) {
    struct waiter *waiter = arg;

    pthread_mutex_lock(&waiter->lock);
    service_reply_destroy(waiter->reply);
    waiter->reply = reply;
    waiter->done++;
    pthread_cond_signal(&waiter->changed);
    pthread_mutex_unlock(&waiter->lock);
}

static void waiter_wait(struct waiter *waiter, unsigned count) {
    pthread_mutex_lock(&waiter->lock);
    while (waiter->done < count)
        pthread_cond_wait(&waiter->changed, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
}

static struct service *client_create(const struct server *server, const char *token_file) {
    char url[80];
    struct http_config config = {.base_url = url, .token = "mn_secret", .token_file = token_file};
    struct service *service;

    config.connect_timeout_ms = 1000;
    config.stall_timeout_ms = 1000;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/api/v1/", server->port);
    assert_int_equal(http_service_create(&config, &service), 0);
    return service;
}

static struct service_reply *call(struct service *service, struct service_call what) {
    struct waiter waiter;

    waiter_init(&waiter);
    if (service_op_writes(what.op))
        what.key = "key-12345";
    assert_int_equal(service->ops->submit(service, &what, on_done, &waiter, NULL), 0);
    waiter_wait(&waiter, 1);
    return waiter.reply;
}

static struct service_reply *get(struct service *service) {
    return call(service, (struct service_call){.op = SERVICE_OP_GET, .id = 7});
}

static struct service_reply *append(struct service *service) {
    return call(service, (struct service_call){.op = SERVICE_OP_APPEND, .id = 7, .text = {"x\"", 2}});
}

static void check(struct service_reply *reply, enum service_outcome outcome, enum service_error error,
                  int status) {
    if (reply->outcome != outcome || reply->error != error || reply->status != status)
        print_error("outcome %d error %d status %d: %s\n", reply->outcome, reply->error, reply->status,
                    reply->message ? reply->message : "-");
    assert_int_equal(reply->outcome, outcome);
    assert_int_equal(reply->error, error);
    assert_int_equal(reply->status, status);
    if (reply->message)
        assert_null(strstr(reply->message, "mn_secret"));
    service_reply_destroy(reply);
}

static void check_doubt(struct service_reply *reply) {
    check(reply, SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE, 0);
}

static int64_t now_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

#define SERVER(steps) server_create(steps, sizeof(steps) / sizeof((steps)[0]))

/* --- tests --- */

static void requests_are_as_documented(void **state) {
    static const struct step steps[] = {{ANSWER, NOTE_REPLY},
                                        {ANSWER, OK_HEAD "Content-Length: 15\r\n\r\n{\"byte_size\":4}"}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct service_reply *reply = get(service);

    (void)state;
    assert_int_equal(reply->date, 1777725296);
    assert_string_equal(reply->notes[0].body, "b");
    check(reply, SERVICE_OK, SERVICE_ERROR_NONE, 200);
    check(append(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    assert_int_equal(count_in_log(server, "GET /api/v1/notes/7 HTTP/1.1\r\n"), 1);
    assert_int_equal(count_in_log(server, "POST /api/v1/notes/7/append HTTP/1.1\r\n"), 1);
    assert_int_equal(count_in_log(server, "\r\nAuthorization: Bearer mn_secret\r\n"), 2);
    assert_int_equal(count_in_log(server, "\r\nAccept: application/json\r\n"), 2);
    assert_int_equal(count_in_log(server, "\r\nUser-Agent: jotsfs/"), 2);
    assert_int_equal(count_in_log(server, "\r\nContent-Type: application/json\r\n"), 1);
    assert_int_equal(count_in_log(server, "\r\nIdempotency-Key: key-12345\r\n"), 1);
    assert_int_equal(count_in_log(server, "\r\n\r\n{\"text\":\"x\\\"\"}"), 1);
    assert_int_equal(server->connections, 1);
    service->ops->destroy(service);
    server_destroy(server);
}

static void broken_answers_are_doubt(void **state) {
    static const struct step breaks[] = {
        {CLOSE, NULL},
        {RESET, NULL},
        {HANG, NULL},
        {ANSWER_AND_CLOSE, "HTTP/1.1 2"},
        {ANSWER_AND_CLOSE, OK_HEAD "Content-Length: 41\r\n\r\n" NOTE},
        {ANSWER_AND_CLOSE, "garbage\r\n\r\n"},
        {ANSWER_AND_CLOSE, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n28\r\n" NOTE},
        {ANSWER_AND_CLOSE, OK_HEAD "Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n" NOTE},
        {FLOOD, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(breaks) / sizeof(breaks[0]); i++) {
        struct step steps[] = {{ANSWER, NOTE_REPLY}, breaks[i], {ANSWER, NOTE_REPLY}};
        struct server *server = server_create(steps + 1, 1);
        struct service *service = client_create(server, NULL);

        check_doubt(append(service));
        service->ops->destroy(service);
        assert_int_equal(count_in_log(server, "POST "), 1);
        server_destroy(server);
        /* On a kept connection libcurl may repeat the request by itself: with the same key. */
        server = SERVER(steps);
        service = client_create(server, NULL);
        check(get(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
        service_reply_destroy(append(service));
        assert_int_equal(count_in_log(server, "key-12345"), count_in_log(server, "POST "));
        service->ops->destroy(service);
        server_destroy(server);
    }
}

static void untrusted_answers_are_doubt(void **state) {
    static const struct {
        const char *text;
        int status;
    } answers[] = {
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n", 302},
        {"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", 307},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n<h1>", 404},
        {"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\n<html>", 500},
        {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", 200},
        {"HTTP/1.1 204 No Content\r\n\r\n", 204},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct step steps[] = {{ANSWER, answers[i].text}};
        struct server *server = SERVER(steps);
        struct service *service = client_create(server, NULL);

        check(append(service), SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE, answers[i].status);
        assert_int_equal(count_in_log(server, " /"), 1);
        service->ops->destroy(service);
        server_destroy(server);
    }
}

static void no_connection_is_unsent(void **state) {
    static const struct step steps[] = {{HANG, NULL}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct http_config config = {
        .base_url = "https://nowhere.invalid", .token = "t", .connect_timeout_ms = 2000};

    (void)state;
    server_destroy(server);
    check(append(service), SERVICE_UNSENT, SERVICE_ERROR_UNAVAILABLE, 0);
    service->ops->destroy(service);
    assert_int_equal(http_service_create(&config, &service), 0);
    check(append(service), SERVICE_UNSENT, SERVICE_ERROR_UNAVAILABLE, 0);
    service->ops->destroy(service);
}

/* A TLS handshake that never ends: no byte of the request has left. Those that wait for it share its
 * fate, and not one after the other. */
static void no_handshake_is_unsent(void **state) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    struct http_config config = {.token = "t", .connect_timeout_ms = 300};
    struct service_call what = {.op = SERVICE_OP_GET, .id = 7};
    struct service *service;
    struct waiter waiter;
    int64_t start_ms = now_ms();
    char url[64];

    (void)state;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 64), 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    snprintf(url, sizeof(url), "https://127.0.0.1:%d", ntohs(address.sin_port));
    config.base_url = url;
    assert_int_equal(http_service_create(&config, &service), 0);
    waiter_init(&waiter);
    for (int i = 0; i < 20; i++)
        assert_int_equal(service->ops->submit(service, &what, on_done, &waiter, NULL), 0);
    waiter_wait(&waiter, 20);
    assert_in_range(now_ms() - start_ms, 300, 2500);
    check(waiter.reply, SERVICE_UNSENT, SERVICE_ERROR_UNAVAILABLE, 0);
    service->ops->destroy(service);
    close(listener);
}

#define TOO_MANY "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
#define RECEIPT_REPLY OK_HEAD "Content-Length: 15\r\n\r\n{\"byte_size\":4}"

static void throttled_calls_come_back(void **state) {
    static const struct step steps[] = {{ANSWER, TOO_MANY "\r\n"}, {ANSWER, RECEIPT_REPLY}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    int64_t start_ms = now_ms();
    struct service_budget budget;

    (void)state;
    check(append(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    assert_in_range(now_ms() - start_ms, 1000, 3000);
    assert_int_equal(count_in_log(server, "Idempotency-Key: key-12345\r\n"), 2);
    assert_int_equal(count_in_log(server, "{\"text\":\"x\\\"\"}"), 2);
    service->ops->budget(service, SERVICE_APPEND, &budget);
    assert_int_equal(budget.queued, 0);
    service->ops->destroy(service);
    server_destroy(server);
}

static void a_class_waits_as_one(void **state) {
    static const struct step steps[] = {{ANSWER, TOO_MANY "\r\n"}, {ANSWER, NOTE_REPLY}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct service_call what = {.op = SERVICE_OP_GET, .id = 7};
    struct waiter waiter;
    struct service_budget budget;
    uint64_t ticket;

    (void)state;
    waiter_init(&waiter);
    assert_int_equal(service->ops->submit(service, &what, on_done, &waiter, NULL), 0);
    while (count_in_log(server, "GET ") == 0)
        usleep(1000);
    usleep(50000);
    what.priority = SERVICE_PREFETCH;
    for (int i = 0; i < 30; i++)
        assert_int_equal(service->ops->submit(service, &what, on_done, &waiter, &ticket), 0);
    service->ops->raise(service, ticket, SERVICE_FOREGROUND);
    service->ops->raise(service, 123456, SERVICE_FOREGROUND);
    usleep(100000);
    assert_int_equal(count_in_log(server, "GET "), 1);
    service->ops->budget(service, SERVICE_READ, &budget);
    assert_int_equal(budget.queued, 31);
    assert_in_range(budget.wait_ms, 100, 1500);
    service->ops->budget(service, SERVICE_WRITE, &budget);
    assert_int_equal(budget.wait_ms, 0);
    waiter_wait(&waiter, 31);
    assert_int_equal(count_in_log(server, "GET "), 32);
    service_reply_destroy(waiter.reply);
    service->ops->destroy(service);
    server_destroy(server);
}

static void replayed_429_is_reported(void **state) {
    static const struct step steps[] = {{ANSWER, TOO_MANY "Idempotent-Replay: true\r\n\r\n"}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct service_reply *reply = append(service);

    (void)state;
    assert_true(reply->replayed);
    check(reply, SERVICE_REFUSED, SERVICE_ERROR_RATE_LIMITED, 429);
    service->ops->destroy(service);
    server_destroy(server);
}

static void write_token(const char *path, const char *token) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, token, strlen(token)), strlen(token));
    close(fd);
}

#define UNAUTHENTICATED                                                                                      \
    "HTTP/1.1 401 No\r\nContent-Length: 69\r\n\r\n"                                                          \
    "{\"error\":{\"code\":\"unauthenticated\",\"message\":\"bad mn_secret token\"}}    "

static void a_new_token_is_taken_up(void **state) {
    static const struct step steps[] = {
        {ANSWER, NOTE_REPLY}, {ANSWER, UNAUTHENTICATED}, {ANSWER, UNAUTHENTICATED}, {ANSWER, NOTE_REPLY}};
    struct server *server = SERVER(steps);
    char path[] = "/tmp/test-http-token-XXXXXX";
    struct service *service;

    (void)state;
    close(mkstemp(path));
    write_token(path, "mn_secret\n");
    service = client_create(server, path);
    check(get(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    check(get(service), SERVICE_REFUSED, SERVICE_ERROR_UNAUTHENTICATED, 401);
    /* Replaced, and the old one is refused before anyone looked: the call goes again, unseen. */
    write_token(path, "mn_other\n");
    check(get(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    assert_int_equal(count_in_log(server, "Bearer mn_secret\r\n"), 3);
    assert_int_equal(count_in_log(server, "Bearer mn_other\r\n"), 1);
    /* A file that is not acceptable changes nothing; a good one is seen within a second or so. */
    chmod(path, 0644);
    usleep(1100000);
    check(get(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    assert_int_equal(count_in_log(server, "Bearer mn_other\r\n"), 2);
    chmod(path, 0600);
    write_token(path, "mn_third");
    usleep(1100000);
    check(get(service), SERVICE_OK, SERVICE_ERROR_NONE, 200);
    assert_int_equal(count_in_log(server, "Bearer mn_third\r\n"), 1);
    service->ops->destroy(service);
    server_destroy(server);
    unlink(path);
}

static void token_files_are_checked(void **state) {
    char path[] = "/tmp/test-http-token-XXXXXX";
    const char *why = NULL;
    char *token = NULL;

    (void)state;
    close(mkstemp(path));
    assert_int_equal(http_read_token(path, &token, &why), -EINVAL);
    write_token(path, "mn_a b\n");
    assert_int_equal(http_read_token(path, &token, &why), -EINVAL);
    write_token(path, " \r\n");
    assert_int_equal(http_read_token(path, &token, &why), -EINVAL);
    write_token(path, "mn_x \r\n\n");
    assert_int_equal(http_read_token(path, &token, &why), 0);
    assert_string_equal(token, "mn_x");
    token_wipe(token);
    chmod(path, 0640);
    assert_int_equal(http_read_token(path, &token, &why), -EACCES);
    assert_non_null(why);
    unlink(path);
    assert_int_equal(http_read_token(path, &token, &why), -ENOENT);
    assert_int_equal(http_read_token("/tmp", &token, &why), -EACCES);
}

static void urls_are_checked(void **state) {
    static const char *const good[] = {
        "https://freshjots.com/api/v1", "https://h:8443",    "http://localhost:1/x", "http://LOCALHOST/",
        "http://127.0.0.1:80",          "http://127.9.9.9/", "http://[::1]:1/api"};
    static const char *const bad[] = {"",
                                      "freshjots.com",
                                      "http://freshjots.com",
                                      "ftp://127.0.0.1/",
                                      "file:///etc/passwd",
                                      "https://u@h/",
                                      "https://u:p@h/",
                                      "https://h/?x",
                                      "https://h/?",
                                      "https://h/#f",
                                      "http://127.0.0.1@evil.com/",
                                      "http://127.0.0.1.evil.com/",
                                      "http://localhost.evil.com",
                                      "http://128.0.0.1",
                                      "https://",
                                      "https://h h/",
                                      "http://[::2]/",
                                      "https://h\r\nX: y/"};
    const char *why;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (http_check_url(good[i], &why))
            fail_msg("%s: %s", good[i], why);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why = NULL;
        if (http_check_url(bad[i], &why) != -EINVAL || !why)
            fail_msg("%s was taken", bad[i]);
    }
}

static void bad_calls_are_refused(void **state) {
    static const struct step steps[] = {{CLOSE, NULL}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct service_call what = {.op = SERVICE_OP_DELETE, .id = 7};
    struct service *none;

    (void)state;
    assert_int_equal(service->ops->submit(service, &what, on_done, NULL, NULL), -EINVAL);
    what.key = "short";
    assert_int_equal(service->ops->submit(service, &what, on_done, NULL, NULL), -EINVAL);
    what.key = "with\r\nX-Evil: header";
    assert_int_equal(service->ops->submit(service, &what, on_done, NULL, NULL), -EINVAL);
    service->ops->destroy(service);
    server_destroy(server);
    assert_int_equal(
        http_service_create(&(struct http_config){.base_url = "http://example.com", .token = "x"}, &none),
        -EINVAL);
    assert_int_equal(http_service_create(&(struct http_config){.base_url = "https://example.com"}, &none),
                     -EINVAL);
    assert_int_equal(
        http_service_create(&(struct http_config){.base_url = "https://example.com", .token = "a\nb"}, &none),
        -EINVAL);
    assert_int_equal(
        http_service_create(
            &(struct http_config){.base_url = "https://example.com", .token_file = "/nonexistent"}, &none),
        -ENOENT);
}

/* Slow is not stalled; stalled is found; an endless header is cut off. */
static void slow_and_stalled(void **state) {
    static const struct step slow[] = {{DRIP, OK_HEAD "\r\n"}};
    static const struct step stalled[] = {{HANG, NULL}};
    struct server *server = SERVER(slow);
    struct service *service = client_create(server, NULL);
    int64_t start_ms = now_ms();

    (void)state;
    check(get(service), SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE, 200);
    assert_in_range(now_ms() - start_ms, 2900, 6000);
    service->ops->destroy(service);
    server_destroy(server);
    server = SERVER(stalled);
    service = client_create(server, NULL);
    start_ms = now_ms();
    check_doubt(get(service));
    assert_in_range(now_ms() - start_ms, 900, 4000);
    service->ops->destroy(service);
    server_destroy(server);
}

static void headers_are_bounded(void **state) {
    struct step step = {ANSWER, NULL};
    size_t size = 200000;
    char *text = malloc(size);
    size_t at = (size_t)sprintf(text, "%s", OK_HEAD);
    struct server *server;
    struct service *service;

    (void)state;
    while (at < size - 200)
        at += (size_t)sprintf(text + at, "X-Filler: %0100d\r\n", 1);
    strcpy(text + at, "Content-Length: 40\r\n\r\n" NOTE);
    step.text = text;
    server = server_create(&step, 1);
    service = client_create(server, NULL);
    check_doubt(get(service));
    service->ops->destroy(service);
    server_destroy(server);
    free(text);
}

static void the_end_is_quick(void **state) {
    static const struct step steps[] = {{HANG, NULL}};
    struct server *server = SERVER(steps);
    struct service *service = client_create(server, NULL);
    struct service_call what = {.op = SERVICE_OP_GET, .id = 7};
    struct waiter waiter;
    int64_t start_ms;

    (void)state;
    waiter_init(&waiter);
    for (int i = 0; i < 200; i++)
        assert_int_equal(service->ops->submit(service, &what, on_done, &waiter, NULL), 0);
    while (count_in_log(server, "GET ") < 16)
        usleep(1000);
    start_ms = now_ms();
    service->ops->destroy(service);
    assert_in_range(now_ms() - start_ms, 0, 500);
    assert_int_equal(waiter.done, 200);
    service_reply_destroy(waiter.reply);
    server_destroy(server);
}

/* Many threads at once, for the thread sanitizer. */
struct crowd {
    struct service *service;
    struct waiter waiter;
};

static void *submit_many(void *arg) {
    struct crowd *crowd = arg;
    struct service_call what = {.op = SERVICE_OP_GET, .id = 7, .priority = SERVICE_READ_AHEAD};
    struct service_budget budget;
    uint64_t ticket;

    for (int i = 0; i < 50; i++) {
        what.op = i % 5 ? SERVICE_OP_GET : SERVICE_OP_APPEND;
        what.text = (struct service_text){"t", 1};
        what.key = "some-key";
        if (crowd->service->ops->submit(crowd->service, &what, on_done, &crowd->waiter, &ticket) != 0)
            return NULL;
        crowd->service->ops->raise(crowd->service, ticket, SERVICE_FOREGROUND);
        crowd->service->ops->budget(crowd->service, SERVICE_READ, &budget);
    }
    return NULL;
}

static void many_threads(void **state) {
    static const struct step steps[] = {{ANSWER, NOTE_REPLY}};
    struct server *server = SERVER(steps);
    struct crowd crowd = {.service = client_create(server, NULL)};
    pthread_t threads[4];

    (void)state;
    waiter_init(&crowd.waiter);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &crowd), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    waiter_wait(&crowd.waiter, 200);
    check(crowd.waiter.reply, SERVICE_OK, SERVICE_ERROR_NONE, 200);
    crowd.service->ops->destroy(crowd.service);
    assert_true(server->connections <= 16);
    server_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_as_documented),
        cmocka_unit_test(broken_answers_are_doubt),
        cmocka_unit_test(untrusted_answers_are_doubt),
        cmocka_unit_test(no_connection_is_unsent),
        cmocka_unit_test(no_handshake_is_unsent),
        cmocka_unit_test(throttled_calls_come_back),
        cmocka_unit_test(a_class_waits_as_one),
        cmocka_unit_test(replayed_429_is_reported),
        cmocka_unit_test(a_new_token_is_taken_up),
        cmocka_unit_test(token_files_are_checked),
        cmocka_unit_test(urls_are_checked),
        cmocka_unit_test(bad_calls_are_refused),
        cmocka_unit_test(slow_and_stalled),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(the_end_is_quick),
        cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
