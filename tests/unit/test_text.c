/* Tests of cache/text against a small model of the service that plays every separator
 * rule (API.md C1). Random runs print their seed when they fail: TEST_SEED=N repeats one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/text.h"
#include "tests/unit/seeds.h"

enum { ROOM = 4096, ROUNDS = 20000, STEPS = 12 };

/* A byte string of bounded size. */
struct bytes {
    char data[ROOM];
    size_t size;
};

static void bytes_add(struct bytes *to, const char *data, size_t size) {
    assert_true(to->size + size <= ROOM);
    memmove(to->data + to->size, data, size);
    to->size += size;
}

static void bytes_set(struct bytes *to, const char *data, size_t size) {
    to->size = 0;
    bytes_add(to, data, size);
}

static void bytes_drop(struct bytes *from, size_t size) {
    assert_true(size <= from->size);
    memmove(from->data, from->data + size, from->size - size);
    from->size -= size;
}

static bool bytes_equal(const struct bytes *a, const struct bytes *b) {
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* Adds short random text, rich in newlines. */
static void bytes_add_random(struct bytes *to) {
    static const char *const pieces[] = {"\n", "\n",       "\n\n",  "a",      "b\n",
                                         "cd", "\303\251", "e f\n", "\n\ng\n"};

    for (uint32_t n = random_below(4) + 1; n > 0; n--) {
        const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
        bytes_add(to, piece, strlen(piece));
    }
}

/* What a program sees of BODY. */
static void show(const struct bytes *body, bool exact, struct bytes *out) {
    *out = *body;
    if (body->size > 0 && body->data[body->size - 1] != '\n' && !exact)
        bytes_add(out, "\n", 1);
}

/* The service. */
struct model {
    struct bytes body;
    enum text_rule rule;
    bool chomps;
};

static uint64_t model_append(struct model *model, const char *text, size_t size) {
    bool ends_in_newline = model->body.size > 0 && model->body.data[model->body.size - 1] == '\n';

    REQUIRE(size > 0);
    if (model->chomps && text[size - 1] == '\n')
        size--;
    if (model->body.size > 0 && !(model->rule == TEXT_RULE_MISSING && ends_in_newline))
        bytes_add(&model->body, "\n", 1);
    bytes_add(&model->body, text, size);
    return model->body.size;
}

/* One note, seen from both sides. */
struct note {
    struct model model;
    struct text_tail tail;
    bool exact;
    struct bytes file;   /* what the program made of it */
    struct bytes unsent; /* appended and not yet in the model */
    unsigned appends, rewrites;
};

static void note_start(struct note *note, bool locked) {
    memset(note, 0, sizeof *note);
    note->model.rule = random_below(2) ? TEXT_RULE_ALWAYS : TEXT_RULE_MISSING;
    note->model.chomps = random_below(2);
    note->tail.rule = random_below(2) ? note->model.rule : TEXT_RULE_UNKNOWN;
    note->tail.locked = locked;
    note->tail.learn_limit = ROOM;
    if (random_below(4))
        bytes_add_random(&note->model.body);
    show(&note->model.body, false, &note->file);
    note->tail.body_size = random_below(2) ? note->model.body.size : UINT64_MAX;
}

static void note_learn(struct note *note) {
    note->tail.body_size = note->model.body.size;
    note->tail.end = text_end_of(note->model.body.data, note->model.body.size);
}

static void note_rewrite(struct note *note) {
    size_t tail_size = note->file.size < 2 ? note->file.size : 2;
    const char *tail = note->file.data + note->file.size - tail_size;
    uint64_t stored = text_stored_size(note->file.size, tail, tail_size, &note->exact);

    REQUIRE(!note->tail.locked);
    bytes_set(&note->model.body, note->file.data, stored);
    note->unsent.size = 0;
    note->tail.glued = note->exact;
    note->rewrites++;
    note_learn(note);
}

static void note_append(struct note *note, const struct text_append *plan) {
    uint64_t before = note->model.body.size;
    enum text_end end = text_end_of(note->model.body.data, before);
    bool held_back = !plan->partial;

    REQUIRE(plan->text_size > 0 && plan->consumed == plan->text_size + held_back);
    REQUIRE(plan->consumed <= note->unsent.size);
    REQUIRE(note->unsent.data[plan->text_size - 1] != '\n');
    REQUIRE(!held_back || note->unsent.data[plan->text_size] == '\n');

    uint64_t after = model_append(&note->model, note->unsent.data, plan->text_size);
    enum text_rule learnt = text_learn_rule(before, end, plan->text_size, after);

    REQUIRE(plan->predicted == UINT64_MAX || plan->predicted == after);
    REQUIRE(learnt == (end == TEXT_END_NEWLINE ? note->model.rule : TEXT_RULE_UNKNOWN));
    bytes_drop(&note->unsent, plan->consumed);
    note->exact = plan->partial;
    note->tail.glued = plan->partial;
    note->appends++;
    note_learn(note);
}

/* Does what the plan says until nothing is left to do; returns the number of calls. */
static unsigned note_push(struct note *note, enum text_patience patience, size_t limit) {
    struct text_append plan;

    note->tail.patience = patience;
    for (unsigned calls = 0;; calls++) {
        REQUIRE(calls < ROOM);
        switch (text_plan_append(&note->tail, note->unsent.data, note->unsent.size, limit, &plan)) {
        case TEXT_NOTHING:
            return calls;
        case TEXT_APPEND:
            REQUIRE(plan.text_size <= limit);
            note_append(note, &plan);
            break;
        case TEXT_REWRITE:
            note_rewrite(note);
            break;
        case TEXT_LEARN:
            REQUIRE(note->tail.end == TEXT_END_UNKNOWN);
            note_learn(note);
            break;
        case TEXT_ENDED:
            REQUIRE(note->exact && plan.consumed == 1 && plan.text_size == 0 && note->unsent.data[0] == '\n');
            bytes_drop(&note->unsent, 1);
            note->exact = note->tail.glued = false;
            break;
        }
    }
}

/* What is stored, with what waits behind it, is the file. */
static void require_file(const struct note *note) {
    struct bytes seen;

    show(&note->model.body, note->exact, &seen);
    bytes_add(&seen, note->unsent.data, note->unsent.size);
    REQUIRE(bytes_equal(&seen, &note->file));
    REQUIRE(text_shown_size(note->model.body.size, text_end_of(note->model.body.data, note->model.body.size),
                            note->exact) == note->file.size - note->unsent.size);
}

/* ---- UTF-8 ---- */

static int feed(const char *data, size_t size) {
    struct text_utf8 state = {0};

    return text_utf8_feed(&state, data, size);
}

static void utf8_refuses_what_can_not_be_text(void **unused) {
    (void)unused;
    assert_int_equal(feed("a\303\251\342\202\254\360\237\230\200", 10), 0);
    assert_int_equal(feed("\364\217\277\277", 4), 0);
    assert_int_equal(feed("", 1), -EILSEQ);
    assert_int_equal(feed("\200", 1), -EILSEQ);
    assert_int_equal(feed("\300\200", 2), -EILSEQ);
    assert_int_equal(feed("\301", 1), -EILSEQ);
    assert_int_equal(feed("\340\237", 2), -EILSEQ);
    assert_int_equal(feed("\355\240", 2), -EILSEQ);
    assert_int_equal(feed("\360\217", 2), -EILSEQ);
    assert_int_equal(feed("\364\220", 2), -EILSEQ);
    assert_int_equal(feed("\365", 1), -EILSEQ);
    assert_int_equal(feed("\303a", 2), -EILSEQ);
    assert_int_equal(feed("\342\202\303", 3), -EILSEQ);
}

static void utf8_state_survives_cuts_and_errors(void **unused) {
    (void)unused;
    struct text_utf8 state = {0};
    struct text_utf8 start = {0};

    assert_int_equal(text_utf8_feed(&state, "x\342\202", 3), 0);
    assert_int_equal(state.pending, 1);
    assert_int_equal(text_utf8_feed(&state, "a", 1), -EILSEQ);
    assert_int_equal(state.pending, 1);
    assert_int_equal(text_utf8_feed(&state, "\254ok", 3), 0);
    assert_memory_equal(&state, &start, sizeof state);
}

static void utf8_fragment_knows_no_neighbours(void **unused) {
    (void)unused;
    assert_int_equal(text_utf8_fragment("\237\230\200ab\360\237", 7), 0);
    assert_int_equal(text_utf8_fragment("\200\200\200\200", 4), -EILSEQ);
    assert_int_equal(text_utf8_fragment("a\200", 2), -EILSEQ);
    assert_int_equal(text_utf8_fragment("\200\0", 2), -EILSEQ);
    assert_int_equal(text_utf8_fragment("", 0), 0);
}

static void utf8_whole_cuts_unfinished_characters(void **unused) {
    (void)unused;
    assert_int_equal(text_utf8_whole("ab", 2), 2);
    assert_int_equal(text_utf8_whole("a\303", 2), 1);
    assert_int_equal(text_utf8_whole("a\303\251", 3), 3);
    assert_int_equal(text_utf8_whole("\360\237\230", 3), 0);
    assert_int_equal(text_utf8_whole("\360\237\230\200", 4), 4);
    assert_int_equal(text_utf8_whole("", 0), 0);
}

/* Feeding in two pieces, or byte by byte with the definition spelled out, is the same. */
static void utf8_once(void) {
    static const uint8_t bytes[] = {'a',  0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                    0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF4};
    char data[6];
    struct text_utf8 whole = {0};
    struct text_utf8 pieces = {0};
    size_t cut = random_below(sizeof data + 1);

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)bytes[random_below(sizeof bytes)];
    int expected = text_utf8_feed(&whole, data, sizeof data);
    int actual = text_utf8_feed(&pieces, data, cut);
    if (actual == 0)
        actual = text_utf8_feed(&pieces, data + cut, sizeof data - cut);
    REQUIRE(expected == actual);
    if (expected == 0) {
        REQUIRE(memcmp(&whole, &pieces, sizeof whole) == 0);
        REQUIRE((text_utf8_whole(data, sizeof data) == sizeof data) == (whole.pending == 0));
    }
}

