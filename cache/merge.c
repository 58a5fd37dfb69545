/* merge: three-way merge by lines, for a rewrite here that meets one made elsewhere.
 *
 * Three steps. Every distinct line of the three texts gets a number, so that comparing
 * lines is comparing integers (a line counts without its newline: a last line that lacks
 * it is the same line). Each side is compared with the ancestor by Myers' algorithm in
 * linear space ("An O(ND) Difference Algorithm and Its Variations", 1986, section 4b),
 * lines that only one of the two has being set aside first. Then the ancestor is
 * walked as diff3 does: lines that both sides kept are stable; between two stable lines
 * the side that changed something wins, and if both did they must have done the same.
 *
 * Hence: a clean merge holds every change of both sides; merge(o, o, x) = x and
 * merge(o, x, x) = x to the byte; swapping the sides changes nothing; two changes with no
 * stable line between them overlap, as in git. Whether the result ends in a newline is
 * merged like a line of its own.
 *
 * Bounded: comparing costs (lines x differences), which a hostile or merely unrelated text
 * drives up to the square; probing the table of lines costs what somebody who knows the
 * hash wants. Both draw on one allowance, and what exceeds it is -EFBIG.
 *
 * Called by push and pull when a rewrite's ancestor is no longer the remote version.
 */
#include "cache/merge.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    TEXT_MAX = 1 << 28,       /* bytes of one text: all indices fit into int32_t */
    WORK_MAX = 100 * 1000000, /* elementary steps of one merge: about half a second */
    IN_ANCESTOR = 1,          /* bits of merge.seen */
    IN_SIDE = 2,
};

struct line {
    const char *data;
    int32_t size; /* without newline */
};

/* One of the three texts. */
struct text {
    struct line *lines;
    int32_t *ids;
    int32_t count;
    bool ended;     /* the last line has its newline; true when there is none */
    int32_t *match; /* sides: for each line of the ancestor the side's same line, or -1 */
};

struct slot {
    struct line line;
    int32_t id; /* 0: free */
};

struct merge {
    struct text ancestor, ours, theirs;
    struct slot *slots; /* hash table of all lines, open addressing */
    size_t slot_mask;
    int32_t last_id;
    uint8_t *seen; /* by id: who has the line */
    int64_t work;  /* steps left */
};

/* One side against the ancestor, both without the lines that the other doesn't have. A is the
 * ancestor. */
struct diff {
    int32_t *a, *b;       /* ids */
    int32_t *a_at, *b_at; /* their line numbers in the whole text */
    int32_t a_count, b_count;
    int32_t *forward, *backward; /* by diagonal (a - b): how far a path of so many edits gets */
    int32_t *match;
    int64_t *work;
};

/* A part of the two, ends exclusive. */
struct box {
    int32_t a0, a1, b0, b1;
};

/* Diagonals that the two searches of one box have reached. */
struct reach {
    int32_t forward_low, forward_high;
    int32_t backward_low, backward_high;
};

/* ---- lines and their numbers ---- */

static int text_split(struct text *text, struct merge_text from) {
    const char *data = from.size > 0 ? from.data : "";
    const char *end = data + from.size;
    size_t count = 0;

    if (from.size > TEXT_MAX)
        return -EFBIG;
    for (size_t i = 0; i < from.size; i++)
        count += data[i] == '\n';
    text->ended = from.size == 0 || end[-1] == '\n';
    count += !text->ended;
    text->lines = calloc(count + 1, sizeof *text->lines);
    text->ids = calloc(count + 1, sizeof *text->ids);
    if (!text->lines || !text->ids)
        return -ENOMEM;

    for (const char *at = data; text->count < (int32_t)count; text->count++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        text->lines[text->count] = (struct line){at, (int32_t)(stop - at)};
        at = newline ? newline + 1 : end;
    }
    return 0;
}

static size_t line_hash(struct line line) {
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */

    for (int32_t i = 0; i < line.size; i++)
        hash = (hash ^ (uint8_t)line.data[i]) * 0x100000001B3u;
    return (size_t)(hash ^ (hash >> 32));
}

static bool line_equal(struct line x, struct line y) {
    return x.size == y.size && memcmp(x.data, y.data, (size_t)x.size) == 0;
}

