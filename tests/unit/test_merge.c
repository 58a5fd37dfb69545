/* Tests of cache/merge against a slow model (longest common subsequence by dynamic programming, then
 * diff3 as its definition reads) and against git. Random runs print their seed when they
 * fail: TEST_SEED=N repeats one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/merge.h"
#include "tests/unit/seeds.h"

enum { ROUNDS = 20000, GIT_ROUNDS = 60, LINES = 40, ROOM = 4096 };

/* ---- texts as sequences of numbers ---- */

/* A text whose lines are small numbers; no final newline unless ENDED. */
struct script {
    int line[LINES];
    int count;
    bool ended;
};

struct written {
    char data[ROOM];
    size_t size;
};

static void write_script(const struct script *script, struct written *out) {
    out->size = 0;
    for (int i = 0; i < script->count; i++)
        out->size += (size_t)sprintf(out->data + out->size, "line %d\n", script->line[i]);
    if (!script->ended && out->size > 0)
        out->size--;
}

static void add(struct script *script, int line) {
    if (script->count < LINES)
        script->line[script->count++] = line;
}

static struct script random_script(int lines, int alphabet) {
    struct script script = {.ended = random_below(4) != 0};

    for (int i = (int)random_below((uint32_t)lines + 1); i > 0; i--)
        add(&script, (int)random_below((uint32_t)alphabet));
    return script;
}

/* FROM with some lines replaced, deleted or inserted; new lines are FRESH, FRESH + 1, ... */
static struct script edit(const struct script *from, unsigned one_in, int fresh) {
    struct script to = {.ended = from->ended != (random_below(6) == 0)};

    for (int i = 0; i <= from->count; i++) {
        unsigned what = random_below(one_in);
        if (what == 0 || what == 1)
            add(&to, fresh++);
        if (i < from->count && what != 1 && what != 2)
            add(&to, from->line[i]);
    }
    return to;
}

static int merge(const struct script *o, const struct script *a, const struct script *b,
                 enum merge_outcome *outcome, struct written *out) {
    struct written texts[3];
    char *data = NULL;
    size_t size = 0;

    write_script(o, &texts[0]);
    write_script(a, &texts[1]);
    write_script(b, &texts[2]);
    int rc = merge_lines((struct merge_text){texts[0].data, texts[0].size},
                         (struct merge_text){texts[1].data, texts[1].size},
                         (struct merge_text){texts[2].data, texts[2].size}, outcome, &data, &size);
    if (rc == 0 && *outcome == MERGE_CLEAN) {
        REQUIRE(data && size <= ROOM);
        memcpy(out->data, data, size);
        out->size = size;
        free(data);
    }
    return rc;
}

static bool is_written(const struct written *text, const struct script *script) {
    struct written expected;

    write_script(script, &expected);
    return text->size == expected.size && memcmp(text->data, expected.data, text->size) == 0;
}

/* ---- laws ---- */

static void laws_once(void) {
    int alphabet = 2 + (int)random_below(20);
    struct script o = random_script(20, alphabet);
    struct script a = random_below(3) ? edit(&o, 3 + random_below(10), 100) : random_script(20, alphabet);
    struct script b = random_below(3) ? edit(&o, 3 + random_below(10), 100) : random_script(20, alphabet);
    enum merge_outcome one, other;
    struct written x, y;

    REQUIRE(merge(&o, &o, &b, &one, &x) == 0 && one == MERGE_CLEAN && is_written(&x, &b));
    REQUIRE(merge(&o, &b, &o, &one, &x) == 0 && one == MERGE_CLEAN && is_written(&x, &b));
    REQUIRE(merge(&o, &b, &b, &one, &x) == 0 && one == MERGE_CLEAN && is_written(&x, &b));
    REQUIRE(merge(&o, &a, &b, &one, &x) == 0);
    REQUIRE(merge(&o, &b, &a, &other, &y) == 0);
    REQUIRE(one == other);
    REQUIRE(one == MERGE_OVERLAP || (x.size == y.size && memcmp(x.data, y.data, x.size) == 0));
}

static void laws_hold(void **unused) {
    (void)unused;
    each_seed(ROUNDS, laws_once);
}

