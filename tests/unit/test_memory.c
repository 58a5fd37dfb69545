/* Tests of what happens when memory runs out: a representative sequence in which each allocation of the cache fails
 * once. Programs may get ENOMEM; nothing may crash, leak (asan) or get lost of what was accepted, and in the
 * end all is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* --- the injector: the linker sends our allocations here (Makefile) --- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
bool __real_model_answer(struct service *service, size_t index);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
void *__wrap_memory_must(size_t size);
bool __wrap_model_answer(struct service *service, size_t index);

static unsigned allocations, fail_at, paused = 1;

static bool fails(void) {
    return !paused && ++allocations == fail_at;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text) {
    return fails() ? NULL : __real_strdup(text);
}

void *__wrap_memory_must(size_t size) {
    return __real_malloc(size); /* aborts by design (cache/memory.c) */
}

bool __wrap_model_answer(struct service *service, size_t index) {
    paused++;
    bool answered = __real_model_answer(service, index);
    paused--;
    return answered;
}

/* The model's own memory doesn't run out. */
static const struct service_ops *model_ops;

static int submit(struct service *service, const struct service_call *call, service_done *done, void *arg,
                  uint64_t *out_ticket) {
    paused++;
    int err = model_ops->submit(service, call, done, arg, out_ticket);
    paused--;
    return err;
}

/* --- the sequence --- */

static struct rig rig;
static char expected[4096]; /* of "log" */

static void append_line(const char *line) {
    if (rig_append(&rig, "log", line) == 0)
        strcat(expected, line);
}

static void live(void) {
    append_line("two\n");
    append_line("three\n");
    (void)rig_put(&rig, "new", "a\nb\n");
    rig_run(&rig, 1500);
    append_line("four\n");
    (void)rig_put(&rig, "doc", "A\nB\n");
    (void)rig_mkdir(&rig, "box");
    (void)rig_rename(&rig, "new", "box/new", 0);
    rig_run(&rig, 3000);
    append_line("five\n");
    (void)rig_unlink(&rig, "doc");
    (void)rig_flush_all(&rig);
    (void)rig_refresh(&rig);
}

/* Gives the number of allocations. */
static unsigned live_with(unsigned failing) {
    struct service_ops ops;

    rig_make(&rig, 5);
    account_add(&rig.model.account, "log", 0, "one");
    account_add(&rig.model.account, "doc", 0, "a\nb\nc");
    fake_clock_advance(&rig.clock, 60000);
    rig_open(&rig);
    model_ops = rig.service->ops;
    ops = *model_ops;
    ops.submit = submit;
    rig.service->ops = &ops;
    strcpy(expected, "one\n");
    allocations = 0;
    fail_at = failing;
    paused = 0;
    live();
    paused = 1;
    (void)rig_refresh(&rig);
    if (!rig_settle(&rig))
        fail_msg("allocation %u failed: something is left", failing);
    const struct account_note *note = account_find(&rig.model.account, "log");
    if (!note || strncmp(note->body, expected, note->size) != 0 || note->size + 1 != strlen(expected))
        fail_msg("allocation %u failed: the service has \"%s\" instead of \"%s\"", failing,
                 note ? note->body : "nothing", expected);
    rig_assert_same(&rig);
    rig_free(&rig);
    return allocations;
}

static void each_allocation_fails_once(void **state) {
    (void)state;
    unsigned count = live_with(0);
    assert_true(count > 100);
    for (unsigned i = 1; i <= count; i++)
        live_with(i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
