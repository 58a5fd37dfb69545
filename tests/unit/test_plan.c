/* Tests of cache/plan: a table of every rule, where a plan is written as one line of text,
 * and random trees that are driven to their want against a small strict model of the
 * service. Random runs print their seed when they fail: TEST_SEED=N repeats one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cache/plan.h"

enum { TEXT = 8192, SCENE = 128, ROOT = PLAN_ROOT_INO };

/* --- plans as text --- */

static size_t add_text(char *text, size_t used, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static size_t add_text(char *text, size_t used, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text + used, TEXT - used, format, arguments);
    va_end(arguments);
    assert_true(length >= 0 && used + (size_t)length < TEXT);
    return used + (size_t)length;
}

static const char *op_name(enum plan_op op) {
    static const char *const names[] = {
        [PLAN_FETCH] = "fetch",
        [PLAN_ADOPT_NOTE] = "adopt",
        [PLAN_ADOPT_FOLDER] = "adopt-dir",
        [PLAN_FOLDER_CREATE] = "mkdir",
        [PLAN_FOLDER_RENAME] = "mvdir",
        [PLAN_FOLDER_DELETE] = "rmdir",
        [PLAN_CREATE] = "create",
        [PLAN_APPEND_CREATE] = "acreate",
        [PLAN_APPEND] = "append",
        [PLAN_PATCH] = "patch",
        [PLAN_MOVE] = "move",
        [PLAN_DELETE] = "delete",
    };
    return names[op];
}

/* "patch 10 t=b c f #1 @0": op, inode, giver of a base, name, content, folder, batch, after. */
static void render(const struct plan *plan, char text[TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_step *step = &plan->steps[i];
        used = add_text(text, used, "%s%s %u", i > 0 ? "; " : "", op_name(step->op), (unsigned)step->ino);
        if (step->from)
            used = add_text(text, used, "<%u", (unsigned)step->from);
        if (step->title || step->temporary)
            used = add_text(text, used, " t=%s", step->temporary ? "*" : step->title);
        if (step->op == PLAN_PATCH && !(step->fields & PLAN_TITLE) != !(step->title || step->temporary))
            used = add_text(text, used, " BAD-TITLE");
        if (step->fields & PLAN_CONTENT)
            used = add_text(text, used, " c");
        if (step->fields & PLAN_FOLDER)
            used = add_text(text, used, " f");
        if (step->batch)
            used = add_text(text, used, " #%u", step->batch);
        if (step->after != SIZE_MAX)
            used = add_text(text, used, " @%zu", step->after);
    }
}

/* --- scenes: hand-made inputs --- */

struct scene {
    struct plan_folder folders[SCENE];
    struct plan_note notes[SCENE];
    struct plan_input input;
};

static struct scene scene;

static struct plan_note *based(uint64_t ino, const char *name, uint64_t dir) {
    struct plan_note *note = &scene.notes[scene.input.note_count++];
    *note = (struct plan_note){.ino = ino, .base_id = (int64_t)ino, .base_name = name, .base_shown = name};
    note->base_dir = note->want_dir = dir;
    note->want_name = name;
    note->batch_max = PLAN_BATCH_MAX;
    return note;
}

static struct plan_note *fresh(uint64_t ino, const char *name, uint64_t dir) {
    struct plan_note *note = &scene.notes[scene.input.note_count++];
    *note = (struct plan_note){.ino = ino, .want_name = name, .want_dir = dir, .batch_max = PLAN_BATCH_MAX};
    note->body = PLAN_BODY_REWRITE;
    note->body_bytes = 10;
    return note;
}

static struct plan_note *renamed(uint64_t ino, const char *from, const char *to) {
    struct plan_note *note = based(ino, from, ROOT);
    note->want_name = to;
    return note;
}

static struct plan_note *with_body(struct plan_note *note, enum plan_body body) {
    note->body = body;
    return note;
}

static struct plan_folder *folder(uint64_t ino, const char *base, const char *want) {
    struct plan_folder *made = &scene.folders[scene.input.folder_count++];
    *made = (struct plan_folder){.ino = ino, .base_name = base, .base_shown = base, .want_name = want};
    made->base_id = base ? (int64_t)ino : 0;
    return made;
}

static void start(void) {
    memset(&scene, 0, sizeof(scene));
    scene.input.folders = scene.folders;
    scene.input.notes = scene.notes;
    scene.input.batch_bytes = 1000;
}

/* Compares the scene's plan with its text and its number of calls, and starts a new scene. */
static void expect_at(int line, const char *text, size_t calls) {
    char got[TEXT];
    struct plan plan;
    assert_int_equal(plan_make(&scene.input, &plan), 0);
    render(&plan, got);
    size_t got_calls = plan_calls(&plan);
    plan_release(&plan);
    if (strcmp(got, text) != 0 || got_calls != calls)
        fail_msg("line %d: want '%s' (%zu calls), got '%s' (%zu)", line, text, calls, got, got_calls);
    start();
}
#define expect(text, calls) expect_at(__LINE__, text, calls)

/* --- the rules, one by one --- */

static void test_nothing(void **state) {
    (void)state;
    start();
    expect("", 0);
    based(10, "a", ROOT);
    folder(2, "P", "P");
    expect("", 0);
    fresh(10, NULL, ROOT);
    folder(2, NULL, NULL);
    expect("", 0);
    fresh(10, "a~", ROOT)->local = true;
    expect("", 0);
}

static void test_release(void **state) {
    (void)state;
    start();
    fresh(10, "a", ROOT);
    struct plan plan;
    assert_int_equal(plan_make(&scene.input, &plan), 0);
    plan_release(&plan);
    assert_null(plan.steps);
    assert_int_equal(plan.count, 0);
}

static void test_based_note(void **state) {
    (void)state;
    start();
    based(10, "a", ROOT)->want_name = NULL;
    expect("delete 10", 1);
    renamed(10, "a", "b");
    expect("patch 10 t=b c", 1);
    renamed(10, "a", "b")->want_dir = 2;
    expect("patch 10 t=b c f", 1);
    based(10, "a", ROOT)->want_dir = 2;
    expect("move 10", 1);
    with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE);
    expect("patch 10 c", 1);
    with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE)->want_dir = 2;
    expect("patch 10 c f", 1);
    with_body(renamed(10, "a", "b"), PLAN_BODY_REWRITE)->want_dir = 2;
    expect("patch 10 t=b c f", 1);
    with_body(based(10, "a", ROOT), PLAN_BODY_APPEND);
    expect("append 10", 1);
    with_body(based(10, "a", ROOT), PLAN_BODY_APPEND)->want_dir = 2;
    expect("patch 10 c f", 1);
    with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND);
    expect("patch 10 t=b c", 1);
    with_body(based(10, "a", ROOT), PLAN_BODY_APPEND)->want_name = NULL;
    expect("delete 10", 1);
}

/* An alias is no rename; the name to compare with is the shown one. */
static void test_alias(void **state) {
    (void)state;
    start();
    struct plan_note *note = based(10, "my-note", ROOT);
    note->base_shown = note->want_name = "My note";
    expect("", 0);
    based(10, "my-note", ROOT)->base_shown = "My note";
    expect("patch 10 t=my-note c", 1);
    /* its alias is taken: the service may read both names as one */
    renamed(10, "my-note", "old")->base_shown = "My note";
    renamed(11, "x", "My note");
    expect("patch 10 t=old c; patch 11 t=My note c @0", 2);
    renamed(10, "my-note", "old")->base_shown = "My note";
    renamed(11, "x", "my-note");
    expect("patch 10 t=old c; patch 11 t=my-note c @0", 2);
    /* an alias that stays stands in nobody's way, a filename does */
    note = based(10, "a", ROOT);
    note->base_shown = note->want_name = "a~10";
    renamed(11, "x", "a~10");
    expect("patch 11 t=a~10 c", 1);
    note = based(10, "a", ROOT);
    note->base_shown = note->want_name = "a~10";
    renamed(11, "x", "a");
    expect("", 0);
}

static struct plan_note *locked(struct plan_note *note) {
    note->locked = true;
    return note;
}

static struct plan_note *rich(struct plan_note *note) {
    note->rich = true;
    return note;
}

static void test_locked_and_rich(void **state) {
    (void)state;
    start();
    locked(renamed(10, "a", "b"));
    expect("", 0);
    locked(with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE));
    expect("", 0);
    locked(renamed(10, "a", "b"))->want_dir = 2;
    expect("move 10", 1);
    locked(with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE))->want_dir = 2;
    expect("move 10", 1);
    locked(with_body(based(10, "a", ROOT), PLAN_BODY_APPEND))->want_dir = 2;
    expect("append 10; move 10 @0", 2);
    locked(with_body(based(10, "a", ROOT), PLAN_BODY_APPEND));
    expect("append 10", 1);
    locked(based(10, "a", ROOT))->want_name = NULL;
    expect("delete 10", 1);
    rich(with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND));
    expect("", 0);
    rich(with_body(renamed(10, "a", "b"), PLAN_BODY_REWRITE))->want_dir = 2;
    expect("move 10", 1);
    rich(based(10, "a", ROOT))->want_name = NULL;
    expect("delete 10", 1);
    /* a name that can't be left can't be taken */
    locked(renamed(10, "a", "b"))->want_dir = 2;
    renamed(11, "x", "a");
    expect("move 10", 1);
}