static void utf8_random_pieces(void **unused) {
    (void)unused;
    each_seed(ROUNDS, utf8_once);
}

/* ---- sizes ---- */

static void size_of_view(void **unused) {
    (void)unused;
    assert_int_equal(text_shown_size(0, TEXT_END_EMPTY, false), 0);
    assert_int_equal(text_shown_size(0, TEXT_END_UNKNOWN, false), 0);
    assert_int_equal(text_shown_size(3, TEXT_END_LINE, false), 4);
    assert_int_equal(text_shown_size(3, TEXT_END_LINE, true), 3);
    assert_int_equal(text_shown_size(3, TEXT_END_NEWLINE, false), 3);
    assert_int_equal(text_shown_size(3, TEXT_END_UNKNOWN, false), 4);
}

static void lone_newline_is_stored_as_it_is(void **unused) {
    (void)unused;
    bool exact = true;

    assert_int_equal(text_stored_size(1, "\n", 1, &exact), 1);
    assert_false(exact);
    assert_int_equal(text_stored_size(0, "", 0, &exact), 0);
    assert_false(exact);
    assert_int_equal(text_stored_size(2, "a\n", 2, &exact), 1);
    assert_int_equal(text_stored_size(9, "\n\n", 2, &exact), 9);
    assert_int_equal(text_stored_size(9, "\na", 2, &exact), 9);
    assert_true(exact);
}

