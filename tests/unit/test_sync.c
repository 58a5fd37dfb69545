/* Tests of the whole synchroniser by random sequences: programs, other people, faults, kills. What is shown and what
 * the service has in the end is compared with a dictionary of files.
 *
 * TEST_SEED=N repeats one case, TEST_CASES=N runs more of them.
 */
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

enum { CASES = 250, STEPS = 25, NAMES = 5, NAME_BYTES = 32, TEXT_BYTES = 8192 };

static struct rig rig;
static unsigned faults_per_cent;
static unsigned serial; /* makes every line unique */

static enum model_fate random_fate(const struct service_call *call, enum service_error *out_error,
                                   void *arg) {
    static const enum model_fate fates[] = {MODEL_LOSE_CALL, MODEL_LOSE_REPLY, MODEL_GARBLE,
                                            MODEL_UNSENT,    MODEL_HOLD,       MODEL_REFUSE};
    (void)call;
    (void)arg;
    *out_error = SERVICE_ERROR_UNAUTHENTICATED;
    if (scratch_random(100) >= faults_per_cent)
        return MODEL_ANSWER;
    return fates[scratch_random(sizeof fates / sizeof fates[0])];
}

static void begin(uint64_t seed) {
    scratch_seed(seed);
    rig_make(&rig, seed);
    rig.model.decide = random_fate;
    rig.model.account.separates_always = scratch_random(2);
    rig.model.account.chomps = scratch_random(2);
    account_add_folder(&rig.model.account, "box");
    faults_per_cent = 0;
    serial = 0;
    rig_open(&rig);
    faults_per_cent = scratch_random(3) * 15;
}

static void maybe_restart(void) {
    unsigned dice = scratch_random(12);

    if (dice > 1)
        return;
    if (dice == 0)
        rig_kill(&rig, scratch_random(2));
    else
        rig_close(&rig);
    fake_clock_advance(&rig.clock, scratch_random(20000));
    rig_open(&rig);
}

static void pass_time(void) {
    static const unsigned spans[] = {0, 300, 1500, 5000, 15000};

    rig_run(&rig, spans[scratch_random(sizeof spans / sizeof spans[0])]);
}

static void end(uint64_t seed) {
    faults_per_cent = 0;
    (void)rig_refresh(&rig); /* what was parked is tried again */
    if (!rig_settle(&rig))
        fail_msg("TEST_SEED=%llu: something is left", (unsigned long long)seed);
}

/* --- alone: the service ends up with what the programs wrote --- */

struct file {
    bool there;
    char text[TEXT_BYTES];
};

/* The first NAMES are in the root, the others in folder "box". */
static struct file files[2 * NAMES];

static const char *path_of(unsigned index) {
    static char path[2][NAME_BYTES];
    static unsigned turn;
    char *out = path[turn++ % 2];

    snprintf(out, NAME_BYTES, "%sname%u", index < NAMES ? "" : "box/", index % NAMES);
    return out;
}

/* Filenames are unique over the account: the twin in the other directory. */
static bool is_taken(unsigned index) {
    return files[(index + NAMES) % (2 * NAMES)].there;
}

static void fresh_line(char *out) {
    snprintf(out, NAME_BYTES, "line %u\n", serial++);
}

static void do_put(unsigned at) {
    char line[NAME_BYTES];

    if (is_taken(at)) {
        assert_int_equal(rig_put(&rig, path_of(at), ""), -ENOTUNIQ);
        return;
    }
    files[at].there = true;
    files[at].text[0] = '\0';
    for (unsigned i = scratch_random(4); i > 0; i--) {
        fresh_line(line);
        strcat(files[at].text, line);
    }
    assert_int_equal(rig_put(&rig, path_of(at), files[at].text), 0);
}

static void do_append(unsigned at) {
    char line[NAME_BYTES];

    if (is_taken(at))
        return;
    files[at].text[0] = files[at].there ? files[at].text[0] : '\0';
    files[at].there = true;
    fresh_line(line);
    if (scratch_random(6) == 0)
        line[strlen(line) - 1] = '\0'; /* a partial line */
    strcat(files[at].text, line);
    assert_int_equal(rig_append(&rig, path_of(at), line), 0);
}

static void do_truncate(unsigned at) {
    size_t size = strlen(files[at].text);

    if (!files[at].there)
        return;
    size = size ? scratch_random((uint32_t)size + 1) : 0;
    files[at].text[size] = '\0';
    int err = rig_truncate(&rig, path_of(at), size);
    for (int i = 0; err && i < 100; i++) { /* the body isn't cached, and there is no network or a bad token */
        assert_true(err == -ETIMEDOUT || err == -EACCES || err == -EIO);
        rig_run(&rig, 1000);
        err = rig_truncate(&rig, path_of(at), size);
    }
    assert_int_equal(err, 0);
}

static void do_unlink(unsigned at) {
    assert_int_equal(rig_unlink(&rig, path_of(at)), files[at].there ? 0 : -ENOENT);
    files[at].there = false;
}

static void do_rename(unsigned from) {
    unsigned to = scratch_random(2 * NAMES);
    unsigned flags = scratch_random(5) == 0 ? RENAME_EXCHANGE : 0;
    bool twin = is_taken(to) && (to + NAMES) % (2 * NAMES) != from;

    if (!files[from].there || (flags && (!files[to].there || is_taken(from))) || twin || from == to)
        return;
    assert_int_equal(rig_rename(&rig, path_of(from), path_of(to), flags), 0);
    struct file other = files[to];
    files[to] = files[from];
    if (flags)
        files[from] = other;
    else
        files[from].there = false;
}