static void hold(struct plan_note *note, bool name, bool body) {
    note->hold_name = name;
    note->hold_body = body;
}

static void test_holds(void **state) {
    (void)state;
    start();
    hold(renamed(10, "a", "b"), true, false);
    hold(fresh(11, "c", ROOT), true, false);
    hold(based(12, "d", 2), true, false);
    scene.notes[2].want_dir = 3;
    hold(based(13, "e", ROOT), true, false);
    scene.notes[3].want_name = NULL;
    folder(2, NULL, "P")->hold = true;
    folder(3, "Q", "R")->hold = true;
    folder(4, "S", NULL)->hold = true;
    expect("", 0);
    hold(with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE), false, true);
    expect("", 0);
    hold(with_body(based(10, "a", ROOT), PLAN_BODY_REWRITE), true, false);
    expect("patch 10 c", 1);
    hold(with_body(renamed(10, "a", "b"), PLAN_BODY_REWRITE), false, true);
    expect("", 0);
    hold(with_body(renamed(10, "a", "b"), PLAN_BODY_REWRITE), true, false);
    expect("", 0);
    hold(with_body(based(10, "a", 2), PLAN_BODY_REWRITE), false, true);
    scene.notes[0].want_dir = ROOT;
    expect("", 0);
    /* an append waits for nothing, but rides with what is ready */
    hold(with_body(based(10, "a", ROOT), PLAN_BODY_APPEND), true, true);
    expect("append 10", 1);
    hold(with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND), true, true);
    expect("append 10", 1);
    hold(with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND), false, true);
    expect("patch 10 t=b c", 1);
    hold(with_body(based(10, "a", 2), PLAN_BODY_APPEND), true, false);
    scene.notes[0].want_dir = ROOT;
    expect("append 10", 1);
    locked(with_body(based(10, "a", 2), PLAN_BODY_APPEND))->want_dir = ROOT;
    hold(&scene.notes[0], true, true);
    expect("append 10", 1);
    /* a lock leaves no rewrite to wait for */
    locked(with_body(based(10, "a", 2), PLAN_BODY_REWRITE))->want_dir = ROOT;
    hold(&scene.notes[0], false, true);
    expect("move 10", 1);
    hold(fresh(10, "a", ROOT), false, true);
    expect("", 0);
    hold(fresh(10, "a", ROOT), false, true);
    scene.notes[0].append_creates = true;
    expect("acreate 10 t=a", 1);
}

static void test_busy(void **state) {
    (void)state;
    start();
    with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND)->busy = true;
    with_body(based(11, "c", ROOT), PLAN_BODY_APPEND)->busy = true;
    fresh(12, "d", ROOT)->busy = true;
    folder(2, NULL, "P")->busy = true;
    expect("", 0);
    /* what a request in flight takes is taken */
    struct plan_note *note = renamed(10, "a", "z");
    note->busy = true;
    note->busy_name = "b";
    fresh(11, "b", ROOT);
    fresh(12, "c", ROOT);
    expect("create 12 t=c", 1);
    note = fresh(10, NULL, ROOT);
    note->busy = true;
    note->busy_dir = 2;
    folder(2, "P", NULL);
    expect("", 0);
    fresh(10, NULL, ROOT)->busy_dir = 2;
    fresh(11, NULL, ROOT)->busy_name = "a";
    fresh(12, "a", ROOT);
    folder(2, "P", NULL);
    expect("create 12 t=a; rmdir 2", 2);
    struct plan_folder *flying = folder(2, "P", "R");
    flying->busy = true;
    flying->busy_name = "q";
    folder(3, NULL, "Q");
    expect("", 0);
}

static void test_create(void **state) {
    (void)state;
    start();
    fresh(10, "a", ROOT);
    expect("create 10 t=a", 1);
    fresh(10, "a", 2);
    fresh(11, "b", ROOT);
    expect("create 10 t=a #1; create 11 t=b #1", 1);
    fresh(10, "a", ROOT)->want_locked = true;
    fresh(11, "b", ROOT);
    fresh(12, "c", ROOT)->want_locked = true;
    expect("create 10 t=a; create 11 t=b; create 12 t=c", 3);
    /* creating appends are cheaper while they are few */
    fresh(10, "a", ROOT)->append_creates = true;
    expect("acreate 10 t=a", 1);
    fresh(10, "a", 2)->append_creates = true;
    expect("create 10 t=a", 1);
    fresh(10, "a", ROOT)->append_creates = true;
    scene.notes[0].want_locked = true;
    expect("create 10 t=a", 1);
    fresh(10, "a", ROOT)->append_creates = true;
    fresh(11, "b", ROOT)->append_creates = true;
    expect("acreate 10 t=a; acreate 11 t=b", 2);
    for (unsigned i = 0; i < 3; i++)
        fresh(10 + i, i == 0 ? "a" : i == 1 ? "b" : "c", ROOT)->append_creates = true;
    expect("create 10 t=a #1; create 11 t=b #1; create 12 t=c #1", 1);
}

static void fresh_many(unsigned count, unsigned batch_max, uint64_t bytes) {
    static char names[SCENE][16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(names[i], sizeof(names[i]), "n%u", i);
        struct plan_note *note = fresh(100 + i, names[i], ROOT);
        note->batch_max = batch_max;
        note->body_bytes = bytes;
    }
}

static void expect_calls_at(int line, size_t steps, size_t calls) {
    struct plan plan;
    assert_int_equal(plan_make(&scene.input, &plan), 0);
    if (plan.count != steps || plan_calls(&plan) != calls)
        fail_msg("line %d: %zu steps, %zu calls", line, plan.count, plan_calls(&plan));
    plan_release(&plan);
    start();
}
#define expect_calls(steps, calls) expect_calls_at(__LINE__, steps, calls)

static void test_batches(void **state) {
    (void)state;
    start();
    fresh_many(50, 50, 10);
    expect_calls(50, 1);
    fresh_many(51, 50, 10);
    expect_calls(51, 2);
    fresh_many(120, 50, 1);
    expect_calls(120, 3);
    fresh_many(120, 99, 1);
    expect_calls(120, 3);
    fresh_many(50, 25, 1);
    expect_calls(50, 2);
    fresh_many(3, 1, 1);
    expect("create 100 t=n0; create 101 t=n1; create 102 t=n2", 3);
    fresh_many(10, 50, 200); /* 1000 bytes: five each */
    expect_calls(10, 2);
    fresh_many(3, 50, 500);
    scene.notes[1].body_bytes = 1001;
    expect("create 100 t=n0 #1; create 102 t=n2 #1; create 101 t=n1", 2);
    fresh_many(3, 50, 1);
    scene.notes[2].batch_max = 2;
    expect("create 100 t=n0 #1; create 101 t=n1 #1; create 102 t=n2", 2);
    /* members that go elsewhere don't disturb the order of the rest */
    fresh(10, "a", ROOT);
    based(11, "b", ROOT)->want_name = NULL;
    fresh(12, "c", ROOT);
    renamed(13, "d", "e");
    expect("create 10 t=a #1; create 12 t=c #1; delete 11; patch 13 t=e c", 3);
    renamed(13, "a", "b");
    fresh(14, "x", ROOT);
    locked(with_body(based(15, "l", ROOT), PLAN_BODY_APPEND))->want_dir = 9;
    fresh(16, "y", ROOT);
    expect("patch 13 t=b c; create 14 t=x #1; create 16 t=y #1; append 15; move 15 @3", 4);
}