static void rewrite_once(void) {
    struct note note;

    note_start(&note, false);
    note.file.size = 0;
    if (random_below(8))
        bytes_add_random(&note.file);
    note_rewrite(&note);
    require_file(&note);
    REQUIRE(!note.exact || note.file.data[note.file.size - 1] != '\n');
}

static void rewrites_show_the_file(void **unused) {
    (void)unused;
    each_seed(ROUNDS, rewrite_once);
}

/* ---- appends ---- */

/* Editable notes: whatever is appended in whatever pieces, under every rule, after a flush
 * the note shows the file, to the byte. */
static void editable_once(void) {
    struct note note;
    size_t limit = random_below(2) ? SIZE_MAX : 4 + random_below(8);

    note_start(&note, false);
    for (unsigned step = 0; step < STEPS; step++) {
        size_t before = note.file.size;
        bytes_add_random(&note.file);
        bytes_add(&note.unsent, note.file.data + before, note.file.size - before);
        note_push(&note, random_below(3) ? TEXT_WAIT : TEXT_FLUSH, limit);
        require_file(&note);
    }
    note_push(&note, TEXT_FLUSH, limit);
    require_file(&note);
    REQUIRE(note.unsent.size == 0);
}

static void editable_notes_become_the_file(void **unused) {
    (void)unused;
    each_seed(ROUNDS, editable_once);
}

