/* floor: the least that a FUSE file system can cost: `build/bench/floor [-x] SOURCE MOUNTPOINT` serves a copy of
 * SOURCE (files, and directories of files) from memory until it is unmounted.
 *
 * What the benches measure jotsfs against, and no part of the product. It keeps nothing safe, checks nothing,
 * knows no network. It agrees with the kernel on what jotsfs agrees on (cached pages stay over opens,
 * READDIRPLUS, names valid for VALID_S), and leaves out every request that can be left out: FLUSH and GETXATTR are
 * not implemented, so that the kernel stops asking. With -x it is one that has extended attributes, and is asked
 * for two of each file by `ls -l`.
 *
 * Inode numbers are addresses. Served by several threads, because a file system that waits for
 * anything needs them; one lock over everything.
 */
#define FUSE_USE_VERSION 312

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

enum { WORKERS = 10, WRITE_MAX = 1 << 20 };

static const double VALID_S = 5;

struct file {
    struct stat attr;
    struct file *children;
    char *name, *data;
    size_t capacity;
    UT_hash_handle hh;
};

struct floor {
    pthread_mutex_t lock; /* over all files */
    struct file root;
    bool attributes;
};

static struct floor *floor_of(fuse_req_t req) {
    return fuse_req_userdata(req);
}

static struct file *file_at(fuse_req_t req, fuse_ino_t ino) {
    return ino == FUSE_ROOT_ID ? &floor_of(req)->root
                               : (struct file *)ino; // NOLINT(performance-no-int-to-ptr)
}

static void lock(fuse_req_t req) {
    pthread_mutex_lock(&floor_of(req)->lock);
}

static void unlock(fuse_req_t req) {
    pthread_mutex_unlock(&floor_of(req)->lock);
}

/* --- files --- */

static struct file *file_add(struct file *parent, const char *name, mode_t mode) {
    struct file *file = calloc(1, sizeof(*file));

    if (!file || !(file->name = strdup(name)))
        err(1, "memory");
    file->attr.st_ino = (uintptr_t)file;
    file->attr.st_mode = mode;
    file->attr.st_nlink = S_ISDIR(mode) ? 2 : 1;
    file->attr.st_uid = getuid();
    file->attr.st_gid = getgid();
    file->attr.st_blksize = 4096;
    clock_gettime(CLOCK_REALTIME, &file->attr.st_mtim);
    file->attr.st_atim = file->attr.st_ctim = file->attr.st_mtim;
    HASH_ADD_KEYPTR(hh, parent->children, file->name, strlen(file->name), file);
    return file;
}

static int file_resize(struct file *file, size_t size) {
    size_t old = (size_t)file->attr.st_size;

    if (size > file->capacity) {
        size_t capacity = size < 2048 ? 4096 : size * 2;
        char *data = realloc(file->data, capacity);
        if (!data)
            return ENOMEM;
        file->data = data;
        file->capacity = capacity;
    }
    if (size > old)
        memset(file->data + old, 0, size - old);
    file->attr.st_size = (off_t)size;
    file->attr.st_blocks = (off_t)(size + 511) / 512;
    return 0;
}

static int file_write(struct file *file, const char *data, size_t size, size_t offset) {
    int rc = offset + size > (size_t)file->attr.st_size ? file_resize(file, offset + size) : 0;

    if (rc == 0)
        memcpy(file->data + offset, data, size);
    clock_gettime(CLOCK_REALTIME, &file->attr.st_mtim);
    file->attr.st_ctim = file->attr.st_mtim;
    return rc;
}

/* --- copying SOURCE --- */

static void load_file(struct file *file, int fd) {
    char buffer[65536];
    ssize_t got;

    while ((got = read(fd, buffer, sizeof(buffer))) > 0)
        if (file_write(file, buffer, (size_t)got, (size_t)file->attr.st_size) != 0)
            errx(1, "memory");
    close(fd);
}

static void load_directory(struct file *to, int fd) {
    DIR *directory = fdopendir(fd);
    const struct dirent *entry;

    if (!directory)
        err(1, "source");
    while ((entry = readdir(directory))) { // NOLINT(concurrency-mt-unsafe): our own stream
        if (entry->d_name[0] == '.')
            continue;
        int child = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
        if (child < 0)
            err(1, "%s", entry->d_name);
        if (entry->d_type == DT_DIR)
            load_directory(file_add(to, entry->d_name, S_IFDIR | 0755), child);
        else
            load_file(file_add(to, entry->d_name, S_IFREG | 0644), child);
    }
    closedir(directory);
}

/* --- requests --- */

static void op_init(void *arg, struct fuse_conn_info *conn) {
    (void)arg;
    conn->want =
        conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
                         FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS);
    if (conn->max_write > WRITE_MAX)
        conn->max_write = WRITE_MAX;
}

static struct fuse_entry_param entry_of(const struct file *file) {
    return (struct fuse_entry_param){
        .ino = file->attr.st_ino, .attr = file->attr, .attr_timeout = VALID_S, .entry_timeout = VALID_S};
}

static void op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name) {
    struct fuse_entry_param entry = {.entry_timeout = VALID_S};
    struct file *file;

    lock(req);
    HASH_FIND_STR(file_at(req, dir)->children, name, file);
    if (file)
        entry = entry_of(file);
    unlock(req);
    fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info) {
    (void)info;
    lock(req);
    struct stat attr = file_at(req, ino)->attr;
    unlock(req);
    fuse_reply_attr(req, &attr, VALID_S);
}