static void test_folders(void **state) {
    (void)state;
    start();
    folder(2, NULL, "P");
    folder(3, "Q", "R");
    folder(4, "S", NULL);
    expect("mkdir 2 t=P; mvdir 3 t=R; rmdir 4", 3);
    /* first when created ... */
    folder(2, NULL, "P");
    fresh(10, "a", 2);
    fresh(11, "b", 2);
    based(12, "c", ROOT)->want_dir = 2;
    renamed(13, "d", "e")->want_dir = 2;
    expect("mkdir 2 t=P; create 10 t=a #1 @0; create 11 t=b #1 @0; move 12 @0; patch 13 t=e c f @0", 4);
    /* ... last when deleted */
    folder(2, "P", NULL);
    based(10, "a", 2)->want_name = NULL;
    renamed(11, "b", "c");
    based(12, "d", 2)->want_dir = ROOT;
    expect("delete 10; patch 11 t=c c; move 12; rmdir 2 @2", 4);
    folder(2, "P", NULL);
    based(10, "a", 2)->want_name = NULL;
    scene.notes[0].busy = true;
    expect("", 0);
    folder(2, "P", NULL);
    based(10, "a", 2)->want_name = NULL;
    hold(&scene.notes[0], true, false);
    expect("", 0);
    folder(2, "P", NULL);
    with_body(based(10, "a", 2), PLAN_BODY_REWRITE);
    expect("patch 10 c", 1);
    /* a folder that can't be made now keeps its notes, but not their appends */
    folder(2, NULL, "P")->busy = true;
    fresh(10, "a", 2);
    based(11, "b", ROOT)->want_dir = 2;
    with_body(based(12, "c", ROOT), PLAN_BODY_APPEND)->want_dir = 2;
    expect("append 12", 1);
    folder(2, "P", NULL);
    fresh(10, "a", 2);
    expect("rmdir 2", 1);
    /* a renamed one has an id: nobody waits */
    folder(2, "P", "Q");
    fresh(10, "a", 2);
    expect("mvdir 2 t=Q; create 10 t=a", 2);
}

static void test_folder_names(void **state) {
    (void)state;
    start();
    folder(2, "x", "y");
    folder(3, "w", "X");
    expect("mvdir 2 t=y; mvdir 3 t=X @0", 2);
    folder(3, "w", "\xC3\x89t\xC3\xA9");
    folder(2, "E\xCC\x81T\xC3\x89", "y");
    expect("mvdir 2 t=y; mvdir 3 t=\xC3\x89t\xC3\xA9 @0", 2);
    folder(2, "x", "X");
    expect("mvdir 2 t=X", 1);
    folder(2, "a", "B");
    folder(3, "b", "A");
    expect("mvdir 2 t=*; mvdir 3 t=A @0; mvdir 2 t=B @1", 3);
    folder(3, NULL, "X");
    folder(2, "x", "y");
    expect("mvdir 2 t=y; mkdir 3 t=X @0", 2);
    folder(3, "w", "X");
    folder(2, "x", NULL);
    expect("rmdir 2; mvdir 3 t=X @0", 2);
    folder(3, "w", "X");
    folder(2, "x", NULL)->busy = true;
    expect("", 0);
    folder(2, NULL, "x");
    folder(3, NULL, "X");
    expect("mkdir 2 t=x", 1);
    folder(2, "\xFFx", "y");
    folder(3, NULL, "\xFFx");
    expect("mvdir 2 t=y; mkdir 3 t=\xFFx @0", 2);
    /* folders and notes have names of their own */
    folder(2, "a", "b");
    renamed(10, "b", "a");
    expect("mvdir 2 t=b; patch 10 t=a c", 2);
}

static void test_names(void **state) {
    (void)state;
    start();
    /* chains, in either order of input */
    renamed(10, "a", "b");
    renamed(11, "b", "c");
    renamed(12, "c", "d");
    expect("patch 12 t=d c; patch 11 t=c c @0; patch 10 t=b c @1", 3);
    renamed(12, "c", "d");
    renamed(11, "b", "c");
    renamed(10, "a", "b");
    expect("patch 12 t=d c; patch 11 t=c c @0; patch 10 t=b c @1", 3);
    renamed(10, "a", "b");
    based(11, "b", 2)->want_name = NULL;
    expect("delete 11; patch 10 t=b c @0", 2);
    /* what isn't free in time is left alone, and all that waits for it */
    renamed(10, "a", "b");
    renamed(11, "b", "c")->busy = true;
    expect("", 0);
    renamed(10, "a", "b");
    renamed(11, "b", "c");
    hold(renamed(12, "c", "d"), true, false);
    renamed(13, "k", "l");
    expect("patch 13 t=l c", 1);
    with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND);
    renamed(11, "b", "c")->busy = true;
    expect("append 10", 1);
    with_body(renamed(10, "a", "b"), PLAN_BODY_APPEND);
    renamed(11, "b", "c");
    expect("patch 11 t=c c; patch 10 t=b c @0", 2);
    renamed(10, "a", "b");
    based(11, "b", ROOT);
    expect("", 0);
    renamed(10, "a", "x");
    renamed(11, "b", "x");
    expect("patch 10 t=x c", 1);
    /* case matters to notes */
    renamed(10, "a", "b");
    renamed(11, "B", "c");
    expect("patch 10 t=b c; patch 11 t=c c", 2);
    /* two things to wait for: the last one counts */
    folder(2, NULL, "P");
    renamed(10, "a", "b")->want_dir = 2;
    renamed(11, "b", "c");
    expect("mkdir 2 t=P; patch 11 t=c c; patch 10 t=b c f @1", 3);
}

/* A service that gives one filename to many notes costs neither memory nor a refused call. */
static void test_hostile_names(void **state) {
    (void)state;
    start();
    for (unsigned i = 0; i < 50; i++)
        based(10 + i, "a", ROOT)->want_name = NULL;
    for (unsigned i = 0; i < 50; i++)
        renamed(100 + i, "b", "a");
    expect_calls(51, 51);
    for (unsigned i = 0; i < 50; i++)
        renamed(100 + i, "a", i % 2 ? "b" : "c");
    expect_calls(2, 2);
}

static void test_cycles(void **state) {
    (void)state;
    start();
    renamed(10, "a", "b");
    renamed(11, "b", "a");
    expect("patch 10 t=* c; patch 11 t=a c @0; patch 10 t=b c @1", 3);
    renamed(10, "a", "b")->want_dir = 2;
    with_body(renamed(11, "b", "a"), PLAN_BODY_APPEND);
    expect("patch 10 t=* c; patch 11 t=a c @0; patch 10 t=b c f @1", 3);
    renamed(10, "a", "b");
    renamed(11, "b", "c");
    renamed(12, "c", "d");
    renamed(13, "d", "a");
    expect("patch 10 t=* c; patch 13 t=a c @0; patch 12 t=d c @1; patch 11 t=c c @2; patch 10 t=b c @3", 5);
    /* the smallest body goes twice */
    renamed(10, "a", "b")->body_bytes = 30;
    renamed(11, "b", "c")->body_bytes = 10;
    renamed(12, "c", "a")->body_bytes = 20;
    expect("patch 11 t=* c; patch 10 t=b c @0; patch 12 t=a c @1; patch 11 t=c c @2", 4);
    /* no half of a swap */
    renamed(10, "a", "b");
    hold(renamed(11, "b", "a"), true, false);
    expect("", 0);
    renamed(10, "a", "b");
    hold(with_body(renamed(11, "b", "a"), PLAN_BODY_REWRITE), false, true);
    expect("", 0);
    folder(2, NULL, "P")->hold = true;
    renamed(10, "a", "b");
    renamed(11, "b", "a")->want_dir = 2;
    expect("", 0);
    /* two cycles and a tail */
    renamed(9, "z", "y");
    renamed(10, "a", "b");
    renamed(11, "b", "a");
    renamed(12, "c", "d");
    renamed(13, "d", "c");
    expect("patch 9 t=y c; patch 10 t=* c; patch 11 t=a c @1; patch 10 t=b c @2; "
           "patch 12 t=* c; patch 13 t=c c @4; patch 12 t=d c @5",
           7);
}

/* y's note goes into a new x, old x becomes y: names, folders and leaving form one cycle. */
static void test_mixed_cycle(void **state) {
    (void)state;
    start();
    folder(2, "x", "y");
    folder(3, "y", NULL);
    folder(4, NULL, "x");
    based(10, "n", 3)->want_dir = 4;
    expect("mvdir 2 t=*; mkdir 4 t=x @0; move 10 @1; rmdir 3 @2; mvdir 2 t=y @3", 5);
    based(10, "n", 3)->want_dir = 4;
    based(11, "m", 3)->want_dir = 4;
    folder(3, "y", NULL);
    folder(4, NULL, "x");
    folder(2, "x", "y");
    expect("mvdir 2 t=*; mkdir 4 t=x @0; move 10 @1; move 11 @1; rmdir 3 @3; mvdir 2 t=y @4", 6);
    /* through a note's name: 10 leaves only when 11 has, which waits for a folder */
    folder(2, "x", "y");
    folder(3, "y", NULL);
    folder(4, NULL, "x");
    renamed(10, "n", "m")->base_dir = 3;
    renamed(11, "m", "k")->want_dir = 4;
    expect(
        "mvdir 2 t=*; mkdir 4 t=x @0; patch 11 t=k c f @1; patch 10 t=m c f @2; rmdir 3 @3; mvdir 2 t=y @4",
        6);
}