/* A logger: complete lines that are not empty. Each push is one append; nothing is ever
 * rewritten unless the body that others left ends in newlines. */
static void logger_once(void) {
    struct note note;

    note_start(&note, false);
    note_learn(&note);
    unsigned excused = note.tail.end == TEXT_END_NEWLINE && note.tail.rule != TEXT_RULE_MISSING;
    for (unsigned step = 0; step < STEPS; step++) {
        for (uint32_t lines = random_below(3) + 1; lines > 0; lines--) {
            bytes_add(&note.file, "line\n", 5);
            bytes_add(&note.unsent, "line\n", 5);
        }
        REQUIRE(note_push(&note, TEXT_WAIT, SIZE_MAX) == 1);
        REQUIRE(note.unsent.size == 0);
        require_file(&note);
    }
    REQUIRE(note.rewrites <= excused);
}

static void loggers_cost_one_append(void **unused) {
    (void)unused;
    each_seed(ROUNDS, logger_once);
}

/* Locked notes: never rewritten, nothing but trailing empty lines is held back by a flush,
 * and where each line is finished before it is flushed the file is exact. */
static void locked_once(void) {
    struct note note;

    note_start(&note, true);
    note_learn(&note);
    bool exact = note.tail.end != TEXT_END_NEWLINE || note.model.rule == TEXT_RULE_MISSING;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t before = note.file.size;
        bytes_add_random(&note.file);
        bytes_add(&note.unsent, note.file.data + before, note.file.size - before);
        note_push(&note, TEXT_WAIT, SIZE_MAX);
        if (exact)
            require_file(&note);
    }
    note_push(&note, TEXT_FLUSH, SIZE_MAX);
    if (exact)
        require_file(&note);
    for (size_t i = 0; i < note.unsent.size; i++)
        REQUIRE(note.unsent.data[i] == '\n');
    REQUIRE(note.rewrites == 0);
}

static void locked_notes_take_whole_lines(void **unused) {
    (void)unused;
    each_seed(ROUNDS, locked_once);
}