/* The size only; all other changes are accepted and ignored. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
                       struct fuse_file_info *info) {
    struct file *file = file_at(req, ino);

    (void)info;
    lock(req);
    int rc = set & FUSE_SET_ATTR_SIZE ? file_resize(file, (size_t)attr->st_size) : 0;
    struct stat now = file->attr;
    unlock(req);
    if (rc)
        fuse_reply_err(req, rc);
    else
        fuse_reply_attr(req, &now, VALID_S);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info) {
    lock(req);
    if (info->flags & O_TRUNC)
        (void)file_resize(file_at(req, ino), 0);
    unlock(req);
    info->keep_cache = 1;
    info->noflush = 1;
    fuse_reply_open(req, info);
}

static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
                      struct fuse_file_info *info) {
    lock(req);
    struct fuse_entry_param entry = entry_of(file_add(file_at(req, dir), name, S_IFREG | (mode & 07777)));
    unlock(req);
    info->keep_cache = 1;
    info->noflush = 1;
    fuse_reply_create(req, &entry, info);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode) {
    lock(req);
    struct fuse_entry_param entry = entry_of(file_add(file_at(req, dir), name, S_IFDIR | (mode & 07777)));
    unlock(req);
    fuse_reply_entry(req, &entry);
}

/* Replies under the lock, because the data may move when the file grows. */
static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info) {
    struct floor *fs = floor_of(req);
    const struct file *file = file_at(req, ino);

    (void)info;
    pthread_mutex_lock(&fs->lock);
    size_t end = (size_t)file->attr.st_size, from = (size_t)offset < end ? (size_t)offset : end;
    fuse_reply_buf(req, file->data + from, size < end - from ? size : end - from);
    pthread_mutex_unlock(&fs->lock);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info) {
    struct file *file = file_at(req, ino);

    lock(req);
    int rc = file_write(file, data, size, (size_t)(info->flags & O_APPEND ? file->attr.st_size : offset));
    unlock(req);
    if (rc)
        fuse_reply_err(req, rc);
    else
        fuse_reply_write(req, size);
}

/* --- directories: a handle remembers the next child --- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info) {
    struct file **next = calloc(1, sizeof(*next));

    (void)ino;
    if (!next) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    info->fh = (uintptr_t)next;
    fuse_reply_open(req, info);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info) {
    (void)ino;
    free((void *)(uintptr_t)info->fh); // NOLINT(performance-no-int-to-ptr)
    fuse_reply_err(req, 0);
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, uint64_t handle,
                           bool plus) {
    struct file **next = (struct file **)(uintptr_t)handle; // NOLINT(performance-no-int-to-ptr)
    char *buffer = malloc(size);
    size_t filled = 0, used;

    if (!buffer) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    lock(req);
    for (*next = offset ? *next : file_at(req, ino)->children; *next; *next = (*next)->hh.next) {
        struct fuse_entry_param entry = entry_of(*next);
        char *at = buffer + filled;
        size_t left = size - filled;
        used = plus ? fuse_add_direntry_plus(req, at, left, (*next)->name, &entry, ++offset)
                    : fuse_add_direntry(req, at, left, (*next)->name, &entry.attr, ++offset);
        if (used > left)
            break;
        filled += used;
    }
    unlock(req);
    fuse_reply_buf(req, buffer, filled);
    free(buffer);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                       struct fuse_file_info *info) {
    read_directory(req, ino, size, offset, info->fh, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                           struct fuse_file_info *info) {
    read_directory(req, ino, size, offset, info->fh, true);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    (void)ino, (void)name, (void)size;
    fuse_reply_err(req, floor_of(req)->attributes ? ENODATA : ENOSYS);
}

static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .open = op_open,
    .create = op_create,
    .mkdir = op_mkdir,
    .read = op_read,
    .write = op_write,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .getxattr = op_getxattr,
};

/* --- serving --- */

static int serve(struct floor *fs, const char *mountpoint) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session = NULL;
    struct fuse_loop_config *config = fuse_loop_cfg_create();

    if (fuse_opt_add_arg(&args, "floor") == 0 &&
        fuse_opt_add_arg(&args, "-ofsname=floor,default_permissions") == 0)
        session = fuse_session_new(&args, &operations, sizeof(operations), fs);
    fuse_opt_free_args(&args);
    if (!session || !config || fuse_set_signal_handlers(session) != 0 ||
        fuse_session_mount(session, mountpoint) != 0)
        errx(1, "can't mount on %s", mountpoint);
    fuse_loop_cfg_set_max_threads(config, WORKERS);
    int rc = fuse_session_loop_mt(session, config);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    fuse_loop_cfg_destroy(config);
    return rc < 0;
}

int main(int argc, char **argv) {
    static struct floor fs = {.lock = PTHREAD_MUTEX_INITIALIZER};

    fs.attributes = argc > 1 && strcmp(argv[1], "-x") == 0;
    argc -= fs.attributes;
    argv += fs.attributes;
    if (argc != 3)
        errx(2, "usage: floor [-x] SOURCE MOUNTPOINT");
    fs.root.attr = (struct stat){.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR | 0755, .st_nlink = 2};
    fs.root.attr.st_uid = getuid();
    fs.root.attr.st_gid = getgid();
    int source = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source < 0)
        err(1, "%s", argv[1]);
    load_directory(&fs.root, source);
    return serve(&fs, argv[2]);
}