static void test_adoption(void **state) {
    (void)state;
    start();
    based(10, "a", ROOT)->want_name = NULL;
    fresh(11, "a", ROOT);
    expect("adopt 11<10", 0);
    renamed(10, "a", "a~");
    fresh(11, "a", 2);
    fresh(12, "x", ROOT);
    expect("adopt 11<10", 0);
    /* the vacated one's own hold doesn't matter, the adopter's does */
    hold(renamed(10, "a", "a~"), true, true);
    hold(fresh(11, "a", ROOT), false, true);
    expect("adopt 11<10", 0);
    hold(renamed(10, "a", "a~"), true, true);
    hold(fresh(11, "a", ROOT), true, false);
    expect("", 0);
    based(10, "a", ROOT)->want_name = NULL;
    hold(fresh(11, "a", ROOT), true, false);
    expect("", 0); /* kept for it */
    renamed(10, "a", "b")->cold = true;
    fresh(11, "a", ROOT);
    fresh(12, "c", ROOT);
    expect("fetch 10; create 12 t=c", 1);
    renamed(10, "a", "b")->cold = true;
    expect("patch 10 t=b c", 1);
    /* under its shown name too */
    renamed(10, "my-note", "b")->base_shown = "My note";
    fresh(11, "My note", ROOT);
    expect("adopt 11<10", 0);
    renamed(10, "my-note", "b")->base_shown = "My note";
    fresh(11, "my-note", ROOT);
    expect("adopt 11<10", 0);
    /* dropping an alias gives nothing up */
    renamed(10, "my-note", "my-note")->base_shown = "My note";
    fresh(11, "My note", ROOT);
    expect("patch 10 t=my-note c; create 11 t=My note @0", 2);
    /* a move of the same name neither */
    based(10, "a", ROOT)->want_dir = 2;
    fresh(11, "a", ROOT);
    expect("move 10", 1);
    /* several at once; each base goes once */
    renamed(10, "a", "b");
    based(11, "b", ROOT)->want_name = NULL;
    fresh(12, "a", ROOT);
    expect("adopt 12<10", 0);
    based(10, "a", ROOT)->want_name = NULL;
    based(11, "b", ROOT)->want_name = NULL;
    fresh(12, "b", ROOT);
    fresh(13, "a", ROOT);
    expect("adopt 12<11; adopt 13<10", 0);
    renamed(10, "my-note", "b")->base_shown = "My note";
    fresh(11, "My note", ROOT);
    fresh(12, "my-note", ROOT);
    expect("adopt 11<10", 0);
}

static void test_adoption_preference(void **state) {
    (void)state;
    start();
    /* the same directory before the deleted one, that before the renamed one */
    based(10, "x", 2)->base_shown = "a";
    scene.notes[0].want_name = NULL;
    renamed(12, "a", "b")->base_dir = 3;
    fresh(13, "a", 3);
    expect("adopt 13<12", 0);
    renamed(12, "a", "b");
    based(10, "x", ROOT)->base_shown = "a";
    scene.notes[1].want_name = NULL;
    fresh(13, "a", 3);
    expect("adopt 13<10", 0);
    renamed(12, "a", "b");
    based(10, "x", ROOT)->base_shown = "a";
    scene.notes[1].want_name = NULL;
    fresh(13, "a", ROOT);
    expect("adopt 13<10", 0);
}

static void test_no_adoption(void **state) {
    (void)state;
    start();
    locked(based(10, "a", ROOT))->want_name = NULL;
    fresh(11, "a", ROOT);
    expect("delete 10; create 11 t=a @0", 2);
    rich(based(10, "a", ROOT))->want_name = NULL;
    fresh(11, "a", ROOT);
    expect("delete 10; create 11 t=a @0", 2);
    based(10, "a", ROOT)->want_name = NULL;
    fresh(11, "a", ROOT)->want_locked = true;
    expect("delete 10; create 11 t=a @0", 2);
    based(10, "a", ROOT)->want_name = NULL;
    scene.notes[0].busy = true;
    fresh(11, "a", ROOT);
    expect("", 0);
    based(10, "a", ROOT)->want_name = NULL;
    fresh(11, "a", ROOT)->busy = true;
    expect("delete 10", 1);
    based(10, "a", ROOT)->want_name = NULL;
    fresh(11, "a", ROOT)->local = true;
    expect("delete 10", 1);
}

static void test_folder_adoption(void **state) {
    (void)state;
    start();
    folder(2, "P", NULL);
    folder(3, NULL, "p");
    based(10, "a", 2)->want_dir = 3;
    expect("adopt-dir 3<2", 0);
    folder(2, "P", NULL)->hold = true;
    folder(3, NULL, "P");
    expect("adopt-dir 3<2", 0);
    folder(2, "p", NULL);
    folder(3, NULL, "p")->hold = true;
    expect("", 0);
    folder(2, "P", NULL);
    folder(3, NULL, "P")->busy = true;
    expect("rmdir 2", 1);
    folder(2, "P", NULL)->busy = true;
    folder(3, NULL, "P");
    expect("", 0);
    /* a renamed folder takes its notes along */
    folder(2, "P", "Q");
    folder(3, NULL, "P");
    expect("mvdir 2 t=Q; mkdir 3 t=P @0", 2);
}

static void test_fair(void **state) {
    (void)state;
    start();
    with_body(based(10, "a", ROOT), PLAN_BODY_APPEND);
    based(11, "b", ROOT)->want_name = NULL;
    fresh(12, "c", ROOT)->want_locked = true;
    with_body(based(13, "d", ROOT), PLAN_BODY_REWRITE);
    based(14, "e", ROOT)->want_dir = 2;
    with_body(based(15, "f", ROOT), PLAN_BODY_APPEND);
    expect("append 10; delete 11; create 12 t=c; patch 13 c; move 14; append 15", 6);
}

/* The dances of common programs, adoptions carried out by hand: one write call each. */
static void test_one_action_one_call(void **state) {
    (void)state;
    start();
    with_body(based(11, "a", ROOT), PLAN_BODY_REWRITE); /* vim, sed -i: after the adoption */
    struct plan_note *backup = fresh(10, "a~", ROOT);
    backup->local = true;
    expect("patch 11 c", 1);
    with_body(based(11, "a", ROOT), PLAN_BODY_REWRITE)->base_dir = 2; /* mv -f P/new a */
    expect("patch 11 c f", 1);
    folder(2, NULL, "P"); /* cp -r */
    fresh_many(50, 50, 1);
    for (size_t i = 0; i < 50; i++)
        scene.notes[i].want_dir = 2;
    expect_calls(51, 2);
}

/* --- random numbers --- */

static uint64_t random_state;
static uint64_t random_seed;

static void random_start(uint64_t seed) {
    random_seed = seed;
    random_state = seed * 0x9E3779B97F4A7C15u + 1;
}

static uint32_t random_below(uint32_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % bound;
}

static bool one_in(uint32_t n) {
    return random_below(n) == 0;
}

static void shuffle(size_t *items, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t j = random_below((uint32_t)i);
        size_t item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}

#define broken(...)                                                                                          \
    do {                                                                                                     \
        print_error("TEST_SEED=%llu: ", (unsigned long long)random_seed);                                    \
        fail_msg(__VA_ARGS__);                                                                               \
    } while (0)

/* --- the model: a strict service, and a tree of nodes --- */

enum { NOTES = 12, FOLDERS = 4, NODES = NOTES + FOLDERS, NAME = 32, BODY = 128, REMOTE = 64, NOTE_INO = 100 };

struct remote_note {
    int64_t id; /* 0: none */
    char name[NAME];
    int64_t folder;
    char body[BODY];
    bool locked;
    bool rich;
};

struct remote_folder {
    int64_t id;
    char name[NAME];
};

/* What a request says, fixed when it is sent. */
struct request {
    struct plan_step step;
    char name[NAME];
    char body[BODY];
    uint64_t dir;
    bool sent;
};

struct file {
    int64_t id;
    char name[NAME];
    char shown[NAME];
    uint64_t dir;
    char body[BODY];
    bool locked;
    bool rich;
    char want_name[NAME]; /* "": gone */
    uint64_t want_dir;
    char want_body[BODY];
    bool append_creates;
    bool want_locked;
    bool local;
    unsigned hold_name; /* rounds */
    unsigned hold_body;
    unsigned batch_max;
    struct request request;
};

struct dir {
    int64_t id;
    char name[NAME];
    char want_name[NAME];
    unsigned hold;
    struct request request;
};

static struct {
    struct remote_note notes[REMOTE];
    struct remote_folder folders[REMOTE];
    int64_t next_id;
    bool slugs; /* filenames are lower-cased titles: every name has an alias */
    size_t calls;
    struct file files[NOTES];
    size_t file_count;
    struct dir dirs[FOLDERS];
    size_t dir_count;
    uint64_t batch_bytes;
    unsigned edits; /* how often want still changes on the way */
} world;

static struct file *file_of(uint64_t ino) {
    assert_in_range(ino, NOTE_INO, NOTE_INO + world.file_count - 1);
    return &world.files[ino - NOTE_INO];
}

