/* Tests of cache/names. Random runs print their seed when they fail: TEST_SEED=N repeats one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include "cache/names.h"
#include "tests/unit/seeds.h"

enum { ROUNDS = 20000, ROOM = 2048 };

/* Pieces that escapes, NFC and ~ID could stumble over: marks that melt into hex digits, singletons,
 * characters whose NFC form is longer, invalid and control bytes. */
static const char *const pieces[] = {
    "%",
    "2",
    "F",
    "E",
    "5",
    "A",
    "%2F",
    "%2e",
    "%25",
    "%CC%87",
    "/",
    ".",
    "~",
    "1",
    "12",
    "\1",
    "\177",
    "\302\205",
    "\200",
    "\377",
    "\355\240\200",
    "\314\212",
    "\314\207",
    "\314\201",
    "a",
    "e\314\201",
    "\303\251",
    "\342\204\252",
    "\304\204\206\205",
    "\341\204\200\341\205\241",
    "\360\235\205\240",
    "\360\237\230\200",
    " ",
    "note",
    "\342\200\215",
    "\315\204",
};

static void random_name(char *out, size_t bytes) {
    size_t size = 0;

    while (size < bytes) {
        const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
        memcpy(out + size, piece, strlen(piece));
        size += strlen(piece);
    }
    out[size] = '\0';
}

/* NFC form of the valid parts of TEXT, the rest as it is: written down as simply as can be. */
static void model_nfc(const char *text, char *out) {
    size_t size = strlen(text);
    size_t run = 0;
    utf8proc_int32_t point;

    *out = '\0';
    while (run < size) {
        utf8proc_ssize_t step =
            utf8proc_iterate((const utf8proc_uint8_t *)text + run, (utf8proc_ssize_t)(size - run), &point);
        if (step <= 0)
            break;
        run += (size_t)step;
    }
    if (run > 0) {
        utf8proc_uint8_t *composed;
        utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
        assert_true(utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)run, &composed, options) >=
                    0);
        strcpy(out, (const char *)composed);
        free(composed);
    }
    if (run < size) {
        size_t end = strlen(out);
        out[end] = text[run];
        model_nfc(text + run + 1, out + end + 1);
    }
}

/* Reads escapes back. */
static void unescape(const char *shown, char *out) {
    static const char hex[] = "0123456789ABCDEF";

    while (*shown) {
        const char *high = shown[0] == '%' && shown[1] ? strchr(hex, shown[1]) : NULL;
        const char *low = high && shown[2] ? strchr(hex, shown[2]) : NULL;
        long byte = low ? (high - hex) * 16 + (low - hex) : 0;
        if (low && (byte < 0x20 || byte >= 0x7F || strchr("%./", (int)byte))) {
            *out++ = (char)byte;
            shown += 3;
        } else {
            *out++ = *shown++;
        }
    }
    *out = '\0';
}

static void require_showable(const char *shown) {
    char normal[NAMES_MAX_SHOWN + 1];

    REQUIRE(strlen(shown) >= 1 && strlen(shown) <= NAMES_MAX_SHOWN);
    REQUIRE(!strchr(shown, '/') && strcmp(shown, ".") != 0 && strcmp(shown, "..") != 0);
    REQUIRE(names_normalise(shown, normal) == 0 && strcmp(shown, normal) == 0);
    for (const char *at = shown; *at; at++)
        REQUIRE((unsigned char)*at >= 0x20 && *at != 0x7F);
}

/* ---- names_show ---- */

static void show_once(void) {
    char remote[ROOM];
    char model[ROOM * 3];
    char read[ROOM];
    char shown[NAMES_MAX_SHOWN + 1];
    char suffix[32];
    int64_t id = (int64_t)random_below(200);

    random_name(remote, random_below(8) ? random_below(20) : random_below(420));
    names_show(remote, id, false, shown);
    require_showable(shown);
    model_nfc(remote, model);
    unescape(shown, read);
    snprintf(suffix, sizeof suffix, "~%" PRId64, id);
    bool has_suffix =
        strlen(shown) >= strlen(suffix) && !strcmp(shown + strlen(shown) - strlen(suffix), suffix);
    bool cut = strlen(shown) > NAMES_MAX_SHOWN - 24;
    REQUIRE(strcmp(read, model) == 0 || ((cut || !*remote) && has_suffix));

    names_show(remote, id, true, shown);
    require_showable(shown);
    REQUIRE(!strcmp(shown + strlen(shown) - strlen(suffix), suffix));
}

static void every_remote_name_can_be_shown(void **unused) {
    (void)unused;
    each_seed(ROUNDS, show_once);
}

