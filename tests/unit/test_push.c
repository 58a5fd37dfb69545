/* Tests of cache/push, outcome and owed: what is sent for what a program does, call by call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static struct rig rig;

static int set_up(void **state) {
    (void)state;
    rig_make(&rig, 1);
    account_add(&rig.model.account, "log", 0, "one");
    account_add(&rig.model.account, "doc", 0, "a\nb\nc");
    fake_clock_advance(&rig.clock, 60000);
    rig_open(&rig);
    memset(rig.model.processed, 0, sizeof rig.model.processed);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rig_free(&rig);
    return 0;
}

static unsigned calls(enum service_op op) {
    return rig.model.processed[op];
}

/* Calls that change something: just COUNT of OP, nothing else. */
static void assert_only(enum service_op op, unsigned count) {
    assert_int_equal(calls(op), count);
    assert_int_equal(model_writes(&rig.model), count);
}

static int64_t id_of(const char *filename) {
    const struct account_note *note = account_find(&rig.model.account, filename);

    assert_non_null(note);
    return note->id;
}

/* --- appends --- */

static void one_append_is_one_call(void **state) {
    (void)state;
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 0);
    assert_only(SERVICE_OP_APPEND, 1);
    rig_assert_note(&rig, "log", "one\ntwo");
    assert_true(rig_settle(&rig));
    rig_assert_file(&rig, "log", "one\ntwo\n");
    assert_only(SERVICE_OP_APPEND, 1);
}

static void a_partial_line_waits_for_its_end(void **state) {
    (void)state;
    assert_int_equal(rig_append(&rig, "log", "tw"), 0);
    rig_run(&rig, 1500);
    assert_only(SERVICE_OP_APPEND, 0);
    assert_int_equal(rig_append(&rig, "log", "o\n"), 0);
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_APPEND, 1);
    rig_assert_note(&rig, "log", "one\ntwo");
}

static void a_partial_line_goes_two_seconds_after_the_last_close(void **state) {
    (void)state;
    assert_int_equal(rig_append(&rig, "log", "tw"), 0);
    rig_run(&rig, 2500);
    assert_only(SERVICE_OP_APPEND, 1);
    rig_assert_note(&rig, "log", "one\ntw");
    rig_assert_file(&rig, "log", "one\ntw");
    assert_int_equal(rig_append(&rig, "log", "o\n"), 0);
    assert_true(rig_settle(&rig));
    rig_assert_note(&rig, "log", "one\ntwo");
    rig_assert_file(&rig, "log", "one\ntwo\n");
}

static void a_receipt_as_predicted_needs_no_get(void **state) {
    (void)state;
    rig_assert_file(&rig, "log", "one\n");
    unsigned gets = calls(SERVICE_OP_GET);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_append(&rig, "log", "x\n"), 0);
        assert_true(rig_settle(&rig));
        rig_run(&rig, 3000);
    }
    rig_assert_file(&rig, "log", "one\nx\nx\nx\n");
    assert_int_equal(calls(SERVICE_OP_GET), gets);
}

static void a_receipt_otherwise_than_predicted_is_read(void **state) {
    (void)state;
    rig_assert_file(&rig, "log", "one\n");
    /* Somebody else was faster, the poll has not told yet. */
    account_append(&rig.model.account, account_find(&rig.model.account, "log"), "theirs");
    assert_int_equal(rig_append(&rig, "log", "ours\n"), 0);
    assert_true(rig_settle(&rig));
    rig_assert_note(&rig, "log", "one\ntheirs\nours");
    rig_assert_file(&rig, "log", "one\ntheirs\nours\n");
}

static void without_budget_the_group_grows(void **state) {
    (void)state;
    rig.model.out_of_appends = true;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rig_append(&rig, "log", "x\n"), 0);
        rig_run(&rig, 500);
    }
    assert_only(SERVICE_OP_APPEND, 0);
    rig.model.out_of_appends = false;
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_APPEND, 1);
    rig_assert_note(&rig, "log", "one\nx\nx\nx\nx\nx");
}

/* --- rewrites and creates --- */

static void a_rewrite_settles_and_is_one_patch(void **state) {
    (void)state;
    assert_int_equal(rig_put(&rig, "doc", "a\nB\nc\n"), 0);
    rig_run(&rig, 900);
    assert_only(SERVICE_OP_PATCH, 0);
    assert_int_equal(rig_put(&rig, "doc", "a\nBB\nc\n"), 0);
    rig_run(&rig, 900);
    assert_only(SERVICE_OP_PATCH, 0);
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_PATCH, 1);
    rig_assert_note(&rig, "doc", "a\nBB\nc");
}