/* Locked, flushed at any time and cut anywhere: no byte but newlines may differ. */
static void locked_cut_once(void) {
    struct note note;
    struct bytes seen;
    size_t at = 0;

    note_start(&note, true);
    for (unsigned step = 0; step < STEPS; step++) {
        size_t before = note.file.size;
        bytes_add_random(&note.file);
        bytes_add(&note.unsent, note.file.data + before, note.file.size - before);
        note_push(&note, random_below(2) ? TEXT_WAIT : TEXT_FLUSH, 4 + random_below(40));
    }
    show(&note.model.body, note.exact, &seen);
    bytes_add(&seen, note.unsent.data, note.unsent.size);
    for (size_t i = 0; i < note.file.size; i++) {
        if (note.file.data[i] == '\n')
            continue;
        while (at < seen.size && seen.data[at] == '\n')
            at++;
        REQUIRE(at < seen.size && seen.data[at] == note.file.data[i]);
        at++;
    }
}

static void locked_notes_lose_no_character(void **unused) {
    (void)unused;
    each_seed(ROUNDS, locked_cut_once);
}

/* ---- single decisions ---- */

static enum text_how plan(struct text_tail tail, const char *data, struct text_append *out) {
    return text_plan_append(&tail, data, strlen(data), SIZE_MAX, out);
}

static const struct text_tail after_line = {.end = TEXT_END_LINE, .body_size = 10, .learn_limit = 100};

static void complete_lines_go_as_one_append(void **unused) {
    (void)unused;
    struct text_append out;

    assert_int_equal(plan(after_line, "\na\n\nb\npart", &out), TEXT_APPEND);
    assert_int_equal(out.text_size, 5);
    assert_int_equal(out.consumed, 6);
    assert_false(out.partial);
    assert_int_equal(out.predicted, 16);
}

static void partial_line_waits_for_flush(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    struct text_append out;

    assert_int_equal(plan(tail, "part", &out), TEXT_NOTHING);
    tail.patience = TEXT_FLUSH;
    assert_int_equal(plan(tail, "a\npart", &out), TEXT_APPEND);
    assert_int_equal(out.text_size, 6);
    assert_int_equal(out.consumed, 6);
    assert_true(out.partial);
    assert_int_equal(plan(tail, "part\303", &out), TEXT_APPEND);
    assert_int_equal(out.text_size, 4);
    assert_int_equal(plan(tail, "\303", &out), TEXT_NOTHING);
    assert_int_equal(plan(tail, "a\n\303", &out), TEXT_APPEND);
    assert_int_equal(out.consumed, 2);
}

static void empty_lines_wait(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    struct text_append out;

    assert_int_equal(plan(tail, "\n\n", &out), TEXT_NOTHING);
    assert_int_equal(plan(tail, "a\n\n\n", &out), TEXT_APPEND);
    assert_int_equal(out.consumed, 2);
    tail.patience = TEXT_FLUSH;
    assert_int_equal(plan(tail, "a\n\n", &out), TEXT_APPEND);
    assert_int_equal(out.consumed, 2);
    assert_int_equal(plan(tail, "\n", &out), TEXT_REWRITE);
    tail.locked = true;
    assert_int_equal(plan(tail, "\n", &out), TEXT_NOTHING);
}

static void glued_data(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    struct text_append out;

    tail.glued = true;
    assert_int_equal(plan(tail, "b", &out), TEXT_NOTHING);
    assert_int_equal(plan(tail, "b\n", &out), TEXT_REWRITE);
    assert_int_equal(plan(tail, "\nb\n", &out), TEXT_ENDED);
    assert_int_equal(out.consumed, 1);
    tail.locked = true;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_int_equal(out.predicted, 12);
    tail.end = TEXT_END_EMPTY;
    assert_int_equal(plan(tail, "\nb\n", &out), TEXT_APPEND);
}

static void bodies_that_end_in_a_newline(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    struct text_append out;

    tail.end = TEXT_END_NEWLINE;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_REWRITE);
    tail.rule = TEXT_RULE_ALWAYS;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_REWRITE);
    tail.rule = TEXT_RULE_MISSING;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_int_equal(out.predicted, 11);
    tail.locked = true;
    tail.rule = TEXT_RULE_ALWAYS;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_int_equal(out.predicted, 12);
    tail.rule = TEXT_RULE_UNKNOWN;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_true(out.predicted == UINT64_MAX);
}