/* Two short names of few pieces: equal forms come from equal names only. */
static void injective_once(void) {
    char a[ROOM], b[ROOM], model_a[ROOM], model_b[ROOM];
    char shown_a[NAMES_MAX_SHOWN + 1], shown_b[NAMES_MAX_SHOWN + 1];

    random_name(a, random_below(4));
    random_name(b, random_below(4));
    model_nfc(a, model_a);
    model_nfc(b, model_b);
    names_show(a, 7, false, shown_a);
    names_show(b, 7, false, shown_b);
    REQUIRE((strcmp(model_a, model_b) == 0) == (strcmp(shown_a, shown_b) == 0) || !*a || !*b);
    names_show(b, 8, true, shown_b);
    names_show(a, 7, true, shown_a);
    REQUIRE(strcmp(shown_a, shown_b) != 0);
}

static void forms_are_injective(void **unused) {
    (void)unused;
    each_seed(ROUNDS, injective_once);
}

static void require_shown(const char *remote, int64_t id, bool taken, const char *expected) {
    char shown[NAMES_MAX_SHOWN + 1];

    names_show(remote, id, taken, shown);
    assert_string_equal(shown, expected);
}

static void forms_of_known_names(void **unused) {
    (void)unused;
    require_shown("deploy-log.txt", 12, false, "deploy-log.txt");
    require_shown("deploy-log.txt", 12, true, "deploy-log.txt~12");
    require_shown("a/b", 1, false, "a%2Fb");
    require_shown("a%2Fb", 1, false, "a%252Fb");
    require_shown("a%2fb 100% %20 %41", 1, false, "a%2fb 100% %20 %41");
    require_shown("a%252Fb", 1, false, "a%25252Fb");
    require_shown(".", 1, false, "%2E");
    require_shown("..", 1, false, "%2E%2E");
    require_shown("...", 1, false, "...");
    require_shown("%2E", 1, false, "%252E");
    require_shown("", 5, false, "~5");
    require_shown("", 5, true, "~5");
    require_shown("a\nb\177\302\205", 1, false, "a%0Ab%7F%C2%85");
    require_shown("x\377\303", 1, false, "x%FF%C3");
    require_shown("e\314\201", 1, false, "\303\251");
    require_shown("\n\314\212", 1, false, "%0A%CC%8A");
    require_shown("\nq\314\201", 1, false, "%0Aq\314\201");
    require_shown("%7F%80%7E%1F", 1, false, "%257F%2580%7E%251F");
    require_shown("a", INT64_MIN, true, "a~-9223372036854775808");
}

static void long_names_are_cut_at_a_character(void **unused) {
    (void)unused;
    char remote[ROOM];
    char shown[NAMES_MAX_SHOWN + 1];

    memset(remote, 'x', 256);
    remote[255] = '\0';
    names_show(remote, 1, false, shown);
    assert_string_equal(shown, remote);
    strcpy(remote + 255, "x");
    names_show(remote, 1, false, shown);
    assert_int_equal(strlen(shown), 255);
    assert_string_equal(shown + 252, "x~1");
    memcpy(remote + 252, "\303\251\303\251", 5);
    names_show(remote, 1, false, shown);
    assert_string_equal(shown + 251, "x~1");
    memcpy(remote + 250, "////", 5);
    names_show(remote, 1, false, shown);
    assert_string_equal(shown + 249, "x%2F~1");
    for (size_t i = 0; i < 1200; i += 4)
        memcpy(remote + i, "\360\235\205\240", 5);
    names_show(remote, 1, false, shown);
    assert_string_equal(shown + strlen(shown) - 2, "~1");
    assert_true(strlen(shown) > 240);
}

/* The meeting that the header leaves to the caller, and its way out. */
static void plain_form_gives_way_to_an_id(void **unused) {
    (void)unused;
    require_shown("foo", 12, true, "foo~12");
    require_shown("foo~12", 99, false, "foo~12");
    require_shown("foo~12", 99, true, "foo~12~99");
}

/* ---- names_check, names_normalise, names_fold ---- */

static int check(enum names_kind kind, const char *name) {
    char out[NAMES_MAX_SHOWN + 1];

    return names_check(kind, name, out);
}

static void check_accepts_and_composes(void **unused) {
    (void)unused;
    char out[NAMES_MAX_SHOWN + 1];

    assert_int_equal(names_check(NAMES_NOTE, "cafe\314\201 100%.txt", out), 0);
    assert_string_equal(out, "caf\303\251 100%.txt");
    assert_int_equal(check(NAMES_NOTE, "\360\237\230\200"), 0);
}

