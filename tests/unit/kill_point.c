#undef _FILE_OFFSET_BITS /* both names of each function are defined below */
#undef _FORTIFY_SOURCE
#include "kill_point.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_uint count;
static unsigned stop_at;
static void (*on_kill)(void *arg);
static void *on_kill_arg;

void kill_point_arm(unsigned at, void (*killed)(void *arg), void *arg) {
    stop_at = at;
    on_kill = killed;
    on_kill_arg = arg;
    atomic_store(&count, 0);
}

unsigned kill_point_count(void) {
    return atomic_load(&count);
}

static void step(void) {
    if (atomic_fetch_add(&count, 1) + 1 == stop_at && on_kill)
        on_kill(on_kill_arg);
}

/* --- instead of the C library's --- */

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    step();
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

#undef pwrite
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) __attribute__((alias("pwrite64")));

ssize_t pwritev64(int fd, const struct iovec *parts, int part_count, off64_t offset) {
    step();
    return syscall(SYS_pwritev, fd, parts, part_count, (long)offset, (long)((uint64_t)offset >> 32));
}

#undef pwritev
ssize_t pwritev(int fd, const struct iovec *parts, int part_count, off_t offset)
    __attribute__((alias("pwritev64")));

int unlinkat(int dir, const char *name, int flags) {
    step();
    return (int)syscall(SYS_unlinkat, dir, name, flags);
}

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size,
                        unsigned flags) {
    step();
    return syscall(SYS_copy_file_range, from, from_offset, to, to_offset, size, flags);
}

int openat64(int dir, const char *name, int flags, ...) {
    va_list arguments;
    mode_t mode = 0;

    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    if (flags & (O_CREAT | O_TRUNC))
        step();
    return (int)syscall(SYS_openat, dir, name, flags, mode);
}

#undef openat
int openat(int dir, const char *name, int flags, ...) __attribute__((alias("openat64")));