static void do_anything(void) {
    unsigned at = scratch_random(2 * NAMES);

    switch (scratch_random(8)) {
    case 0:
    case 1:
        do_put(at);
        break;
    case 2:
    case 3:
    case 4:
        do_append(at);
        break;
    case 5:
        do_unlink(at);
        break;
    case 6:
        do_truncate(at);
        break;
    default:
        do_rename(at);
        break;
    }
}

static void assert_as_written(uint64_t seed) {
    size_t count = 0;

    for (unsigned i = 0; i < 2 * NAMES; i++) {
        const char *path = path_of(i), *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        const struct account_note *note = account_find(&rig.model.account, name);
        size_t size = strlen(files[i].text);
        int err;

        if (!files[i].there)
            continue;
        count++;
        char *shown = rig_get(&rig, path, &err);
        if (!shown || strncmp(shown, files[i].text, size) != 0 || strlen(shown) > size + 1)
            fail_msg("TEST_SEED=%llu: %s shows \"%s\" (%d) instead of \"%s\"", (unsigned long long)seed, path,
                     shown ? shown : "", err, files[i].text);
        free(shown);
        if (!note || strncmp(note->body, files[i].text, note->size) != 0 || note->size + 1 < size)
            fail_msg("TEST_SEED=%llu: the service has \"%s\" of %s instead of \"%s\"",
                     (unsigned long long)seed, note ? note->body : "nothing", path, files[i].text);
    }
    if (count != rig.model.account.note_count)
        fail_msg("TEST_SEED=%llu: %zu notes instead of %zu", (unsigned long long)seed,
                 rig.model.account.note_count, count);
}

static void alone_once(uint64_t seed) {
    memset(files, 0, sizeof files);
    begin(seed);
    for (unsigned i = 0; i < STEPS; i++) {
        do_anything();
        pass_time();
        maybe_restart();
    }
    end(seed);
    assert_as_written(seed);
    rig_assert_same(&rig);
    rig_free(&rig);
}

/* --- among others: nobody's line is lost, and all end up with the same --- */

static char *insert_line(const char *text, const char *line) {
    size_t lines = 0, skip;
    char *out = malloc(strlen(text) + strlen(line) + 2);
    const char *at = text;

    assert_non_null(out);
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    for (skip = scratch_random((uint32_t)lines + 1); skip > 0 && strchr(at, '\n'); skip--)
        at = strchr(at, '\n') + 1;
    sprintf(out, "%.*s%s%s", (int)(at - text), text, line, at);
    return out;
}

static void we_do(unsigned name) {
    char line[NAME_BYTES], path[NAME_BYTES];
    int err;

    snprintf(path, sizeof path, "name%u", name);
    fresh_line(line);
    char *text = scratch_random(2) ? rig_get(&rig, path, &err) : NULL;
    if (text) {
        char *longer = insert_line(text, line);
        err = rig_put(&rig, path, longer);
        free(longer);
        free(text);
        assert_int_equal(err, 0);
        return;
    }
    assert_int_equal(rig_append(&rig, path, line), 0);
}

static void they_do(unsigned name) {
    char line[NAME_BYTES], filename[NAME_BYTES];

    snprintf(filename, sizeof filename, "name%u", name);
    fresh_line(line);
    line[strlen(line) - 1] = '\0';
    struct account_note *note = account_find(&rig.model.account, filename);
    if (!note) {
        account_add(&rig.model.account, filename, 0, line);
    } else if (scratch_random(2)) {
        account_append(&rig.model.account, note, line);
    } else {
        strcat(line, "\n");
        char *text = insert_line(note->body, line);
        account_edit(&rig.model.account, note, text);
        free(text);
    }
}

static void assert_nothing_lost(uint64_t seed) {
    bool copies = false;

    for (size_t i = 0; i < rig.model.account.note_count; i++)
        copies |= strstr(rig.model.account.notes[i]->filename, "(conflict") != NULL;
    for (unsigned i = 0; i < serial; i++) {
        char line[NAME_BYTES];
        unsigned count = 0;

        /* Whole lines: "line 1" is not "line 10". */
        snprintf(line, sizeof line, "line %u", i);
        for (size_t n = 0; n < rig.model.account.note_count; n++) {
            for (const char *at = rig.model.account.notes[n]->body; (at = strstr(at, line)); at++)
                count += at[strlen(line)] == '\n' || at[strlen(line)] == '\0';
        }
        if (count == 0 || (count > 1 && !copies))
            fail_msg("TEST_SEED=%llu: \"%s\" is on the service %u times", (unsigned long long)seed, line,
                     count);
    }
}

static void among_others_once(uint64_t seed) {
    begin(seed);
    for (unsigned i = 0; i < STEPS; i++) {
        if (scratch_random(2))
            we_do(scratch_random(3));
        else
            they_do(scratch_random(3));
        pass_time();
        maybe_restart();
    }
    end(seed);
    assert_nothing_lost(seed);
    rig_assert_same(&rig);
    rig_free(&rig);
}

static void repeat(void (*once)(uint64_t seed)) {
    const char *seed = getenv("TEST_SEED"), *cases = getenv("TEST_CASES"), *first = getenv("TEST_FIRST");
    uint64_t from = seed ? strtoull(seed, NULL, 10) : first ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seed ? 1 : cases ? strtoull(cases, NULL, 10) : CASES;

    for (uint64_t i = from; i < from + count; i++) {
        if (getenv("TEST_LOG"))
            fprintf(stderr, "--- TEST_SEED=%llu\n", (unsigned long long)i);
        once(i);
    }
}

static void alone(void **state) {
    (void)state;
    repeat(alone_once);
}

static void among_others(void **state) {
    (void)state;
    repeat(among_others_once);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone),
        cmocka_unit_test(among_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
