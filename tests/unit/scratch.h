/* scratch: directories and random numbers for tests of what lies on disk. */
#ifndef JOTSFS_TESTS_SCRATCH_H
#define JOTSFS_TESTS_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

enum { SCRATCH_PATH = 4096 };

/* Makes an empty directory (0700) below TMPDIR, and removes it with all that is in it. */
void scratch_make(char *out_path);
void scratch_remove(const char *path);

/* Reads a whole file, malloc'ed; fails the test if it can't. */
char *scratch_read(const char *path, size_t *out_size);
void scratch_write(const char *path, const void *data, size_t size);

/* A sequence that depends on the seed only. TEST_SEED in the environment replaces SEED. */
void scratch_seed(uint64_t seed);
uint32_t scratch_random(uint32_t bound);

#endif