static struct dir *dir_of(uint64_t ino) {
    assert_in_range(ino, ROOT + 1, ROOT + world.dir_count);
    return &world.dirs[ino - ROOT - 1];
}

static uint64_t ino_of_file(size_t i) {
    return NOTE_INO + i;
}

static uint64_t ino_of_dir(size_t i) {
    return ROOT + 1 + i;
}

/* FROM may be TO. */
static void set_text(char *to, const char *from, size_t room) {
    size_t length = strlen(from);
    assert_true(length < room);
    memmove(to, from, length + 1);
}

static void set_name(char to[NAME], const char *from) {
    set_text(to, from, NAME);
}

static void set_body(char to[BODY], const char *from) {
    set_text(to, from, BODY);
}

static void set_filename(char to[NAME], const char *title) {
    set_name(to, title);
    for (char *c = to; *c && world.slugs; c++)
        *c = (char)tolower((unsigned char)*c);
}

static struct remote_note *remote_note(int64_t id) {
    for (size_t i = 0; i < REMOTE; i++) {
        if (id != 0 && world.notes[i].id == id)
            return &world.notes[i];
    }
    broken("unknown note %lld", (long long)id);
    return NULL;
}

static struct remote_folder *remote_folder(int64_t id) {
    for (size_t i = 0; i < REMOTE; i++) {
        if (id != 0 && world.folders[i].id == id)
            return &world.folders[i];
    }
    broken("unknown folder %lld", (long long)id);
    return NULL;
}

static int64_t folder_id(uint64_t dir) {
    return dir == ROOT ? 0 : remote_folder(dir_of(dir)->id)->id;
}

static void check_free(const char *title, int64_t self) {
    char name[NAME];
    set_filename(name, title);
    for (size_t i = 0; i < REMOTE; i++) {
        if (world.notes[i].id != 0 && world.notes[i].id != self && strcmp(world.notes[i].name, name) == 0)
            broken("422: filename %s is taken", name);
    }
}

static void check_folder_free(const char *name, int64_t self) {
    for (size_t i = 0; i < REMOTE; i++) {
        const struct remote_folder *other = &world.folders[i];
        if (other->id != 0 && other->id != self && strcasecmp(other->name, name) == 0)
            broken("422: folder %s is taken", name);
    }
}

static struct remote_note *new_remote_note(void) {
    size_t i = 0;
    while (world.notes[i].id != 0)
        i++;
    assert_true(i < REMOTE);
    memset(&world.notes[i], 0, sizeof(world.notes[i]));
    world.notes[i].id = ++world.next_id;
    return &world.notes[i];
}

static struct remote_folder *new_remote_folder(const char *name) {
    size_t i = 0;
    while (world.folders[i].id != 0)
        i++;
    assert_true(i < REMOTE);
    world.folders[i].id = ++world.next_id;
    set_name(world.folders[i].name, name);
    return &world.folders[i];
}

/* --- the model: requests and their replies --- */

static void learn_note(struct file *file, const struct remote_note *note, const char *shown, uint64_t dir) {
    file->id = note->id;
    set_name(file->name, note->name);
    set_name(file->shown, shown);
    file->dir = dir;
    set_body(file->body, note->body);
    file->locked = note->locked;
    file->rich = note->rich;
}

static void serve_create(struct file *file, const struct request *request) {
    check_free(request->name, 0);
    struct remote_note *note = new_remote_note();
    set_filename(note->name, request->name);
    set_body(note->body, request->body);
    if (request->step.op == PLAN_APPEND_CREATE && (request->dir != ROOT || file->want_locked))
        broken("append can't create that");
    note->folder = folder_id(request->dir);
    note->locked = file->want_locked;
    learn_note(file, note, request->name, request->dir);
}

static void serve_patch(struct file *file, const struct request *request) {
    struct remote_note *note = remote_note(file->id);
    unsigned fields = request->step.fields;
    if (fields == 0 || ((fields & PLAN_TITLE) && !(fields & PLAN_CONTENT)))
        broken("422: title without content");
    if ((fields & PLAN_CONTENT) && (note->locked || note->rich))
        broken("403: content of a locked or rich note");
    if (fields & PLAN_TITLE) {
        check_free(request->name, note->id);
        set_filename(note->name, request->name);
    }
    if (fields & PLAN_CONTENT)
        set_body(note->body, request->body);
    if (fields & PLAN_FOLDER)
        note->folder = folder_id(request->dir);
    learn_note(file, note, fields & PLAN_TITLE ? request->name : file->shown,
               fields & PLAN_FOLDER ? request->dir : file->dir);
}

static void serve_append(struct file *file, const struct request *request) {
    struct remote_note *note = remote_note(file->id);
    if (note->rich)
        broken("422: append to a rich note");
    size_t length = strlen(note->body);
    int added = snprintf(note->body + length, BODY - length, "\n%s", request->body);
    assert_true(added > 1 && length + (size_t)added < BODY);
    learn_note(file, note, file->shown, file->dir);
}

static void serve_file(struct file *file, const struct request *request) {
    switch (request->step.op) {
    case PLAN_CREATE:
    case PLAN_APPEND_CREATE:
        serve_create(file, request);
        break;
    case PLAN_PATCH:
        serve_patch(file, request);
        break;
    case PLAN_APPEND:
        serve_append(file, request);
        break;
    case PLAN_MOVE:
        remote_note(file->id)->folder = folder_id(request->dir);
        file->dir = request->dir;
        break;
    case PLAN_DELETE:
        remote_note(file->id)->id = 0;
        file->id = 0;
        break;
    default:
        broken("%s of a file", op_name(request->step.op));
    }
}

static void serve_dir(struct dir *dir, const struct request *request) {
    switch (request->step.op) {
    case PLAN_FOLDER_CREATE:
        check_folder_free(request->name, 0);
        dir->id = new_remote_folder(request->name)->id;
        set_name(dir->name, request->name);
        break;
    case PLAN_FOLDER_RENAME:
        check_folder_free(request->name, dir->id);
        set_name(remote_folder(dir->id)->name, request->name);
        set_name(dir->name, request->name);
        break;
    case PLAN_FOLDER_DELETE:
        for (size_t i = 0; i < REMOTE; i++) {
            if (world.notes[i].id != 0 && world.notes[i].folder == dir->id)
                broken("note %s would be un-foldered", world.notes[i].name);
        }
        remote_folder(dir->id)->id = 0;
        dir->id = 0;
        break;
    default:
        broken("%s of a folder", op_name(request->step.op));
    }
}

static bool is_file(uint64_t ino) {
    return ino >= NOTE_INO;
}

static struct request *request_of(uint64_t ino) {
    return is_file(ino) ? &file_of(ino)->request : &dir_of(ino)->request;
}

static void serve(uint64_t ino) {
    struct request *request = request_of(ino);
    request->sent = false;
    if (is_file(ino))
        serve_file(file_of(ino), request);
    else
        serve_dir(dir_of(ino), request);
}

/* --- the model: input, and what may be sent --- */

static enum plan_body body_relation(const struct file *file) {
    size_t length = strlen(file->body);
    if (file->id != 0 && strcmp(file->body, file->want_body) == 0)
        return PLAN_BODY_SAME;
    bool extends = file->id != 0 && strncmp(file->body, file->want_body, length) == 0;
    return extends && file->want_body[length] == '\n' ? PLAN_BODY_APPEND : PLAN_BODY_REWRITE;
}

static bool file_is_clean(const struct file *file) {
    if (file->want_name[0] == '\0' || file->local)
        return file->id == 0;
    return file->id != 0 && strcmp(file->want_name, file->shown) == 0 && file->dir == file->want_dir &&
           body_relation(file) == PLAN_BODY_SAME;
}

static bool dir_is_clean(const struct dir *dir) {
    return dir->want_name[0] == '\0' ? dir->id == 0 : dir->id != 0 && strcmp(dir->want_name, dir->name) == 0;
}

static struct plan_note note_input(size_t i) {
    const struct file *file = &world.files[i];
    const struct request *request = &file->request;
    bool names = request->step.op == PLAN_CREATE || request->step.op == PLAN_APPEND_CREATE ||
                 (request->step.op == PLAN_PATCH && (request->step.fields & PLAN_TITLE));
    return (struct plan_note){
        .ino = ino_of_file(i),
        .base_id = file->id,
        .base_name = file->id ? file->name : NULL,
        .base_shown = file->id ? file->shown : NULL,
        .base_dir = file->id ? file->dir : 0,
        .locked = file->id != 0 && file->locked,
        .rich = file->id != 0 && file->rich,
        .want_name = file->want_name[0] ? file->want_name : NULL,
        .want_dir = file->want_dir,
        .body = body_relation(file),
        .body_bytes = strlen(file->want_body),
        .append_creates = file->append_creates,
        .want_locked = file->id == 0 && file->want_locked,
        .local = file->local,
        .hold_name = file->hold_name > 0,
        .hold_body = file->hold_body > 0,
        .busy = request->sent,
        .busy_name = request->sent && names ? request->name : NULL,
        .busy_dir = request->sent ? request->dir : 0,
        .batch_max = file->batch_max,
    };
}