static void unknown_ends_are_learnt_when_small(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    struct text_append out;

    tail.end = TEXT_END_UNKNOWN;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_LEARN);
    assert_int_equal(plan(tail, "b", &out), TEXT_NOTHING);
    tail.body_size = 101;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_true(out.predicted == UINT64_MAX);
    tail.body_size = UINT64_MAX;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_LEARN);
    tail.rule = TEXT_RULE_MISSING;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    tail.rule = TEXT_RULE_UNKNOWN;
    tail.body_size = 0;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_int_equal(out.predicted, 1);
    tail.body_size = 10;
    tail.locked = true;
    assert_int_equal(plan(tail, "b\n", &out), TEXT_APPEND);
    assert_true(out.predicted == UINT64_MAX);
}

static void long_lines(void **unused) {
    (void)unused;
    struct text_tail tail = after_line;
    const char *data = "a\nbbb\303\251bb\n";
    struct text_append out;

    assert_int_equal(text_plan_append(&tail, data, 10, 4, &out), TEXT_APPEND);
    assert_int_equal(out.consumed, 2);
    assert_int_equal(text_plan_append(&tail, data + 2, 8, 4, &out), TEXT_REWRITE);
    tail.locked = true;
    assert_int_equal(text_plan_append(&tail, data + 2, 8, 4, &out), TEXT_APPEND);
    assert_int_equal(out.consumed, 3);
    assert_true(out.partial);
    assert_int_equal(text_plan_append(&tail, data + 2, 7, 4, &out), TEXT_NOTHING);
}

static void receipts_teach_the_rule(void **unused) {
    (void)unused;
    assert_int_equal(text_learn_rule(10, TEXT_END_NEWLINE, 5, 15), TEXT_RULE_MISSING);
    assert_int_equal(text_learn_rule(10, TEXT_END_NEWLINE, 5, 16), TEXT_RULE_ALWAYS);
    assert_int_equal(text_learn_rule(10, TEXT_END_NEWLINE, 5, 17), TEXT_RULE_UNKNOWN);
    assert_int_equal(text_learn_rule(10, TEXT_END_NEWLINE, 5, 9), TEXT_RULE_UNKNOWN);
    assert_int_equal(text_learn_rule(10, TEXT_END_LINE, 5, 16), TEXT_RULE_UNKNOWN);
    assert_int_equal(text_learn_rule(0, TEXT_END_EMPTY, 5, 5), TEXT_RULE_UNKNOWN);
    assert_int_equal(text_learn_rule(UINT64_MAX, TEXT_END_NEWLINE, 5, 5), TEXT_RULE_UNKNOWN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_refuses_what_can_not_be_text),
        cmocka_unit_test(utf8_state_survives_cuts_and_errors),
        cmocka_unit_test(utf8_fragment_knows_no_neighbours),
        cmocka_unit_test(utf8_whole_cuts_unfinished_characters),
        cmocka_unit_test(utf8_random_pieces),
        cmocka_unit_test(size_of_view),
        cmocka_unit_test(lone_newline_is_stored_as_it_is),
        cmocka_unit_test(rewrites_show_the_file),
        cmocka_unit_test(editable_notes_become_the_file),
        cmocka_unit_test(loggers_cost_one_append),
        cmocka_unit_test(locked_notes_take_whole_lines),
        cmocka_unit_test(locked_notes_lose_no_character),
        cmocka_unit_test(complete_lines_go_as_one_append),
        cmocka_unit_test(partial_line_waits_for_flush),
        cmocka_unit_test(empty_lines_wait),
        cmocka_unit_test(glued_data),
        cmocka_unit_test(bodies_that_end_in_a_newline),
        cmocka_unit_test(unknown_ends_are_learnt_when_small),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(receipts_teach_the_rule),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
