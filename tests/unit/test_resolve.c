/* Tests of cache/resolve and outcome: requests whose outcome is unknown. Every kind of request, lost on the way there
 * or back, answered after minutes or a day, by this run or the next, while others leave the note
 * alone or don't: done once, and nobody's bytes are lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static struct rig rig;

/* --- what a program does; the request that follows from it is the one that gets lost --- */

struct deed {
    const char *name;
    enum service_op op;
    void (*act)(void);
    bool ours;    /* leaves "OURS" in the account */
    bool deletes; /* leaves the note's own text nowhere */
};

static void act_append(void) {
    assert_int_equal(rig_append(&rig, "log", "OURS\n"), 0);
}

static void act_append_warm(void) {
    rig_assert_file(&rig, "log", "one\n");
    act_append();
}

static void act_append_create(void) {
    assert_int_equal(rig_append(&rig, "new", "OURS\n"), 0);
}

static void act_create(void) {
    assert_int_equal(rig_put(&rig, "new", "OURS\n"), 0);
}

static void act_bulk(void) {
    assert_int_equal(rig_put(&rig, "new", "OURS\n"), 0);
    assert_int_equal(rig_put(&rig, "new2", "second\n"), 0);
    assert_int_equal(rig_put(&rig, "new3", "third\n"), 0);
}

static void act_patch(void) {
    assert_int_equal(rig_put(&rig, "log", "OURS\none\n"), 0);
}

static void act_rename(void) {
    assert_int_equal(rig_rename(&rig, "log", "diary", 0), 0);
}

static void act_move(void) {
    assert_int_equal(rig_rename(&rig, "log", "box/log", 0), 0);
}

static void act_delete(void) {
    assert_int_equal(rig_unlink(&rig, "log"), 0);
}

static void act_mkdir(void) {
    assert_int_equal(rig_mkdir(&rig, "crate"), 0);
    assert_int_equal(rig_put(&rig, "crate/new", "OURS\n"), 0);
}

static void act_rename_folder(void) {
    assert_int_equal(rig_rename(&rig, "box", "chest", 0), 0);
}

static void act_rmdir(void) {
    assert_int_equal(rig_rmdir(&rig, "box"), 0);
}

static const struct deed deeds[] = {
    {"append", SERVICE_OP_APPEND, act_append, true, false},
    {"append to a cached note", SERVICE_OP_APPEND, act_append_warm, true, false},
    {"creating append", SERVICE_OP_APPEND_BY_NAME, act_append_create, true, false},
    {"create", SERVICE_OP_CREATE, act_create, true, false},
    {"bulk", SERVICE_OP_BULK, act_bulk, true, false},
    {"patch", SERVICE_OP_PATCH, act_patch, true, false},
    {"rename", SERVICE_OP_PATCH, act_rename, false, false},
    {"move", SERVICE_OP_MOVE, act_move, false, false},
    {"delete", SERVICE_OP_DELETE, act_delete, false, true},
    {"mkdir", SERVICE_OP_FOLDER_CREATE, act_mkdir, true, false},
    {"rename of a folder", SERVICE_OP_FOLDER_RENAME, act_rename_folder, false, false},
    {"rmdir", SERVICE_OP_FOLDER_DELETE, act_rmdir, false, false},
};

/* --- what others do meanwhile --- */

enum meanwhile { NOTHING, APPENDED, EDITED, DELETED, MEANWHILES };

static const char *const meanwhile_names[] = {"nothing", "an append", "an edit", "a delete"};

static struct account_note *their_target(const struct deed *deed) {
    struct account *account = &rig.model.account;
    struct account_note *note =
        deed->op == SERVICE_OP_CREATE || deed->op == SERVICE_OP_BULK || deed->op == SERVICE_OP_APPEND_BY_NAME
            ? account_find(account, "new")
            : account_find(account, "log");

    return note ? note : account_find(account, "diary");
}

static void others(const struct deed *deed, enum meanwhile what) {
    struct account_note *note = their_target(deed);
    char *body = NULL;

    if (!note)
        return;
    switch (what) {
    case APPENDED:
        account_append(&rig.model.account, note, "THEIRS");
        break;
    case EDITED:
        assert_true(asprintf(&body, "THEIRS\n%s", note->body) > 0);
        account_edit(&rig.model.account, note, body);
        free(body);
        break;
    case DELETED:
        account_delete(&rig.model.account, note);
        break;
    case NOTHING:
    case MEANWHILES:
        break;
    }
}

/* --- how the request is lost --- */

struct loss {
    const char *name;
    enum model_fate fate;
    bool killed;      /* the program dies instead of hearing an answer */
    int64_t later_ms; /* until it can be sent again */
};

/* What becomes of all other calls until then. */
static const struct {
    const char *name;
    enum model_fate fate;
} weathers[] = {
    {"then no answer", MODEL_LOSE_CALL},
    {"then no connection", MODEL_UNSENT},
    {"then a bad token", MODEL_REFUSE},
};

static const struct loss losses[] = {
    {"call lost", MODEL_LOSE_CALL, false, 1000},
    {"reply lost", MODEL_LOSE_REPLY, false, 1000},
    {"reply garbled", MODEL_GARBLE, false, 1000},
    {"no connection", MODEL_UNSENT, false, 1000},
    {"call lost, a minute of doubt", MODEL_LOSE_CALL, false, 60000},
    {"reply lost, a minute of doubt", MODEL_LOSE_REPLY, false, 60000},
    {"killed, call lost", MODEL_LOSE_CALL, true, 1000},
    {"killed, reply lost", MODEL_LOSE_REPLY, true, 1000},
    {"killed, call lost, a minute", MODEL_LOSE_CALL, true, 60000},
    {"killed, reply lost, a minute", MODEL_LOSE_REPLY, true, 60000},
    {"killed, call lost, a day", MODEL_LOSE_CALL, true, 25 * 3600 * 1000},
    {"killed, reply lost, a day", MODEL_LOSE_REPLY, true, 25 * 3600 * 1000},
};