static void a_rewrite_that_changes_nothing_costs_nothing(void **state) {
    (void)state;
    rig_assert_file(&rig, "doc", "a\nb\nc\n");
    assert_int_equal(rig_put(&rig, "doc", "a\nb\nc\n"), 0);
    assert_true(rig_settle(&rig));
    assert_int_equal(model_writes(&rig.model), 0);
}

static void a_rewrite_that_adds_lines_is_an_append(void **state) {
    (void)state;
    rig_assert_file(&rig, "doc", "a\nb\nc\n");
    assert_int_equal(rig_put(&rig, "doc", "a\nb\nc\nd\ne\n"), 0);
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_APPEND, 1);
    rig_assert_note(&rig, "doc", "a\nb\nc\nd\ne");
}

static void many_new_files_are_one_call(void **state) {
    char name[16];

    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "new%d", i);
        assert_int_equal(rig_put(&rig, name, "text\n"), 0);
        rig_run(&rig, 10);
    }
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_BULK, 1);
    rig_assert_note(&rig, "new49", "text");
}

static void what_comes_and_goes_costs_nothing(void **state) {
    (void)state;
    assert_int_equal(rig_put(&rig, "tmp", "x\n"), 0);
    rig_run(&rig, 500);
    assert_int_equal(rig_unlink(&rig, "tmp"), 0);
    assert_true(rig_settle(&rig));
    assert_int_equal(model_writes(&rig.model), 0);
}

/* --- names --- */

static void saving_by_rename_adopts_the_note(void **state) {
    int64_t id = id_of("doc");

    (void)state;
    assert_int_equal(rig_put(&rig, "doc.new", "other\n"), 0);
    assert_int_equal(rig_rename(&rig, "doc.new", "doc", 0), 0);
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_PATCH, 1);
    assert_int_equal(id_of("doc"), id);
    rig_assert_note(&rig, "doc", "other");
}

static void deleting_and_making_again_adopts_the_note(void **state) {
    int64_t id = id_of("doc");

    (void)state;
    assert_int_equal(rig_unlink(&rig, "doc"), 0);
    rig_run(&rig, 5000);
    assert_int_equal(rig_put(&rig, "doc", "other\n"), 0);
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_PATCH, 1);
    assert_int_equal(id_of("doc"), id);
}

static void a_vacated_name_is_deleted_after_ten_seconds(void **state) {
    (void)state;
    assert_int_equal(rig_unlink(&rig, "doc"), 0);
    rig_run(&rig, 9500);
    assert_non_null(account_find(&rig.model.account, "doc"));
    assert_true(rig_settle(&rig));
    assert_only(SERVICE_OP_DELETE, 1);
    assert_null(account_find(&rig.model.account, "doc"));
}

static void flush_sends_at_once(void **state) {
    (void)state;
    assert_int_equal(rig_unlink(&rig, "doc"), 0);
    assert_int_equal(rig_put(&rig, "fresh", "x\n"), 0);
    assert_int_equal(rig_append(&rig, "log", "part"), 0);
    assert_int_equal(rig_flush_all(&rig), 0);
    assert_null(account_find(&rig.model.account, "doc"));
    rig_assert_note(&rig, "fresh", "x");
    rig_assert_note(&rig, "log", "one\npart");
    assert_int_equal(model_writes(&rig.model), 3);
}

static void swapped_names_go_by_a_temporary_one(void **state) {
    int64_t log = id_of("log"), doc = id_of("doc");

    (void)state;
    assert_int_equal(rig_rename(&rig, "log", "doc", RENAME_EXCHANGE), 0);
    assert_true(rig_settle(&rig));
    assert_int_equal(id_of("log"), doc);
    assert_int_equal(id_of("doc"), log);
    rig_assert_note(&rig, "doc", "one");
    assert_int_equal(model_writes(&rig.model), calls(SERVICE_OP_PATCH));
    assert_in_range(calls(SERVICE_OP_PATCH), 2, 3);
}

/* --- refusals --- */

static enum service_error refusal;
static enum service_op refused_op;

static enum model_fate refuse(const struct service_call *call, enum service_error *out_error, void *arg) {
    (void)arg;
    *out_error = refusal;
    return call->op == refused_op && refusal ? MODEL_REFUSE : MODEL_ANSWER;
}

