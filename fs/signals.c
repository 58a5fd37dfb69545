/* Signals. SIGTERM, SIGINT and SIGHUP mean: end the mount. They are blocked in every thread and taken by the main thread with
 * sigwaitinfo, so nothing runs in signal context and no system call of another thread is cut short.
 *
 * Two signals are used between our own threads: SIGUSR1 tells the main thread that the session loop has ended by itself (blocked, taken by
 * sigwaitinfo), SIGUSR2 interrupts the loop, which sits in sem_wait (not SA_RESTART).
 *
 * Called by main.c and session.c.
 */
#include "fs/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static void nothing(int number) {
    (void)number;
}

static void stop_set(sigset_t *out) {
    sigemptyset(out);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGINT);
    sigaddset(out, SIGHUP);
}

void signals_init(void) {
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction interrupt = {.sa_handler = nothing};

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGUSR2, &interrupt, NULL);
}

void signals_block(void) {
    sigset_t set;

    stop_set(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void signals_unblock(void) {
    sigset_t set;

    stop_set(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool signals_wait(void) {
    sigset_t set;
    int number;

    stop_set(&set);
    sigaddset(&set, SIGUSR1);
    do
        number = sigwaitinfo(&set, NULL);
    while (number < 0 && errno == EINTR);
    return number != SIGUSR1;
}

bool signals_stop_again(void) {
    struct timespec none = {0};
    sigset_t set;

    stop_set(&set);
    return sigtimedwait(&set, NULL, &none) > 0;
}

void signals_ended(pthread_t main) {
    pthread_kill(main, SIGUSR1);
}

void signals_poke(pthread_t thread) {
    pthread_kill(thread, SIGUSR2);
}