/* Edits of two sides with an untouched line between any two of them are all in the result. */
static void separate_once(void) {
    struct script o = {.ended = true}, a = {.ended = true}, b = {.ended = true}, expected = {.ended = true};
    enum merge_outcome outcome;
    struct written x;

    for (int i = 0; i < 10; i++) {
        struct script *side = random_below(2) ? &a : &b;
        struct script *other = side == &a ? &b : &a;
        unsigned what = random_below(4);
        if (what != 0) {
            add(&o, 10 + i);
            add(other, 10 + i);
        }
        if (what != 1) {
            add(side, what == 2 ? 10 + i : 30 + i);
            add(&expected, what == 2 ? 10 + i : 30 + i);
        }
        add(&o, 50 + i);
        add(&a, 50 + i);
        add(&b, 50 + i);
        add(&expected, 50 + i);
    }
    REQUIRE(merge(&o, &a, &b, &outcome, &x) == 0);
    REQUIRE(outcome == MERGE_CLEAN && is_written(&x, &expected));
}

static void separate_edits_are_all_there(void **unused) {
    (void)unused;
    each_seed(ROUNDS, separate_once);
}

/* ---- the model ---- */

/* Fills MATCH by the longest common subsequence of O and S. False if there is more than one. */
static bool model_match(const struct script *o, const struct script *s, int *match) {
    static int length[LINES + 1][LINES + 1];
    static long ways[LINES + 1][LINES + 1];

    for (int i = 0; i <= o->count; i++)
        for (int j = 0; j <= s->count; j++) {
            length[i][j] = 0;
            ways[i][j] = 1;
            if (i == 0 || j == 0)
                continue;
            bool same = o->line[i - 1] == s->line[j - 1];
            int best = length[i - 1][j] > length[i][j - 1] ? length[i - 1][j] : length[i][j - 1];
            if (same && length[i - 1][j - 1] + 1 > best)
                best = length[i - 1][j - 1] + 1;
            length[i][j] = best;
            ways[i][j] = (length[i - 1][j] == best ? ways[i - 1][j] : 0) +
                         (length[i][j - 1] == best ? ways[i][j - 1] : 0) -
                         (length[i - 1][j - 1] == best ? ways[i - 1][j - 1] : 0) +
                         (same && length[i - 1][j - 1] + 1 == best ? ways[i - 1][j - 1] : 0);
        }
    for (int i = o->count, j = s->count; i > 0;) {
        match[i - 1] = -1;
        if (length[i - 1][j] == length[i][j])
            i--;
        else if (j > 0 && length[i][j - 1] == length[i][j])
            j--;
        else
            match[--i] = --j;
    }
    return ways[o->count][s->count] == 1;
}

static bool same_lines(const int *x, int x_count, const int *y, int y_count) {
    return x_count == y_count && memcmp(x, y, (size_t)x_count * sizeof *x) == 0;
}

/* diff3: false on a conflict. */
static bool model_merge(const struct script *o, const struct script *a, const struct script *b,
                        const int *match_a, const int *match_b, struct script *out) {
    int i = 0, j = 0, k = 0;

    out->count = 0;
    out->ended = a->ended == o->ended ? b->ended : a->ended;
    for (;;) {
        int next = i;
        while (next < o->count && (match_a[next] < 0 || match_b[next] < 0))
            next++;
        int next_a = next < o->count ? match_a[next] : a->count;
        int next_b = next < o->count ? match_b[next] : b->count;
        bool a_same = same_lines(o->line + i, next - i, a->line + j, next_a - j);
        bool b_same = same_lines(o->line + i, next - i, b->line + k, next_b - k);
        bool equal = same_lines(a->line + j, next_a - j, b->line + k, next_b - k);
        if (!a_same && !b_same && !equal)
            return false;
        for (; !a_same && j < next_a; j++)
            add(out, a->line[j]);
        for (; a_same && k < next_b; k++)
            add(out, b->line[k]);
        if (next == o->count)
            return true;
        add(out, o->line[next]);
        i = next + 1;
        j = next_a + 1;
        k = next_b + 1;
    }
}

static unsigned model_clean, model_overlap;

/* Exchanges lines here and there: what makes shortest paths hard to find. */
static void shuffle(struct script *script) {
    for (unsigned swaps = random_below(5); swaps > 0 && script->count > 0; swaps--) {
        unsigned x = random_below((uint32_t)script->count);
        unsigned y = random_below((uint32_t)script->count);
        int line = script->line[x];
        script->line[x] = script->line[y];
        script->line[y] = line;
    }
}