/* Number of LINE, a new one if it wasn't seen before. */
static int32_t merge_number(struct merge *merge, struct line line) {
    size_t at = line_hash(line) & merge->slot_mask;

    while (merge->slots[at].id != 0 && !line_equal(merge->slots[at].line, line)) {
        at = (at + 1) & merge->slot_mask;
        if (--merge->work < 0)
            return -EFBIG;
    }
    if (merge->slots[at].id == 0)
        merge->slots[at] = (struct slot){line, ++merge->last_id};
    return merge->slots[at].id;
}

static int merge_number_text(struct merge *merge, struct text *text) {
    for (int32_t i = 0; i < text->count; i++) {
        text->ids[i] = merge_number(merge, text->lines[i]);
        if (text->ids[i] < 0)
            return text->ids[i];
    }
    return 0;
}

static int merge_number_all(struct merge *merge) {
    size_t lines = (size_t)merge->ancestor.count + (size_t)merge->ours.count + (size_t)merge->theirs.count;
    size_t slots = 16;
    int rc;

    while (slots < 2 * lines)
        slots *= 2;
    merge->slot_mask = slots - 1;
    merge->slots = calloc(slots, sizeof *merge->slots);
    if (!merge->slots)
        return -ENOMEM;

    rc = merge_number_text(merge, &merge->ancestor);
    if (rc == 0)
        rc = merge_number_text(merge, &merge->ours);
    if (rc == 0)
        rc = merge_number_text(merge, &merge->theirs);
    if (rc < 0)
        return rc;
    merge->seen = calloc((size_t)merge->last_id + 1, sizeof *merge->seen);
    return merge->seen ? 0 : -ENOMEM;
}

/* ---- one side against the ancestor ---- */

static int32_t smaller(int32_t x, int32_t y) {
    return x < y ? x : y;
}

static int32_t larger(int32_t x, int32_t y) {
    return x > y ? x : y;
}

/* Widens LOW..HIGH by a diagonal at each end, with NOWHERE beyond them; where the box [LEAST, MOST] ends,
 * narrows it instead: every second diagonal is looked at. */
static void widen(int32_t *low, int32_t *high, int32_t least, int32_t most, int32_t *reached,
                  int32_t nowhere) {
    if (*low > least)
        reached[--*low - 1] = nowhere;
    else
        ++*low;
    if (*high < most)
        reached[++*high + 1] = nowhere;
    else
        --*high;
}

/* Follows every forward path by one more edit and the equal lines after it. True when one meets a
 * backward path, in *OUT_A on diagonal *OUT_K; only asked to look if MAY_MEET. */
static bool search_forward(struct diff *diff, const struct box *box, struct reach *reach, bool may_meet,
                           int32_t *out_a, int32_t *out_k) {
    int32_t *reached = diff->forward;

    widen(&reach->forward_low, &reach->forward_high, box->a0 - box->b1, box->a1 - box->b0, reached, -1);
    for (int32_t k = reach->forward_high; k >= reach->forward_low; k -= 2) {
        int32_t start = larger(reached[k - 1] + 1, reached[k + 1]);
        int32_t a = start;
        while (a < box->a1 && a - k < box->b1 && diff->a[a] == diff->b[a - k])
            a++;
        reached[k] = a;
        *diff->work -= 1 + a - start;
        if (may_meet && k >= reach->backward_low && k <= reach->backward_high && diff->backward[k] <= a) {
            *out_a = a;
            *out_k = k;
            return true;
        }
    }
    return false;
}

/* The same from the other end. */
static bool search_backward(struct diff *diff, const struct box *box, struct reach *reach, bool may_meet,
                            int32_t *out_a, int32_t *out_k) {
    int32_t *reached = diff->backward;

    widen(&reach->backward_low, &reach->backward_high, box->a0 - box->b1, box->a1 - box->b0, reached,
          INT32_MAX);
    for (int32_t k = reach->backward_high; k >= reach->backward_low; k -= 2) {
        int32_t start = smaller(reached[k - 1], reached[k + 1] - 1);
        int32_t a = start;
        while (a > box->a0 && a - k > box->b0 && diff->a[a - 1] == diff->b[a - k - 1])
            a--;
        reached[k] = a;
        *diff->work -= 1 + start - a;
        if (may_meet && k >= reach->forward_low && k <= reach->forward_high && a <= diff->forward[k]) {
            *out_a = a;
            *out_k = k;
            return true;
        }
    }
    return false;
}