static void a_final_refusal_parks_until_the_next_change(void **state) {
    (void)state;
    rig.model.decide = refuse;
    refused_op = SERVICE_OP_PATCH;
    refusal = SERVICE_ERROR_STORAGE;
    assert_int_equal(rig_put(&rig, "doc", "too much\n"), 0);
    assert_false(rig_settle(&rig));
    unsigned tries = rig.model.submitted[SERVICE_OP_PATCH];
    rig_run(&rig, 300000);
    assert_int_equal(rig.model.submitted[SERVICE_OP_PATCH], tries);
    rig_assert_file(&rig, "doc", "too much\n");
    rig_assert_note(&rig, "doc", "a\nb\nc");
    /* Other notes go on. */
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 0);
    rig_assert_note(&rig, "log", "one\ntwo");
    refusal = SERVICE_ERROR_NONE;
    assert_int_equal(rig_refresh(&rig), 0);
    assert_true(rig_settle(&rig));
    rig_assert_note(&rig, "doc", "too much");
}

static void a_refused_row_doesn_t_keep_its_batch(void **state) {
    char name[16];

    (void)state;
    account_add(&rig.model.account, "new7", 0, "theirs"); /* not known here yet */
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "new%d", i);
        assert_int_equal(rig_put(&rig, name, "ours\n"), 0);
    }
    (void)rig_settle(&rig);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "new%d", i);
        if (i != 7)
            rig_assert_note(&rig, name, "ours");
    }
}

static void the_account_s_refusals_park_nothing(void **state) {
    (void)state;
    rig.model.decide = refuse;
    refused_op = SERVICE_OP_APPEND;
    refusal = SERVICE_ERROR_UNAUTHENTICATED;
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 120000);
    rig_assert_note(&rig, "log", "one");
    refusal = SERVICE_ERROR_NONE;
    assert_true(rig_settle(&rig));
    rig_assert_note(&rig, "log", "one\ntwo");
}

/* --- changes while a request is under way --- */

static size_t waiting_op(enum service_op op) {
    for (size_t i = 0; i < model_waiting(rig.service); i++)
        if (model_peek(rig.service, i)->op == op)
            return i;
    fail_msg("no %s in the line", service_op_name(op));
    return 0;
}

static enum model_fate hold(const struct service_call *call, enum service_error *out_error, void *arg) {
    (void)out_error;
    (void)arg;
    return service_op_writes(call->op) ? MODEL_HOLD : MODEL_ANSWER;
}

static void hold_writes(void) {
    rig.model.decide = hold;
}

/* OP is done and answered only now, after what the test did meanwhile. */
static void let_go(enum service_op op) {
    (void)waiting_op(op);
    rig.model.decide = NULL;
    assert_true(rig_settle(&rig));
}

static void appends_join_while_one_is_under_way(void **state) {
    char line[32], expected[256] = "one";

    (void)state;
    hold_writes();
    for (int i = 0; i < 10; i++) {
        snprintf(line, sizeof line, "line %d\n", i);
        assert_int_equal(rig_append(&rig, "log", line), 0);
        rig_run(&rig, 0);
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "\nline %d", i);
    }
    let_go(SERVICE_OP_APPEND);
    assert_only(SERVICE_OP_APPEND, 2);
    rig_assert_note(&rig, "log", expected);
}

static void written_while_uploaded(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_put(&rig, "doc", "second\n"), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    assert_only(SERVICE_OP_PATCH, 2);
    rig_assert_note(&rig, "doc", "second");
    rig_assert_file(&rig, "doc", "second\n");
    assert_int_equal(rig.model.account.note_count, 2);
}

static void appended_while_uploaded(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_append(&rig, "doc", "more\n"), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    rig_assert_note(&rig, "doc", "first\nmore");
    rig_assert_file(&rig, "doc", "first\nmore\n");
    assert_int_equal(calls(SERVICE_OP_PATCH), 1);
    assert_int_equal(calls(SERVICE_OP_APPEND), 1);
}

static void truncated_while_uploaded(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\nsecond\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_truncate(&rig, "doc", 6), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    rig_assert_note(&rig, "doc", "first");
    rig_assert_file(&rig, "doc", "first\n");
}

static void unlinked_while_uploaded(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\n"), 0);
    rig_run(&rig, 2000);
    fake_clock_advance(&rig.clock, 3000);
    assert_int_equal(rig_unlink(&rig, "doc"), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    assert_null(account_find(&rig.model.account, "doc"));
    int err;
    assert_null(rig_get(&rig, "doc", &err));
    assert_int_equal(err, -ENOENT);
}

static void unlinked_while_appended(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_unlink(&rig, "log"), 0);
    rig_run(&rig, 3000);
    let_go(SERVICE_OP_APPEND);
    assert_null(account_find(&rig.model.account, "log"));
}

