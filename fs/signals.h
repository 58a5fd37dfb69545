/* signals: what ends the daemon, taken by the main thread only. */
#ifndef JOTSFS_FS_SIGNALS_H
#define JOTSFS_FS_SIGNALS_H

#include <pthread.h>
#include <stdbool.h>

/* SIGPIPE is ignored from now on, and a poke (below) interrupts system calls and does nothing else. */
void signals_init(void);
/* Threads that are created while they are blocked never see SIGTERM, SIGINT, SIGHUP. */
void signals_block(void);
/* The default again for the calling thread: such a signal ends the process. */
void signals_unblock(void);

/* Blocks until a signal to stop comes (true) or signals_ended was called (false). They must be blocked. */
bool signals_wait(void);
/* True if a signal to stop has come since. Takes it. */
bool signals_stop_again(void);
/* Ends signals_wait of thread MAIN. */
void signals_ended(pthread_t main);
/* Interrupts a blocking system call of THREAD. */
void signals_poke(pthread_t thread);

#endif
