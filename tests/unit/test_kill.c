/* Tests of what a kill -9 leaves: a long sequence of single steps is killed before every change that it makes to a file,
 * and the next run goes on from what the files hold then. In the end the service must have what it would have after the steps
 * that returned, with or without the one that didn't.
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

#include "cache/cache.h"
#include "kill_point.h"
#include "rig.h"

static struct rig rig;
static bool killed;

/* --- single steps, each of which is there or not --- */

static void overwrite(const char *path, const char *text, uint64_t offset) {
    struct cache_handle *handle = NULL;

    if (rig_open_file(&rig, path, O_WRONLY, &handle) == 0) {
        (void)rig_write(&rig, handle, text, offset, 0);
        cache_close(handle);
    }
}

static void sync_file(const char *path) {
    struct cache_handle *handle = NULL;

    if (rig_open_file(&rig, path, O_WRONLY | O_APPEND, &handle) == 0) {
        (void)rig_fsync(&rig, handle);
        cache_close(handle);
    }
}

struct step {
    const char *verb, *path, *more;
};

static const struct step steps[] = {
    {"append", "log", "two\n"},
    {"append", "log", "three\n"},
    {"wait", "", ""},
    {"append", "log", "fo"},
    {"append", "log", "ur\n"},
    {"make", "new", ""},
    {"overwrite", "new", "a\nb\n"},
    {"wait", "", ""},
    {"touch", "stream", ""},
    {"append", "stream", "first\n"},
    {"settle", "", ""},
    {"overwrite", "doc", "A\nB\nC\n"},
    {"sync", "doc", ""},
    {"append", "doc", "D\n"},
    {"settle", "", ""},
    {"make", "doc.tmp", ""},
    {"overwrite", "doc.tmp", "saved\n"},
    {"rename", "doc.tmp", "doc"},
    {"settle", "", ""},
    {"mkdir", "box", ""},
    {"rename", "log", "box/log"},
    {"wait", "", ""},
    {"append", "box/log", "five\n"},
    {"settle", "", ""},
    {"unlink", "new", ""},
    {"flush", "", ""},
    {"truncate", "stream", ""},
    {"settle", "", ""},
    {"append", "stream", "again\n"},
    {"flush", "", ""},
};

enum { STEPS = sizeof steps / sizeof steps[0] };

static void take(const struct step *step) {
    if (strcmp(step->verb, "append") == 0 || strcmp(step->verb, "touch") == 0)
        (void)rig_append(&rig, step->path, step->more);
    else if (strcmp(step->verb, "make") == 0)
        (void)rig_put(&rig, step->path, "");
    else if (strcmp(step->verb, "overwrite") == 0)
        overwrite(step->path, step->more, 0);
    else if (strcmp(step->verb, "sync") == 0)
        sync_file(step->path);
    else if (strcmp(step->verb, "truncate") == 0)
        (void)rig_truncate(&rig, step->path, 0);
    else if (strcmp(step->verb, "rename") == 0)
        (void)rig_rename(&rig, step->path, step->more, 0);
    else if (strcmp(step->verb, "unlink") == 0)
        (void)rig_unlink(&rig, step->path);
    else if (strcmp(step->verb, "mkdir") == 0)
        (void)rig_mkdir(&rig, step->path);
    else if (strcmp(step->verb, "wait") == 0)
        rig_run(&rig, 700);
    else if (strcmp(step->verb, "settle") == 0)
        rig_run(&rig, 30000);
    else if (strcmp(step->verb, "flush") == 0)
        (void)rig_flush_all(&rig);
    else
        fail_msg("no such step: %s", step->verb);
}

/* --- what the service has, as text --- */

static int by_name(const void *a, const void *b) {
    const struct account_note *const *left = a, *const *right = b;

    return strcmp((*left)->filename, (*right)->filename);
}

static char *describe(void) {
    struct account *account = &rig.model.account;
    char *out = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&out, &size);

    assert_non_null(stream);
    qsort(account->notes, account->note_count, sizeof *account->notes, by_name);
    for (size_t i = 0; i < account->note_count; i++)
        fprintf(stream, "%s%s: \"%s\"\n", account->notes[i]->folder_id ? "box/" : "",
                account->notes[i]->filename, account->notes[i]->body);
    for (size_t i = 0; i < account->folder_count; i++)
        fprintf(stream, "%s/\n", account->folders[i].name);
    (void)fclose(stream);
    return out;
}

static void start(void) {
    rig_make(&rig, 3);
    account_add(&rig.model.account, "log", 0, "one");
    account_add(&rig.model.account, "doc", 0, "a\nb\nc");
    fake_clock_advance(&rig.clock, 60000);
    rig_open(&rig);
}

/* What the service has in the end after the first COUNT steps. */
static char *outcome_of(unsigned count) {
    start();
    for (unsigned i = 0; i < count; i++)
        take(&steps[i]);
    assert_true(rig_settle(&rig));
    char *text = describe();
    rig_free(&rig);
    return text;
}

/* --- kills --- */

static bool arrives;

static void die(void *arg) {
    (void)arg;
    killed = true;
    rig.manual = true; /* nobody hears or answers this run any more */
    rig_snapshot(&rig);
    model_cut(rig.service, arrives);
}

static unsigned count_changes(void) {
    start();
    kill_point_arm(0, NULL, NULL);
    for (unsigned i = 0; i < STEPS; i++)
        take(&steps[i]);
    unsigned count = kill_point_count();
    rig_free(&rig);
    return count;
}

static void check(unsigned at, unsigned step, char *const *outcomes) {
    assert_true(rig_settle(&rig));
    char *text = describe();
    if (strcmp(text, outcomes[step]) != 0 && strcmp(text, outcomes[step + 1]) != 0)
        fail_msg("killed before change %u, in step %u (%s %s), what was sent %s: the service has\n%sinstead "
                 "of\n%sor\n%s",
                 at, step, steps[step].verb, steps[step].path, arrives ? "arrives" : "is lost", text,
                 outcomes[step], outcomes[step + 1]);
    free(text);
    rig_assert_same(&rig);
}

static void kill_at(unsigned at, char *const *outcomes) {
    unsigned step = 0;

    start();
    killed = false;
    kill_point_arm(at, die, NULL);
    for (; step < STEPS && !killed; step++)
        take(&steps[step]);
    kill_point_arm(0, NULL, NULL);
    if (killed) {
        rig_kill_back(&rig, false);
        rig.manual = false;
        fake_clock_advance(&rig.clock, 3000);
        rig_open(&rig);
        check(at, step - 1, outcomes);
    }
    rig_free(&rig);
}

/* All steps, killed before each change once. */
static void every_change(void **state) {
    char *outcomes[STEPS + 1];
    unsigned changes = count_changes();

    arrives = *(bool *)*state;
    assert_true(changes > 100);
    for (unsigned i = 0; i <= STEPS; i++)
        outcomes[i] = outcome_of(i);
    for (unsigned at = 1; at <= changes; at++)
        kill_at(at, outcomes);
    for (unsigned i = 0; i <= STEPS; i++)
        free(outcomes[i]);
}

int main(void) {
    static bool no = false, yes = true;
    const struct CMUnitTest tests[] = {
        {"killed before every change, what was sent is lost", every_change, NULL, NULL, &no},
        {"killed before every change, what was sent arrives", every_change, NULL, NULL, &yes},
    };
    return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