static void unlinked_while_others_append(void **state) {
    (void)state;
    rig_assert_file(&rig, "log", "one\n");
    hold_writes();
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_unlink(&rig, "log"), 0);
    account_append(&rig.model.account, account_find(&rig.model.account, "log"), "theirs");
    let_go(SERVICE_OP_APPEND);
    rig_assert_note(&rig, "log", "one\ntheirs\ntwo");
    rig_assert_file(&rig, "log", "one\ntheirs\ntwo\n");
}

static void unlinked_while_created(void **state) {
    (void)state;
    for (int appended = 0; appended < 2; appended++) {
        hold_writes();
        assert_int_equal(appended ? rig_append(&rig, "new", "x\n") : rig_put(&rig, "new", "x\n"), 0);
        rig_run(&rig, 5000);
        assert_int_equal(rig_unlink(&rig, "new"), 0);
        rig_run(&rig, 2000);
        let_go(appended ? SERVICE_OP_APPEND_BY_NAME : SERVICE_OP_CREATE);
        assert_null(account_find(&rig.model.account, "new"));
    }
}

static void renamed_while_uploaded(void **state) {
    int64_t id = id_of("doc");

    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_rename(&rig, "doc", "paper", 0), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    assert_int_equal(id_of("paper"), id);
    rig_assert_note(&rig, "paper", "first");
}

static void renamed_while_created(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "new", "x\n"), 0);
    rig_run(&rig, 5000);
    assert_int_equal(rig_rename(&rig, "new", "newer", 0), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_CREATE);
    rig_assert_note(&rig, "newer", "x");
    assert_int_equal(rig.model.account.note_count, 3);
}

static void replaced_while_uploaded(void **state) {
    int64_t id = id_of("doc");

    (void)state;
    hold_writes();
    assert_int_equal(rig_put(&rig, "doc", "first\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_put(&rig, "doc.new", "second\n"), 0);
    assert_int_equal(rig_rename(&rig, "doc.new", "doc", 0), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_PATCH);
    rig_assert_note(&rig, "doc", "second");
    assert_int_equal(id_of("doc"), id);
    assert_int_equal(rig.model.account.note_count, 2);
}

static void appended_while_appended(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_put(&rig, "log", "one\ntwo\nthree\n"), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_APPEND);
    rig_assert_note(&rig, "log", "one\ntwo\nthree");
    rig_assert_file(&rig, "log", "one\ntwo\nthree\n");
}

static void rewritten_while_appended(void **state) {
    (void)state;
    hold_writes();
    assert_int_equal(rig_append(&rig, "log", "two\n"), 0);
    rig_run(&rig, 2000);
    assert_int_equal(rig_put(&rig, "log", "all new\n"), 0);
    rig_run(&rig, 2000);
    let_go(SERVICE_OP_APPEND);
    rig_assert_note(&rig, "log", "all new");
    assert_int_equal(rig.model.account.note_count, 2);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(one_append_is_one_call),
        TEST(appends_join_while_one_is_under_way),
        TEST(a_partial_line_waits_for_its_end),
        TEST(a_partial_line_goes_two_seconds_after_the_last_close),
        TEST(a_receipt_as_predicted_needs_no_get),
        TEST(a_receipt_otherwise_than_predicted_is_read),
        TEST(without_budget_the_group_grows),
        TEST(a_rewrite_settles_and_is_one_patch),
        TEST(a_rewrite_that_changes_nothing_costs_nothing),
        TEST(a_rewrite_that_adds_lines_is_an_append),
        TEST(many_new_files_are_one_call),
        TEST(what_comes_and_goes_costs_nothing),
        TEST(saving_by_rename_adopts_the_note),
        TEST(deleting_and_making_again_adopts_the_note),
        TEST(a_vacated_name_is_deleted_after_ten_seconds),
        TEST(flush_sends_at_once),
        TEST(swapped_names_go_by_a_temporary_one),
        TEST(a_final_refusal_parks_until_the_next_change),
        TEST(a_refused_row_doesn_t_keep_its_batch),
        TEST(the_account_s_refusals_park_nothing),
        TEST(written_while_uploaded),
        TEST(appended_while_uploaded),
        TEST(truncated_while_uploaded),
        TEST(unlinked_while_uploaded),
        TEST(unlinked_while_appended),
        TEST(unlinked_while_others_append),
        TEST(unlinked_while_created),
        TEST(renamed_while_uploaded),
        TEST(renamed_while_created),
        TEST(replaced_while_uploaded),
        TEST(appended_while_appended),
        TEST(rewritten_while_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