static void model_once(void) {
    struct script o = random_script(24, 6 + (int)random_below(24));
    struct script a = edit(&o, 4 + random_below(30), random_below(2) ? 100 : (int)random_below(12));
    struct script b = edit(&o, 4 + random_below(60), random_below(2) ? 200 : (int)random_below(12));
    struct script expected;
    int match_a[LINES], match_b[LINES];
    enum merge_outcome outcome;
    struct written x;

    shuffle(&a);
    /* Empty texts have no last line that could lack its newline. */
    o.ended |= o.count == 0;
    a.ended |= a.count == 0;
    b.ended |= b.count == 0;
    if (!model_match(&o, &a, match_a) || !model_match(&o, &b, match_b))
        return;
    bool clean = model_merge(&o, &a, &b, match_a, match_b, &expected);
    REQUIRE(merge(&o, &a, &b, &outcome, &x) == 0);
    REQUIRE((outcome == MERGE_CLEAN) == clean);
    REQUIRE(!clean || is_written(&x, &expected));
    model_clean += clean;
    model_overlap += !clean;
}

static void outcome_is_the_models(void **unused) {
    (void)unused;
    each_seed(ROUNDS, model_once);
    if (!getenv("TEST_SEED"))
        assert_true(model_clean > ROUNDS / 20 && model_overlap > ROUNDS / 20);
}

/* ---- git ---- */

static void write_file(const char *dir, const char *name, const struct script *script, char *path,
                       size_t room) {
    struct written text;
    FILE *file;

    snprintf(path, room, "%s/%s", dir, name);
    write_script(script, &text);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.size, file), text.size);
    assert_int_equal(fclose(file), 0);
}

/* Runs git merge-file; true if it merged cleanly, with its result in OUT. */
static bool git_merge(const struct script *o, const struct script *a, const struct script *b,
                      struct written *out) {
    char dir[] = "/tmp/test_merge.XXXXXX";
    char path_o[64], path_a[64], path_b[64], command[256];

    assert_non_null(mkdtemp(dir));
    write_file(dir, "o", o, path_o, sizeof path_o);
    write_file(dir, "a", a, path_a, sizeof path_a);
    write_file(dir, "b", b, path_b, sizeof path_b);
    snprintf(command, sizeof command, "git merge-file -p %s %s %s 2>/dev/null", path_a, path_o, path_b);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    out->size = fread(out->data, 1, ROOM, pipe);
    int status = pclose(pipe);
    unlink(path_o);
    unlink(path_a);
    unlink(path_b);
    rmdir(dir);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 128);
    return WEXITSTATUS(status) == 0;
}

/* No line occurs twice, so that there is only one way to compare; the sides change different lines. */
static void git_once(void) {
    struct script o = {.ended = true};
    enum merge_outcome outcome;
    struct written x, y;

    for (int i = 0; i < 20; i++)
        add(&o, i);
    struct script a = edit(&o, 20, 100);
    struct script b = edit(&o, 20, 200);
    a.ended = b.ended = true;
    bool clean = git_merge(&o, &a, &b, &y);
    REQUIRE(merge(&o, &a, &b, &outcome, &x) == 0);
    REQUIRE((outcome == MERGE_CLEAN) == clean);
    REQUIRE(!clean || (x.size == y.size && memcmp(x.data, y.data, x.size) == 0));
}

static void outcome_is_gits(void **unused) {
    (void)unused;
    if (system("git --version >/dev/null 2>&1") != 0)
        skip();
    each_seed(GIT_ROUNDS, git_once);
}

/* ---- single cases ---- */

static void require_merge(const char *o, const char *a, const char *b, const char *expected) {
    enum merge_outcome outcome;
    char *data = NULL;
    size_t size;

    assert_int_equal(merge_lines((struct merge_text){o, strlen(o)}, (struct merge_text){a, strlen(a)},
                                 (struct merge_text){b, strlen(b)}, &outcome, &data, &size),
                     0);
    assert_int_equal(outcome, expected ? MERGE_CLEAN : MERGE_OVERLAP);
    if (!expected)
        return;
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(data, expected, size);
    free(data);
}

static void known_merges(void **unused) {
    (void)unused;
    require_merge("1\n2\n3\n", "1a\n2\n3\n", "1\n2\n3b\n", "1a\n2\n3b\n");
    require_merge("1\n2\n3\n", "0\n1\n2\n3\n", "1\n2\n3\n4\n", "0\n1\n2\n3\n4\n");
    require_merge("1\n2\n3\n", "1\n3\n", "1\n3\n", "1\n3\n");
    require_merge("1\n2\n3\n", "1\nx\n3\n", "1\nx\n3\n4\n", "1\nx\n3\n4\n");
    require_merge("1\n2\n3\n", "1\n2\n", "0\n1\n2\n3\n", "0\n1\n2\n");
    require_merge("", "", "", "");
    require_merge("1\n", "", "1\n", "");
    require_merge("", "a\n", "", "a\n");
}

