#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t state;

void scratch_make(char *out_path) {
    const char *parent = getenv("TMPDIR");

    snprintf(out_path, SCRATCH_PATH, "%s/jotsfs-unit-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(out_path))
        fail_msg("mkdtemp %s: %s", out_path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void scratch_remove(const char *path) {
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
        fail_msg("removing %s: %s", path, strerror(errno));
}

char *scratch_read(const char *path, size_t *out_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    size_t size = (size_t)status.st_size;
    char *data = malloc(size + 1);
    assert_non_null(data);
    assert_int_equal(read(fd, data, size), size);
    close(fd);
    *out_size = size;
    return data;
}

void scratch_write(const char *path, const void *data, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

void scratch_seed(uint64_t seed) {
    const char *wish = getenv("TEST_SEED");

    state = (wish ? strtoull(wish, NULL, 10) : seed) * 0x9E3779B97F4A7C15u + 1;
}

uint32_t scratch_random(uint32_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % bound;
}