static void check_refuses(void **unused) {
    (void)unused;
    assert_int_equal(check(NAMES_NOTE, ""), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "."), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, ".."), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a/b"), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a\tb"), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a\177"), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a\302\205"), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a\342\200\213b"), -EINVAL);
    assert_int_equal(check(NAMES_FOLDER, "a\342\200\256b"), -EINVAL);
    assert_int_equal(check(NAMES_NOTE, "a\377"), -EILSEQ);
    assert_int_equal(check(NAMES_NOTE, "a\303"), -EILSEQ);
    assert_int_equal(check(NAMES_NOTE, "\355\240\200"), -EILSEQ);
}

static void repeat(char *out, const char *piece, size_t count) {
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * strlen(piece), piece, strlen(piece) + 1);
}

static void check_counts_after_composition(void **unused) {
    (void)unused;
    char name[ROOM];

    repeat(name, "e\314\201", 100);
    assert_int_equal(check(NAMES_NOTE, name), 0);
    repeat(name, "e\314\201", 101);
    assert_int_equal(check(NAMES_NOTE, name), -ENAMETOOLONG);
    repeat(name, "x", 201);
    assert_int_equal(check(NAMES_NOTE, name), -ENAMETOOLONG);
    repeat(name, "e\314\201", 80);
    assert_int_equal(check(NAMES_FOLDER, name), 0);
    repeat(name, "e\314\201", 81);
    assert_int_equal(check(NAMES_FOLDER, name), -ENAMETOOLONG);
    repeat(name, "\360\237\230\200", 64);
    assert_int_equal(check(NAMES_FOLDER, name), -ENAMETOOLONG);
    repeat(name, "x", 2000);
    assert_int_equal(check(NAMES_NOTE, name), -ENAMETOOLONG);
}

static void normalise_finds_other_spellings(void **unused) {
    (void)unused;
    char out[NAMES_MAX_SHOWN + 1];
    char name[ROOM];

    assert_int_equal(names_normalise("e\314\201", out), 0);
    assert_string_equal(out, "\303\251");
    assert_int_equal(names_normalise("a\tb", out), 0);
    assert_int_equal(names_normalise("\377", out), -EILSEQ);
    repeat(name, "x", 255);
    assert_int_equal(names_normalise(name, out), 0);
    repeat(name, "x", 256);
    assert_int_equal(names_normalise(name, out), -ENAMETOOLONG);
    repeat(name, "\342\204\252", 255);
    assert_int_equal(names_normalise(name, out), 0);
}

static void fold_joins_twins(void **unused) {
    (void)unused;
    char a[NAMES_KEY_SIZE], b[NAMES_KEY_SIZE];
    char name[ROOM];

    assert_int_equal(names_fold("\303\211TUDES Stra\303\237e", a), 0);
    assert_int_equal(names_fold("e\314\201tudes STRASSE", b), 0);
    assert_string_equal(a, b);
    assert_int_equal(names_fold("etudes", b), 0);
    assert_string_not_equal(a, b);
    repeat(name, "\316\220", 127);
    assert_int_equal(names_fold(name, a), 0);
    assert_int_equal(names_fold("\377", a), -EILSEQ);
    repeat(name, "x", 256);
    assert_int_equal(names_fold(name, a), -ENAMETOOLONG);
}

/* ---- scratch ---- */

static void scratch_names(void **unused) {
    (void)unused;
    static const char *const scratch[] = {
        ".note.swp",
        ".note.txt.swo",
        ".note.swa",
        ".swp",
        ".note.swx",
        ".note.swpx",
        "4913",
        "5036",
        "6020",
        "note~",
        "#note#",
        ".#note",
        ".~lock.note.odt#",
        ".goutputstream-X1Y2Z3",
        ".DS_Store",
        "._note",
        ".Trash-1000",
        ".Trash",
        ".fuse_hidden0000001",
        ".nfs00000001",
    };
    static const char *const kept[] = {
        "note",  "note.swp",   ".note.swq",  ".note.svg",      ".note.sql", ".svn",
        ".ssh",  ".note.swpy", ".sw",        ".note.sw",       "4914",      "04913",
        "6143",  "49130",      "note~12",    "#note",          "note#",     "#",
        ".note", ".lock",      ".DS_Store2", "goutputstream-", ".swiss",    ".",
    };

    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        if (!names_is_scratch(scratch[i], NULL))
            fail_msg("%s is not scratch", scratch[i]);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (names_is_scratch(kept[i], NULL))
            fail_msg("%s is scratch", kept[i]);
}

static void scratch_names_of_the_user(void **unused) {
    (void)unused;
    char tmp[] = "*.tmp";
    char part[] = "[0-9]?.part";
    char *const globs[] = {tmp, part, NULL};

    assert_true(names_is_scratch(".a.tmp", globs));
    assert_true(names_is_scratch("1\?.part", globs));
    assert_false(names_is_scratch("a.tmp2", globs));
    assert_true(names_is_scratch("a~", globs));
}