/* Finds a point in the middle of a shortest path through BOX, which has lines on both sides that
 * differ at both ends. 0 or -EFBIG. */
static int find_middle(struct diff *diff, const struct box *box, int32_t *out_a, int32_t *out_b) {
    int32_t first = box->a0 - box->b0;
    int32_t last = box->a1 - box->b1;
    bool odd = (first - last) % 2 != 0;
    struct reach reach = {first, first, last, last};
    int32_t k;

    diff->forward[first] = box->a0;
    diff->backward[last] = box->a1;
    while (*diff->work > 0) {
        if (search_forward(diff, box, &reach, odd, out_a, &k) ||
            search_backward(diff, box, &reach, !odd, out_a, &k)) {
            *out_b = *out_a - k;
            return 0;
        }
    }
    return -EFBIG;
}

static void pair(struct diff *diff, int32_t a, int32_t b) {
    diff->match[diff->a_at[a]] = diff->b_at[b];
}

/* Pairs the lines of BOX. Every level halves the differences: it goes log2 of them deep. */
static int diff_box(struct diff *diff, struct box box) {
    int32_t a;
    int32_t b;

    while (box.a0 < box.a1 && box.b0 < box.b1 && diff->a[box.a0] == diff->b[box.b0])
        pair(diff, box.a0++, box.b0++);
    while (box.a0 < box.a1 && box.b0 < box.b1 && diff->a[box.a1 - 1] == diff->b[box.b1 - 1])
        pair(diff, --box.a1, --box.b1);
    if (box.a0 == box.a1 || box.b0 == box.b1)
        return 0;

    int rc = find_middle(diff, &box, &a, &b);
    if (rc == 0)
        rc = diff_box(diff, (struct box){box.a0, a, box.b0, b});
    if (rc == 0)
        rc = diff_box(diff, (struct box){a, box.a1, b, box.b1});
    return rc;
}

/* Copies the lines of TEXT that both texts have. */
static int32_t keep_common(const struct merge *merge, const struct text *text, int32_t *ids, int32_t *at) {
    int32_t count = 0;

    for (int32_t i = 0; i < text->count; i++) {
        if (merge->seen[text->ids[i]] != (IN_ANCESTOR | IN_SIDE))
            continue;
        ids[count] = text->ids[i];
        at[count++] = i;
    }
    return count;
}

static void merge_mark_seen(struct merge *merge, const struct text *side) {
    memset(merge->seen, 0, (size_t)merge->last_id + 1);
    for (int32_t i = 0; i < merge->ancestor.count; i++)
        merge->seen[merge->ancestor.ids[i]] |= IN_ANCESTOR;
    for (int32_t i = 0; i < side->count; i++)
        merge->seen[side->ids[i]] |= IN_SIDE;
}

/* Fills SIDE's match. */
static int merge_match(struct merge *merge, struct text *side) {
    size_t a_count = (size_t)merge->ancestor.count;
    size_t b_count = (size_t)side->count;
    size_t diagonals = a_count + b_count + 3;
    int32_t *room = calloc(2 * (a_count + b_count + diagonals), sizeof *room);
    struct diff diff = {.work = &merge->work};
    int rc = -ENOMEM;

    side->match = calloc(a_count + 1, sizeof *side->match);
    if (!room || !side->match)
        goto out;
    for (size_t i = 0; i < a_count; i++)
        side->match[i] = -1;
    diff.match = side->match;
    diff.a = room;
    diff.a_at = diff.a + a_count;
    diff.b = diff.a_at + a_count;
    diff.b_at = diff.b + b_count;
    diff.forward = diff.b_at + b_count + b_count + 1; /* diagonals from -(b_count + 1) */
    diff.backward = diff.forward + diagonals;

    merge_mark_seen(merge, side);
    diff.a_count = keep_common(merge, &merge->ancestor, diff.a, diff.a_at);
    diff.b_count = keep_common(merge, side, diff.b, diff.b_at);
    rc = diff_box(&diff, (struct box){0, diff.a_count, 0, diff.b_count});
out:
    free(room);
    return rc;
}

