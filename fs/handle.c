/* Open handles. RELEASE doesn't come for files that are open when the mount ends (SIGTERM, lazy unmount,
 * abort), but the cache must learn that they are closed: a new note is sent when its last handle is
 * closed, and draining would wait for it in vain.
 *
 * A list under a lock of its own. The lock is a leaf: it guards the links only, objects are closed without it.
 *
 * Called by ops_file.c and ops_dir.c, and by main at the end.
 */
#include "fs/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct handle {
    struct handle *next, *prev;
    void *object;
    void (*close)(void *object);
};

struct handles {
    pthread_mutex_t lock; /* takes nothing after it; guards the links */
    struct handle head;   /* of a ring */
};

int handles_create(struct handles **out) {
    struct handles *handles = calloc(1, sizeof(*handles));

    if (!handles)
        return -ENOMEM;
    pthread_mutex_init(&handles->lock, NULL);
    handles->head.next = handles->head.prev = &handles->head;
    *out = handles;
    return 0;
}

static struct handle *handle_of(const struct fuse_file_info *file) {
    return (struct handle *)(uintptr_t)file->fh;
}

static void close_object(struct handles *handles, struct handle *handle) {
    pthread_mutex_lock(&handles->lock);
    handle->prev->next = handle->next;
    handle->next->prev = handle->prev;
    pthread_mutex_unlock(&handles->lock);
    handle->close(handle->object);
    free(handle);
}

void handles_destroy(struct handles *handles) {
    if (!handles)
        return;
    while (handles->head.next != &handles->head)
        close_object(handles, handles->head.next);
    pthread_mutex_destroy(&handles->lock);
    free(handles);
}

int handle_open(struct handles *handles, void *object, void (*close)(void *object),
                struct fuse_file_info *file) {
    struct handle *handle = malloc(sizeof(*handle));

    if (!handle) {
        close(object);
        return -ENOMEM;
    }
    handle->object = object;
    handle->close = close;
    pthread_mutex_lock(&handles->lock);
    handle->prev = &handles->head;
    handle->next = handles->head.next;
    handle->next->prev = handle;
    handles->head.next = handle;
    pthread_mutex_unlock(&handles->lock);
    file->fh = (uintptr_t)handle;
    return 0;
}

void *handle_object(const struct fuse_file_info *file) {
    return handle_of(file)->object;
}

void handle_close(struct handles *handles, const struct fuse_file_info *file) {
    close_object(handles, handle_of(file));
}