static struct {
    enum service_op op;
    enum model_fate fate, weather;
    bool met, cut;
} plan;

/* The first call of the kind meets its fate; while the connection is cut all others are lost, too. */
static enum model_fate decide(const struct service_call *call, enum service_error *out_error, void *arg) {
    (void)arg;
    *out_error = SERVICE_ERROR_UNAUTHENTICATED;
    if (call->op == plan.op && !plan.met) {
        plan.met = true;
        plan.cut = true;
        return plan.fate;
    }
    return plan.cut ? plan.weather : MODEL_ANSWER;
}

static void run_until_lost(void) {
    for (int i = 0; i < 60 && !plan.met; i++)
        rig_run(&rig, 500);
    assert_true(plan.met);
}

static void start(const struct deed *deed, const struct loss *loss) {
    rig_make(&rig, 7);
    account_add(&rig.model.account, "log", 0, "one");
    account_add(&rig.model.account, "other", 0, "text");
    account_add_folder(&rig.model.account, "box");
    fake_clock_advance(&rig.clock, 60000);
    rig_open(&rig);
    plan.op = deed->op;
    plan.fate = loss->killed ? MODEL_HOLD : loss->fate;
    plan.met = plan.cut = false;
    rig.model.decide = decide;
}

static void assert_kept(const struct deed *deed, enum meanwhile what, bool late) {
    bool there = what == APPENDED || what == EDITED;
    unsigned ours = rig_count(&rig, "OURS"), theirs = rig_count(&rig, "THEIRS");

    if (deed->ours && what != DELETED) {
        assert_true(ours >= 1); /* never lost */
        /* An edit next to lines of ours ends in a conflict, and of a note of a batch it can't be told whether it
         * is ours: both versions are kept. */
        if (what == EDITED && (deed->op == SERVICE_OP_PATCH || deed->op == SERVICE_OP_BULK))
            assert_true(ours <= 2);
        else if (!late || what == NOTHING)
            assert_int_equal(ours, 1);
    }
    if (deed->ours && what == DELETED)
        assert_true(ours <= 1); /* deleted with the note, or made again */
    if (there && their_target(deed))
        assert_true(theirs >= (deed->op != SERVICE_OP_DELETE));
    assert_true(theirs <= 1);
    rig_assert_note(&rig, "other", "text");
    if (what == NOTHING && deed->deletes)
        assert_int_equal(rig_count(&rig, "one"), 0);
    if (what == NOTHING && !deed->deletes)
        assert_int_equal(rig_count(&rig, "one"), 1);
}

static void go(const struct deed *deed, const struct loss *loss, enum model_fate weather,
               enum meanwhile what) {
    start(deed, loss);
    plan.weather = weather;
    deed->act();
    run_until_lost();
    if (loss->killed)
        rig_kill(&rig, loss->fate == MODEL_LOSE_REPLY);
    bool was_there = their_target(deed) != NULL;
    fake_clock_advance(&rig.clock, loss->killed ? loss->later_ms : 1000);
    others(deed, what);
    if (!was_there)
        what = NOTHING;
    if (loss->killed) {
        rig_open(&rig);
        rig_run(&rig, 20000);
    } else {
        rig_run(&rig, loss->later_ms);
    }
    plan.cut = false;
    if (!rig_settle(&rig))
        fail_msg("something is left");
    assert_kept(deed, what, loss->later_ms > 24 * 3600 * 1000);
    rig_assert_same(&rig);
    rig_free(&rig);
}

struct cell {
    const struct deed *deed;
    const struct loss *loss;
    enum model_fate weather;
    enum meanwhile what;
    char name[160];
};

static void one_cell(void **state) {
    const struct cell *cell = *state;

    go(cell->deed, cell->loss, cell->weather, cell->what);
}

/* TEST_ONLY=PART runs the cells whose name contains PART. */
int main(void) {
    enum {
        DEEDS = sizeof deeds / sizeof deeds[0],
        LOSSES = sizeof losses / sizeof losses[0],
        WEATHERS = sizeof weathers / sizeof weathers[0],
        CELLS = DEEDS * LOSSES * WEATHERS * MEANWHILES,
    };
    static struct cell cells[CELLS];
    static struct CMUnitTest tests[CELLS];
    const char *only = getenv("TEST_ONLY");
    size_t count = 0;

    for (size_t i = 0; i < CELLS; i++) {
        size_t what = i % MEANWHILES, weather = i / MEANWHILES % WEATHERS;
        size_t loss = i / MEANWHILES / WEATHERS % LOSSES, deed = i / MEANWHILES / WEATHERS / LOSSES;
        struct cell *cell = &cells[i];

        *cell = (struct cell){&deeds[deed], &losses[loss], weathers[weather].fate, (enum meanwhile)what, ""};
        snprintf(cell->name, sizeof cell->name, "%s, %s, %s, meanwhile %s", deeds[deed].name,
                 losses[loss].name, weathers[weather].name, meanwhile_names[what]);
        if (only && !strstr(cell->name, only))
            continue;
        tests[count++] =
            (struct CMUnitTest){.name = cell->name, .test_func = one_cell, .initial_state = cell};
    }
    return _cmocka_run_group_tests("resolve", tests, count, NULL, NULL);
}
