/* watch: which files were synced, by which thread, and what a power loss would leave of a directory.
 *
 * fsync, fdatasync and ftruncate of the whole program, libraries included, go through here. While a tree is
 * watched, what each sync saved is remembered: a file's content by its own sync, a directory's names by the
 * directory's.
 */
#ifndef JOTSFS_TESTS_WATCH_H
#define JOTSFS_TESTS_WATCH_H

#include <stdbool.h>

/* Syncs so far, of this thread and of all. */
unsigned watch_syncs_here(void);
unsigned watch_syncs(void);
/* The next syncs of files whose path contains PART fail with EIO (NULL: none any more). */
void watch_fail(const char *part);
/* How often a file whose path ends in SUFFIX was synced since watch_start. */
unsigned watch_synced(const char *suffix);
/* The same for ftruncate to less than the file had. */
unsigned watch_shortened(const char *suffix);

/* Watches directory ROOT, from now on: its names count as saved, the files as empty. Meanwhile nothing is
 * really synced. */
void watch_start(const char *root);
void watch_stop(void);
/* Makes directory INTO what a power loss now would leave of ROOT. Strict: nothing but what was synced.
 * Otherwise any of the blocks written since may have made it too, with a file's shortening in its place among
 * them. */
void watch_power_loss(const char *into, bool strict);

#endif