static struct plan_folder folder_input(size_t i) {
    const struct dir *dir = &world.dirs[i];
    const struct request *request = &dir->request;
    return (struct plan_folder){
        .ino = ino_of_dir(i),
        .base_id = dir->id,
        .base_name = dir->id ? dir->name : NULL,
        .base_shown = dir->id ? dir->name : NULL,
        .want_name = dir->want_name[0] ? dir->want_name : NULL,
        .hold = dir->hold > 0,
        .busy = request->sent,
        .busy_name = request->sent && request->step.op != PLAN_FOLDER_DELETE ? request->name : NULL,
    };
}

/* Dirty and busy nodes, some clean ones, in any order. */
static void fill_input(struct plan_input *input, struct plan_folder *folders, struct plan_note *notes) {
    size_t order[NODES];
    *input = (struct plan_input){.folders = folders, .notes = notes, .batch_bytes = world.batch_bytes};
    for (size_t i = 0; i < NODES; i++)
        order[i] = i;
    shuffle(order, NODES);
    for (size_t k = 0; k < NODES; k++) {
        size_t i = order[k];
        if (i < world.file_count) {
            const struct file *file = &world.files[i];
            if (file->request.sent || !file_is_clean(file) || one_in(3))
                notes[input->note_count++] = note_input(i);
        } else if (i >= NOTES && i - NOTES < world.dir_count) {
            const struct dir *dir = &world.dirs[i - NOTES];
            if (dir->request.sent || !dir_is_clean(dir) || one_in(3))
                folders[input->folder_count++] = folder_input(i - NOTES);
        }
    }
}

static void check_holds(const struct file *file, const struct plan_step *step) {
    bool content_only = step->op == PLAN_APPEND || (step->op == PLAN_PATCH && step->fields == PLAN_CONTENT);
    if (file->hold_name > 0 && !content_only)
        broken("%s in spite of a held name", op_name(step->op));
    bool rewrite = step->op == PLAN_CREATE || step->op == PLAN_PATCH;
    if (file->hold_body > 0 && rewrite && !file->append_creates && body_relation(file) == PLAN_BODY_REWRITE)
        broken("%s in spite of a held body", op_name(step->op));
}

static void send_file(const struct plan_step *step) {
    struct file *file = file_of(step->ino);
    struct request *request = &file->request;
    check_holds(file, step);
    *request = (struct request){.step = *step, .sent = true};
    if (step->temporary)
        snprintf(request->name, NAME, "tmp-%lld", (long long)file->id);
    else if (step->title)
        set_name(request->name, step->title);
    set_body(request->body, file->want_body);
    if (step->op == PLAN_APPEND)
        set_body(request->body, file->want_body + strlen(file->body) + 1);
    bool placed = step->op == PLAN_CREATE || step->op == PLAN_APPEND_CREATE || step->op == PLAN_MOVE ||
                  (step->op == PLAN_PATCH && (step->fields & PLAN_FOLDER));
    request->dir = placed ? file->want_dir : 0;
}

static void send_dir(const struct plan_step *step) {
    struct dir *dir = dir_of(step->ino);
    if (dir->hold > 0)
        broken("%s in spite of a hold", op_name(step->op));
    dir->request = (struct request){.step = *step, .sent = true};
    if (step->temporary)
        snprintf(dir->request.name, NAME, "tmp-%lld", (long long)dir->id);
    else if (step->title)
        set_name(dir->request.name, step->title);
}

static void send_step(const struct plan_step *step) {
    if (request_of(step->ino)->sent)
        broken("two requests in flight for %u", (unsigned)step->ino);
    if (is_file(step->ino))
        send_file(step);
    else
        send_dir(step);
}

/* --- the model: adoption and the shape of plans --- */

static void adopt_note(const struct plan_step *step) {
    struct file *file = file_of(step->ino);
    struct file *from = file_of(step->from);
    if (file->id != 0 || file->local || file->hold_name || file->request.sent || file->want_locked)
        broken("%u can't adopt", (unsigned)step->ino);
    if (from->id == 0 || from->locked || from->rich || from->request.sent)
        broken("%u can't be adopted", (unsigned)step->from);
    learn_note(file, remote_note(from->id), from->shown, from->dir);
    from->id = 0;
    from->append_creates = false;
}

static void adopt_folder(const struct plan_step *step) {
    struct dir *dir = dir_of(step->ino);
    struct dir *from = dir_of(step->from);
    if (dir->id != 0 || from->id == 0 || from->request.sent || from->want_name[0] != '\0')
        broken("%u can't adopt", (unsigned)step->ino);
    dir->id = from->id;
    set_name(dir->name, from->name);
    from->id = 0;
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *file = &world.files[i];
        if (file->dir == step->from)
            file->dir = step->ino;
        if (file->request.dir == step->from)
            file->request.dir = step->ino;
    }
}

static bool adopts(const struct plan_step *step) {
    return step->op == PLAN_ADOPT_NOTE || step->op == PLAN_ADOPT_FOLDER;
}

static void carry_out_adoptions(const struct plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->steps[i].op == PLAN_ADOPT_NOTE)
            adopt_note(&plan->steps[i]);
        else if (plan->steps[i].op == PLAN_ADOPT_FOLDER)
            adopt_folder(&plan->steps[i]);
        else
            broken("adoptions and calls in one plan");
    }
}

/* The end of the call that starts at step FIRST: one step, or a whole batch. */
static size_t call_end(const struct plan *plan, size_t first) {
    size_t end = first + 1;
    while (plan->steps[first].batch != 0 && end < plan->count &&
           plan->steps[end].batch == plan->steps[first].batch)
        end++;
    return end;
}

static void check_batch(const struct plan *plan, size_t first, size_t end) {
    uint64_t bytes = 0;
    size_t limit = PLAN_BATCH_MAX;
    for (size_t i = first; i < end; i++) {
        const struct plan_step *step = &plan->steps[i];
        const struct file *file = file_of(step->ino);
        bytes += strlen(file->want_body);
        if (file->batch_max < limit)
            limit = file->batch_max;
        if (step->op != PLAN_CREATE || file->want_locked || step->after != plan->steps[first].after)
            broken("unfit member of a batch");
    }
    if (end - first < 2 || end - first > limit || bytes > world.batch_bytes)
        broken("batch of %zu, %llu bytes", end - first, (unsigned long long)bytes);
}

static size_t check_shape(const struct plan *plan) {
    size_t calls = 0;
    for (size_t first = 0; first < plan->count && !adopts(&plan->steps[0]); calls++) {
        size_t end = call_end(plan, first);
        if (plan->steps[first].after != SIZE_MAX && plan->steps[first].after >= first)
            broken("step %zu waits for a later one", first);
        if (plan->steps[first].batch != 0)
            check_batch(plan, first, end);
        first = end;
    }
    if (calls != plan_calls(plan))
        broken("plan_calls");
    return calls;
}

/* --- random worlds --- */

static void random_words(char body[BODY], const char *before) {
    snprintf(body, BODY, "%.60s%sw%u", before, before[0] ? "\n" : "", random_below(1000));
}

static void set_want_body(struct file *file) {
    if (file->id == 0 || (!file->locked && !file->rich && one_in(3)))
        random_words(file->want_body, "");
    else if (!file->rich && one_in(3))
        random_words(file->want_body, file->body);
    else
        set_body(file->want_body, file->body);
}

static void folder_name(char to[NAME], size_t number) {
    snprintf(to, NAME, "%c%c", (one_in(2) ? 'p' : 'P') + (char)number, one_in(2) ? 'x' : 'X');
}

/* Keeps, renames, drops or makes folders; names are unique without case. */
static void set_want_dirs(void) {
    size_t names[FOLDERS];
    for (size_t i = 0; i < FOLDERS; i++)
        names[i] = i;
    shuffle(names, FOLDERS);
    bool keep = one_in(3);
    for (size_t i = 0; i < world.dir_count; i++) {
        struct dir *dir = &world.dirs[i];
        bool leaving = dir->request.sent && dir->request.step.op == PLAN_FOLDER_DELETE;
        if (leaving || one_in(3)) /* an inode that rmdir took never comes back */
            dir->want_name[0] = '\0';
        else if (keep && dir->id != 0)
            set_name(dir->want_name, dir->name);
        else
            folder_name(dir->want_name, names[i]);
    }
    for (size_t i = 0; i < world.dir_count && keep; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcasecmp(world.dirs[i].want_name, world.dirs[j].want_name) == 0)
                world.dirs[i].want_name[0] = '\0';
        }
    }
}