/* ---- invented names ---- */

static void require_copy(const char *name, enum names_why why, unsigned attempt, const char *expected) {
    char out[NAMES_MAX_SHOWN + 1];

    names_copy_of(name, why, 1795456080, attempt, out);
    assert_string_equal(out, expected);
}

static void copies_keep_their_extension(void **unused) {
    (void)unused;
    setenv("TZ", "UTC-2", 1);
    tzset();
    require_copy("a", NAMES_CONFLICT, 1, "a (conflict 2026-11-23 19.48.00)");
    require_copy("a.txt", NAMES_LOCAL, 1, "a (local 2026-11-23 19.48.00).txt");
    require_copy("a.tar.gz", NAMES_CONFLICT, 3, "a.tar (conflict 2026-11-23 19.48.00) 3.gz");
    require_copy(".bashrc", NAMES_CONFLICT, 2, ".bashrc (conflict 2026-11-23 19.48.00) 2");
    require_copy("v1.5", NAMES_CONFLICT, 0, "v1.5 (conflict 2026-11-23 19.48.00)");
    require_copy("so.he said", NAMES_CONFLICT, 1, "so.he said (conflict 2026-11-23 19.48.00)");
}

static void copy_once(void) {
    char remote[ROOM];
    char shown[NAMES_MAX_SHOWN + 1];
    char out[NAMES_MAX_SHOWN + 1];
    char second[NAMES_MAX_SHOWN + 1];
    int64_t when = (int64_t)random_word() * (random_below(8) == 0);

    random_name(remote, random_below(300));
    strcat(remote, random_below(2) ? ".txt" : "");
    names_show(remote, 1, false, shown);
    names_copy_of(shown, NAMES_CONFLICT, when, 1, out);
    REQUIRE(strlen(out) <= NAMES_MAX_NOTE);
    require_showable(out);
    names_copy_of(shown, NAMES_CONFLICT, when, 2, second);
    REQUIRE(strlen(second) <= NAMES_MAX_NOTE && strcmp(out, second) != 0);
}

static void copies_have_room(void **unused) {
    (void)unused;
    each_seed(ROUNDS, copy_once);
}

static void temporary_names(void **unused) {
    (void)unused;
    char a[NAMES_MAX_SHOWN + 1], b[NAMES_MAX_SHOWN + 1];

    names_temporary(12, a);
    names_temporary(12, b);
    assert_string_equal(a, b);
    names_temporary(13, b);
    assert_string_not_equal(a, b);
    assert_int_equal(check(NAMES_NOTE, a), 0);
    assert_false(names_is_scratch(a, NULL));
    assert_int_equal(strspn(a, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(a));
}

/* ---- renderings ---- */

static void renderings(void **unused) {
    (void)unused;
    assert_true(names_is_rendering("deploy-log.txt", "deploy-log.txt"));
    assert_true(names_is_rendering("Recovery codes", "recovery-codes"));
    assert_true(names_is_rendering("Research 2026 Q2", "research-2026-q2"));
    assert_true(names_is_rendering("deploy-log.txt", "deploy-log-txt"));
    assert_true(names_is_rendering("caf\303\251", "cafe\314\201"));
    assert_true(names_is_rendering("Caf\303\251 cr\303\250me", "cafe-creme"));
    assert_true(names_is_rendering("\346\227\245\346\234\254 notes", "notes"));
    assert_true(names_is_rendering("!!!", "!!!"));
    assert_true(names_is_rendering("a\342\200\213b/c", "abc"));
    assert_true(names_is_rendering("!/!", "!!"));
    assert_false(names_is_rendering("!!!", "---"));
    assert_false(names_is_rendering("notes", "notes-2"));
    assert_false(names_is_rendering("old", "new"));
    assert_false(names_is_rendering("\346\227\245", "20261123-174800-ab12.txt"));
    assert_false(names_is_rendering("a", "\377"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_remote_name_can_be_shown),
        cmocka_unit_test(forms_are_injective),
        cmocka_unit_test(forms_of_known_names),
        cmocka_unit_test(long_names_are_cut_at_a_character),
        cmocka_unit_test(plain_form_gives_way_to_an_id),
        cmocka_unit_test(check_accepts_and_composes),
        cmocka_unit_test(check_refuses),
        cmocka_unit_test(check_counts_after_composition),
        cmocka_unit_test(normalise_finds_other_spellings),
        cmocka_unit_test(fold_joins_twins),
        cmocka_unit_test(scratch_names),
        cmocka_unit_test(scratch_names_of_the_user),
        cmocka_unit_test(copies_keep_their_extension),
        cmocka_unit_test(copies_have_room),
        cmocka_unit_test(temporary_names),
        cmocka_unit_test(renderings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
