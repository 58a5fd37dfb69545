/* kill_point: stops the film just before the n-th change that the program makes to any file.
 *
 * pwrite, pwritev, unlinkat, creating openat and copy_file_range of the whole program, libraries included, go through
 * here (ftruncate through watch): what a kill -9 at that instant would leave is what the files hold now.
 */
#ifndef JOTSFS_TESTS_KILL_POINT_H
#define JOTSFS_TESTS_KILL_POINT_H

/* Calls KILLED once, before the AT-th change from now on (1 is the next). It may read files, and write by write(2) only. 0: just
 * counts. */
void kill_point_arm(unsigned at, void (*killed)(void *arg), void *arg);
/* Changes since kill_point_arm. */
unsigned kill_point_count(void);

#endif