static uint64_t random_want_dir(void) {
    size_t i = random_below(FOLDERS + 1);
    return i < world.dir_count && world.dirs[i].want_name[0] != '\0' ? ino_of_dir(i) : ROOT;
}

static bool is_wanted(const char *name, const struct file *except) {
    for (size_t i = 0; i < world.file_count; i++) {
        if (&world.files[i] != except && strcmp(world.files[i].want_name, name) == 0)
            return true;
    }
    return false;
}

static bool keeps_name(const struct file *file) {
    return file->id != 0 ? file->locked || file->rich : file->request.sent && file->want_locked;
}

/* Fixed names first, then random ones: renames over deleted notes, chains, swaps and cycles come by
 * themselves, as there are hardly more names than notes. */
static void set_want_names(void) {
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *file = &world.files[i];
        if (!keeps_name(file))
            file->want_name[0] = '\0';
        else if (file->id != 0 && one_in(4))
            file->want_name[0] = '\0';
        else if (file->id != 0)
            set_name(file->want_name, file->shown);
    }
    unsigned stay = random_below(4);
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *file = &world.files[i];
        if (keeps_name(file) || file->local || one_in(4))
            continue;
        char name[NAME];
        snprintf(name, NAME, "N%c", 'a' + (char)random_below(NOTES + 1));
        if (file->id != 0 && random_below(4) < stay && strncmp(file->shown, "tmp", 3) != 0)
            set_name(name, file->shown);
        if (!is_wanted(name, file))
            set_name(file->want_name, name);
    }
}

static void set_want(void) {
    set_want_dirs();
    set_want_names();
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *file = &world.files[i];
        if (file->local && !file->request.sent)
            snprintf(file->want_name, NAME, "x%zu~", i);
        file->want_dir = random_want_dir();
        if (file->id != 0 && one_in(3) && (file->dir == ROOT || dir_of(file->dir)->want_name[0] != '\0'))
            file->want_dir = file->dir;
        if (!(file->request.sent && (file->locked || file->want_locked)))
            set_want_body(file);
    }
}

static void start_dirs(void) {
    size_t names[FOLDERS];
    for (size_t i = 0; i < FOLDERS; i++)
        names[i] = i;
    shuffle(names, FOLDERS);
    world.dir_count = random_below(FOLDERS + 1);
    for (size_t i = 0; i < world.dir_count; i++) {
        struct dir *dir = &world.dirs[i];
        if (one_in(3))
            continue;
        folder_name(dir->name, names[i]);
        dir->id = new_remote_folder(dir->name)->id;
    }
}

static void start_file(size_t i, size_t name) {
    struct file *file = &world.files[i];
    file->batch_max = one_in(4) ? 1 + random_below(3) : PLAN_BATCH_MAX;
    if (one_in(3)) {
        file->append_creates = one_in(2);
        file->want_locked = one_in(5);
        file->local = one_in(6);
        return;
    }
    char shown[NAME];
    snprintf(shown, NAME, "N%c", 'a' + (char)name);
    struct remote_note *note = new_remote_note();
    set_filename(note->name, shown);
    random_words(note->body, "");
    note->locked = one_in(8);
    note->rich = !note->locked && one_in(10);
    uint64_t dir = ROOT;
    size_t d = random_below(FOLDERS + 1);
    if (d < world.dir_count && world.dirs[d].id != 0)
        dir = ino_of_dir(d);
    note->folder = folder_id(dir);
    learn_note(file, note, shown, dir);
}

static void start_holds(void) {
    for (size_t i = 0; i < world.file_count; i++) {
        world.files[i].hold_name = one_in(3) ? random_below(6) : 0;
        world.files[i].hold_body = one_in(3) ? random_below(6) : 0;
    }
    for (size_t i = 0; i < world.dir_count; i++)
        world.dirs[i].hold = one_in(3) ? random_below(6) : 0;
}

static void start_world(void) {
    memset(&world, 0, sizeof(world));
    world.slugs = one_in(3);
    world.batch_bytes = one_in(3) ? 5 + random_below(20) : 10000;
    start_dirs();
    size_t names[NOTES];
    for (size_t i = 0; i < NOTES; i++)
        names[i] = i;
    shuffle(names, NOTES);
    world.file_count = random_below(NOTES + 1);
    for (size_t i = 0; i < world.file_count; i++)
        start_file(i, names[i]);
    set_want();
}

/* --- the naive planner: what each node costs by itself, and one more for each knot --- */

static size_t naive_file(const struct file *file) {
    if (file->local || (file->id == 0 && file->want_name[0] == '\0'))
        return 0;
    if (file->id == 0 || file->want_name[0] == '\0')
        return 1;
    return (strcmp(file->want_name, file->shown) != 0) + (file->want_dir != file->dir) +
           (body_relation(file) != PLAN_BODY_SAME);
}

static bool takes_name_of(const struct file *taker, const struct file *holder) {
    bool takes = taker->want_name[0] != '\0' && !taker->local &&
                 (taker->id == 0 || strcmp(taker->want_name, taker->shown) != 0);
    return takes && holder->id != 0 && strcmp(taker->want_name, holder->shown) == 0;
}

static bool dir_takes_name_of(const struct dir *taker, const struct dir *holder) {
    return taker->want_name[0] != '\0' && holder->id != 0 &&
           strcasecmp(taker->want_name, holder->name) == 0 &&
           (taker->id == 0 || strcmp(taker->want_name, taker->name) != 0);
}

/* Whether node A can't go before node B; nodes are the files, then the directories. */
static bool must_wait(size_t a, size_t b) {
    if (a == b)
        return false;
    if (a < NOTES && b < NOTES)
        return takes_name_of(&world.files[a], &world.files[b]);
    if (a < NOTES) {
        const struct file *file = &world.files[a];
        return file->want_name[0] != '\0' && file->want_dir == ino_of_dir(b - NOTES) &&
               world.dirs[b - NOTES].id == 0;
    }
    const struct dir *dir = &world.dirs[a - NOTES];
    if (b < NOTES)
        return dir->id != 0 && dir->want_name[0] == '\0' && world.files[b].id != 0 &&
               world.files[b].dir == ino_of_dir(a - NOTES);
    return dir_takes_name_of(dir, &world.dirs[b - NOTES]);
}

static size_t count_knots(void) {
    bool reach[NODES][NODES];
    for (size_t a = 0; a < NODES; a++) {
        for (size_t b = 0; b < NODES; b++)
            reach[a][b] = must_wait(a, b);
    }
    for (size_t via = 0; via < NODES; via++) {
        for (size_t a = 0; a < NODES; a++) {
            for (size_t b = 0; b < NODES && reach[a][via]; b++)
                reach[a][b] = reach[a][b] || reach[via][b];
        }
    }
    size_t knots = 0;
    for (size_t a = 0; a < NODES; a++) {
        bool oldest = reach[a][a];
        for (size_t b = 0; b < a; b++)
            oldest = oldest && !(reach[a][b] && reach[b][a]);
        knots += oldest;
    }
    return knots;
}

static size_t naive_calls(void) {
    size_t calls = count_knots();
    for (size_t i = 0; i < world.file_count; i++)
        calls += naive_file(&world.files[i]);
    for (size_t i = 0; i < world.dir_count; i++)
        calls += !dir_is_clean(&world.dirs[i]);
    return calls;
}

/* --- random runs --- */

/* What a run that is repeated with TEST_SEED shows of each plan. */
static void trace(const struct plan *plan) {
    char text[TEXT];
    for (size_t i = 0; i < world.dir_count; i++) {
        const struct dir *dir = &world.dirs[i];
        print_message("  dir %u: %lld '%s' -> '%s' hold %u%s\n", (unsigned)ino_of_dir(i), (long long)dir->id,
                      dir->id ? dir->name : "", dir->want_name, dir->hold, dir->request.sent ? " busy" : "");
    }
    for (size_t i = 0; i < world.file_count; i++) {
        const struct file *file = &world.files[i];
        print_message("  file %u: %lld '%s' in %u -> '%s' in %u, body %u hold %u %u%s%s%s%s\n",
                      (unsigned)ino_of_file(i), (long long)file->id, file->id ? file->shown : "",
                      (unsigned)file->dir, file->want_name, (unsigned)file->want_dir, body_relation(file),
                      file->hold_name, file->hold_body, file->locked || file->want_locked ? " locked" : "",
                      file->rich ? " rich" : "", file->local ? " local" : "",
                      file->request.sent ? " busy" : "");
    }
    render(plan, text);
    print_message("plan: %s\n", text);
}

static void plan_world(struct plan *plan) {
    struct plan_folder folders[FOLDERS + 1];
    struct plan_note notes[NOTES + 1];
    struct plan_input input;
    fill_input(&input, folders, notes);
    assert_int_equal(plan_make(&input, plan), 0);
    if (getenv("TEST_SEED"))
        trace(plan);
    check_shape(plan);
}