/* ---- the walk ---- */

/* Lines FROM..TO of a text. */
struct chunk {
    const struct text *text;
    int32_t from, to;
};

struct output {
    char *data;
    size_t size;
};

static void emit(struct output *out, struct chunk chunk) {
    for (int32_t i = chunk.from; i < chunk.to; i++) {
        struct line line = chunk.text->lines[i];
        memcpy(out->data + out->size, line.data, (size_t)line.size);
        out->size += (size_t)line.size;
        out->data[out->size++] = '\n';
    }
}

static bool chunk_equal(struct chunk x, struct chunk y) {
    size_t lines = (size_t)(x.to - x.from);

    return x.to - x.from == y.to - y.from &&
           memcmp(x.text->ids + x.from, y.text->ids + y.from, lines * sizeof *x.text->ids) == 0;
}

static enum merge_outcome emit_merged(struct output *out, struct chunk ancestor, struct chunk ours,
                                      struct chunk theirs) {
    if (chunk_equal(ours, ancestor))
        emit(out, theirs);
    else if (chunk_equal(theirs, ancestor) || chunk_equal(ours, theirs))
        emit(out, ours);
    else
        return MERGE_OVERLAP;
    return MERGE_CLEAN;
}

/* Goes along the ancestor from one line that both sides kept to the next. */
static enum merge_outcome merge_walk(const struct merge *merge, struct output *out) {
    struct chunk ancestor = {.text = &merge->ancestor};
    struct chunk ours = {.text = &merge->ours};
    struct chunk theirs = {.text = &merge->theirs};

    for (int32_t line = 0; line <= merge->ancestor.count; line++) {
        bool end = line == merge->ancestor.count;
        if (!end && (merge->ours.match[line] < 0 || merge->theirs.match[line] < 0))
            continue;
        ancestor.to = line;
        ours.to = end ? merge->ours.count : merge->ours.match[line];
        theirs.to = end ? merge->theirs.count : merge->theirs.match[line];
        if (emit_merged(out, ancestor, ours, theirs) == MERGE_OVERLAP)
            return MERGE_OVERLAP;
        if (!end)
            emit(out, (struct chunk){ancestor.text, line, line + 1});
        ancestor.from = line + 1;
        ours.from = ours.to + 1;
        theirs.from = theirs.to + 1;
    }
    return MERGE_CLEAN;
}

/* Takes back the last newline if the side that changed it has none. An empty last line
 * exists only by its newline. */
static void trim_end(const struct merge *merge, struct output *out) {
    bool ours_changed = merge->ours.ended != merge->ancestor.ended;
    bool ended = ours_changed ? merge->ours.ended : merge->theirs.ended;

    if (!ended && out->size > 1 && out->data[out->size - 2] != '\n')
        out->size--;
}

static void text_release(struct text *text) {
    free(text->lines);
    free(text->ids);
    free(text->match);
}

int merge_lines(struct merge_text ancestor, struct merge_text ours, struct merge_text theirs,
                enum merge_outcome *out_outcome, char **out_data, size_t *out_size) {
    struct merge merge = {.work = WORK_MAX};
    struct output out = {0};
    int rc;

    if ((rc = text_split(&merge.ancestor, ancestor)) < 0 || (rc = text_split(&merge.ours, ours)) < 0 ||
        (rc = text_split(&merge.theirs, theirs)) < 0 || (rc = merge_number_all(&merge)) < 0 ||
        (rc = merge_match(&merge, &merge.ours)) < 0 || (rc = merge_match(&merge, &merge.theirs)) < 0)
        goto out;

    /* Every line of the result is one of a side's, each at most once; two may get a newline. */
    out.data = malloc(ours.size + theirs.size + 2);
    if (!out.data) {
        rc = -ENOMEM;
        goto out;
    }
    *out_outcome = merge_walk(&merge, &out);
    if (*out_outcome == MERGE_CLEAN) {
        trim_end(&merge, &out);
        *out_data = out.data;
        *out_size = out.size;
        out.data = NULL;
    }
out:
    free(out.data);
    free(merge.slots);
    free(merge.seen);
    text_release(&merge.ancestor);
    text_release(&merge.ours);
    text_release(&merge.theirs);
    return rc;
}