static void touching_changes_overlap(void **unused) {
    (void)unused;
    require_merge("1\n2\n", "1a\n2\n", "1b\n2\n", NULL);
    require_merge("1\n2\n", "1a\n2\n", "1\n2b\n", NULL);
    require_merge("1\n2\n", "1\nx\n2\n", "1\n2b\n", NULL);
    require_merge("1\n", "1\na\n", "1\nb\n", NULL);
    require_merge("1\n", "1\na\n", "1\na\nb\n", NULL);
    require_merge("", "a\n", "b\n", NULL);
    require_merge("1\n2\n3\n", "1\n3\n", "1\n2b\n3\n", NULL);
}

static void final_newlines_merge_too(void **unused) {
    (void)unused;
    require_merge("1\n2\n3", "0\n2\n3", "1\n2\n3\n", "0\n2\n3\n");
    require_merge("1\n2\n3\n", "0\n2\n3\n", "1\n2\n3", "0\n2\n3");
    require_merge("1\n2", "1\n2\n", "1\n2\n", "1\n2\n");
    require_merge("1\n2\n3\n", "0\n2\n3", "1\n2\n3\n\n", "0\n2\n3\n\n");
    require_merge("", "a", "", "a");
    require_merge("\n", "\n", "\n\n", "\n\n");
}

static void empty_texts_may_be_null(void **unused) {
    (void)unused;
    enum merge_outcome outcome;
    struct merge_text none = {NULL, 0};
    char *data = NULL;
    size_t size = 1;

    assert_int_equal(merge_lines(none, none, none, &outcome, &data, &size), 0);
    assert_int_equal(outcome, MERGE_CLEAN);
    assert_int_equal(size, 0);
    assert_non_null(data);
    free(data);
}

/* ---- bounds ---- */

enum { BIG = 120000 };

static char *big_text(int modulus, int step, size_t *out_size) {
    char *data = malloc((size_t)BIG * 16);
    size_t size = 0;

    assert_non_null(data);
    for (long long i = 0; i < BIG; i++)
        size += (size_t)sprintf(data + size, "%lld\n", i * step % modulus);
    *out_size = size;
    return data;
}

/* Big texts of unrelated order must not take the square of their size; rewritten ones must merge. */
static void work_is_bounded(void **unused) {
    (void)unused;
    size_t o_size, a_size, b_size;
    char *o = big_text(120011, 1, &o_size);
    char *a = big_text(120011, 7919, &a_size);
    char *b = big_text(1000000007, 8009, &b_size);
    struct merge_text ancestor = {o, o_size}, shuffled = {a, a_size}, rewritten = {b, b_size};
    enum merge_outcome outcome;
    char *data = NULL;
    size_t size;

    assert_int_equal(merge_lines(ancestor, shuffled, ancestor, &outcome, &data, &size), -EFBIG);
    assert_null(data);
    assert_int_equal(merge_lines(ancestor, rewritten, ancestor, &outcome, &data, &size), 0);
    assert_int_equal(outcome, MERGE_CLEAN);
    assert_true(size == b_size && memcmp(data, b, size) == 0);
    free(data);
    free(o);
    free(a);
    free(b);
}

/* Lines chosen to meet in the table of lines (it knows the hash: change both). */
static void table_work_is_bounded(void **unused) {
    (void)unused;
    enum { MEETING = 40000, SLOTS = 1 << 17, CROWDED = 2048 };
    char *data = malloc((size_t)MEETING * 16);
    struct merge_text crowd = {data, 0};
    struct merge_text none = {"", 0};
    enum merge_outcome outcome;
    char *merged = NULL;
    size_t size;

    assert_non_null(data);
    for (int lines = 0, n = 0; lines < MEETING; n++) {
        int length = sprintf(data + crowd.size, "%d\n", n);
        uint64_t hash = 0xCBF29CE484222325u;
        for (int i = 0; i < length - 1; i++)
            hash = (hash ^ (uint8_t)data[crowd.size + (size_t)i]) * 0x100000001B3u;
        if (((hash ^ (hash >> 32)) & (SLOTS - 1)) >= CROWDED)
            continue;
        crowd.size += (size_t)length;
        lines++;
    }
    assert_int_equal(merge_lines(crowd, none, none, &outcome, &merged, &size), -EFBIG);
    assert_null(merged);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_merges),
        cmocka_unit_test(touching_changes_overlap),
        cmocka_unit_test(final_newlines_merge_too),
        cmocka_unit_test(empty_texts_may_be_null),
        cmocka_unit_test(laws_hold),
        cmocka_unit_test(separate_edits_are_all_there),
        cmocka_unit_test(outcome_is_the_models),
        cmocka_unit_test(outcome_is_gits),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(table_work_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