/* Sends one call; true when it went. */
static void send_call(const struct plan *plan, size_t first) {
    size_t end = call_end(plan, first);
    for (size_t i = first; i < end; i++)
        send_step(&plan->steps[i]);
    world.calls++;
}

static void serve_batch(unsigned batch, const struct plan *plan, size_t first) {
    for (size_t i = first; i < plan->count && plan->steps[i].batch == batch; i++)
        serve(plan->steps[i].ino);
}

/* The whole list, one after the other. */
static void run_in_order(const struct plan *plan) {
    for (size_t first = 0; first < plan->count; first = call_end(plan, first)) {
        send_call(plan, first);
        if (plan->steps[first].batch != 0)
            serve_batch(plan->steps[first].batch, plan, first);
        else
            serve(plan->steps[first].ino);
    }
}

static size_t flying(uint64_t inos[NODES]) {
    size_t count = 0;
    for (size_t i = 0; i < world.file_count; i++) {
        if (world.files[i].request.sent)
            inos[count++] = ino_of_file(i);
    }
    for (size_t i = 0; i < world.dir_count; i++) {
        if (world.dirs[i].request.sent)
            inos[count++] = ino_of_dir(i);
    }
    return count;
}

/* Some of what is ready, in any order; false when nothing could be sent. */
static bool send_some(const struct plan *plan) {
    size_t ready[2 * NODES];
    size_t count = 0;
    for (size_t first = 0; first < plan->count; first = call_end(plan, first)) {
        if (plan->steps[first].after == SIZE_MAX)
            ready[count++] = first;
    }
    shuffle(ready, count);
    size_t some = count == 0 ? 0 : 1 + random_below((uint32_t)count);
    for (size_t i = 0; i < some; i++)
        send_call(plan, ready[i]);
    return count > 0;
}

/* Answers some of what is in flight, in any order; false when nothing is. */
static bool answer_some(void) {
    uint64_t inos[NODES];
    size_t order[NODES];
    size_t count = flying(inos);
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    shuffle(order, count);
    size_t some = count == 0 ? 0 : 1 + random_below((uint32_t)count);
    for (size_t i = 0; i < some; i++)
        serve(inos[order[i]]);
    return count > 0;
}

static bool release_holds(bool all) {
    bool any = false;
    for (size_t i = 0; i < world.file_count; i++) {
        struct file *file = &world.files[i];
        any = any || file->hold_name > 0 || file->hold_body > 0;
        file->hold_name -= file->hold_name > 0 ? (all ? file->hold_name : 1) : 0;
        file->hold_body -= file->hold_body > 0 ? (all ? file->hold_body : 1) : 0;
    }
    for (size_t i = 0; i < world.dir_count; i++) {
        struct dir *dir = &world.dirs[i];
        any = any || dir->hold > 0;
        dir->hold -= dir->hold > 0 ? (all ? dir->hold : 1) : 0;
    }
    return any;
}

static void check_file(const struct file *file) {
    if (!file_is_clean(file))
        broken("%s isn't clean", file->want_name);
    if (file->id == 0)
        return;
    const struct remote_note *note = remote_note(file->id);
    char name[NAME];
    set_filename(name, file->want_name);
    if (strcmp(note->name, name) != 0 || strcmp(note->body, file->want_body) != 0 ||
        note->folder != folder_id(file->want_dir))
        broken("%s isn't as wanted", name);
}

static void check_end(void) {
    size_t files = 0;
    size_t dirs = 0;
    for (size_t i = 0; i < world.file_count; i++) {
        check_file(&world.files[i]);
        files += world.files[i].id != 0;
    }
    for (size_t i = 0; i < world.dir_count; i++) {
        if (!dir_is_clean(&world.dirs[i]) ||
            (world.dirs[i].id && strcmp(remote_folder(world.dirs[i].id)->name, world.dirs[i].want_name) != 0))
            broken("folder %s isn't as wanted", world.dirs[i].want_name);
        dirs += world.dirs[i].id != 0;
    }
    for (size_t i = 0; i < REMOTE; i++) {
        files -= world.notes[i].id != 0;
        dirs -= world.folders[i].id != 0;
    }
    if (files != 0 || dirs != 0)
        broken("something is left over");
}

/* One plan and what comes of it; false when all is done. */
static bool run_round(bool in_order) {
    struct plan plan;
    plan_world(&plan);
    bool more = plan.count > 0;
    if (more && adopts(&plan.steps[0])) {
        carry_out_adoptions(&plan);
    } else if (in_order) {
        run_in_order(&plan);
        plan_release(&plan);
        return release_holds(false) || more;
    } else {
        bool sent = !one_in(4) && send_some(&plan);
        bool answered = !one_in(3) && answer_some();
        if (world.edits > 0 && one_in(4)) {
            world.edits--;
            set_want();
            more = true;
        }
        uint64_t inos[NODES];
        more = sent || answered || more || flying(inos) > 0;
        more = release_holds(!more) || more;
    }
    plan_release(&plan);
    return more;
}

static void run_world(void) {
    start_world();
    bool in_order = one_in(2);
    bool held = one_in(2);
    if (held)
        start_holds();
    world.edits = in_order || !one_in(3) ? 0 : 1 + random_below(3);
    bool edited = world.edits > 0;
    size_t naive = naive_calls();
    unsigned rounds = 0;
    unsigned busy_rounds = 0;
    bool more = true;
    while (more) {
        size_t before = world.calls;
        more = run_round(in_order);
        busy_rounds += world.calls > before;
        if (++rounds > 1000)
            broken("no end");
    }
    check_end();
    if (!edited && world.calls > naive)
        broken("%zu calls, the naive planner needs %zu", world.calls, naive);
    if (in_order && !held && busy_rounds > 1)
        broken("the first plan wasn't complete");
}

static void test_random(void **state) {
    (void)state;
    const char *only = getenv("TEST_SEED");
    uint64_t first = only ? strtoull(only, NULL, 10) : 1;
    uint64_t last = only ? first : 30000;
    for (uint64_t seed = first; seed <= last; seed++) {
        random_start(seed);
        run_world();
    }
}

/* --- size --- */

enum { MANY = 10000 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TIMED 0
#elif defined(__has_feature)
#define TIMED (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define TIMED 1
#endif

static struct plan_note many_notes[MANY];
static char many_names[MANY][24];

static double plan_many_ms(size_t *out_calls) {
    struct plan_input input = {.notes = many_notes, .note_count = MANY, .batch_bytes = 1 << 20};
    struct plan plan;
    clock_t begin = clock();
    assert_int_equal(plan_make(&input, &plan), 0);
    double ms = (double)(clock() - begin) * 1000.0 / CLOCKS_PER_SEC;
    *out_calls = plan_calls(&plan);
    plan_release(&plan);
    return ms;
}

/* The best of five, as the machine has other work. */
static void expect_fast(size_t calls) {
    double best = 1e9;
    for (unsigned i = 0; i < 5; i++) {
        size_t got;
        double ms = plan_many_ms(&got);
        best = ms < best ? ms : best;
        assert_int_equal(got, calls);
    }
    if (getenv("TEST_VERBOSE"))
        print_message("%zu calls planned in %.1f ms\n", calls, best);
    if (TIMED)
        assert_true(best < 50);
}

static void fill_many(bool has_base) {
    memset(many_notes, 0, sizeof(many_notes));
    for (size_t i = 0; i < MANY; i++) {
        struct plan_note *note = &many_notes[i];
        snprintf(many_names[i], sizeof(many_names[i]), "some-note-%zu", i * 7919 % MANY);
        note->ino = NOTE_INO + i;
        note->batch_max = PLAN_BATCH_MAX;
        note->body = PLAN_BODY_REWRITE;
        note->want_name = many_names[i];
        note->want_dir = ROOT;
        if (!has_base)
            continue;
        note->base_id = (int64_t)i + 1;
        note->base_name = note->base_shown = many_names[i];
        note->base_dir = ROOT;
    }
}

static void test_many(void **state) {
    (void)state;
    fill_many(true);
    expect_fast(MANY);
    fill_many(false);
    expect_fast(MANY / PLAN_BATCH_MAX);
    fill_many(true); /* one long chain, against the order of the input */
    for (size_t i = 0; i + 1 < MANY; i++)
        many_notes[i].want_name = many_names[i + 1];
    many_notes[MANY - 1].want_name = "free";
    expect_fast(MANY);
    many_notes[MANY - 1].want_name = many_names[0];
    expect_fast(MANY + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_based_note),
        cmocka_unit_test(test_alias),
        cmocka_unit_test(test_locked_and_rich),
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_folder_names),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_mixed_cycle),
        cmocka_unit_test(test_adoption),
        cmocka_unit_test(test_adoption_preference),
        cmocka_unit_test(test_no_adoption),
        cmocka_unit_test(test_folder_adoption),
        cmocka_unit_test(test_fair),
        cmocka_unit_test(test_one_action_one_call),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
