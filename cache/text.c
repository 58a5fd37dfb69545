/* text: what bytes may be stored and what a final newline means.
 *
 * The service keeps notes as texts and joins appends with a newline of its own.
 * Nothing says whether it adds one after a body that already ends in one, and
 * whether it chomps what it is sent (API.md C1). A file, on the other hand, is an
 * exact sequence of bytes. This module holds the two together:
 *
 *   shown = body, plus a final newline where a non-empty body lacks it;
 *   body  = file without its final newline, when it ends in exactly one and has
 *           something before it ("\n" alone would become an empty body, and that
 *           is shown empty).
 *
 * Invariants of every append that is planned here:
 *   - the text is never empty and never ends in a newline, so chomping finds
 *     nothing and the body never ends in a newline by an append of ours;
 *   - where the body is known to end inside a line both rules add exactly one
 *     newline, where it is empty none: the result is the same under all of them;
 *   - what that can't express (a line glued to one that the server has, empty lines
 *     at the end, a body that ends in newlines under an unkind rule) is a rewrite
 *     where notes can be rewritten; on locked notes empty lines wait for the next
 *     line, and the rest is sent as well as the service can join it.
 *
 * Called by the file operations (check, sizes) and by push (what to send next).
 */
#include "cache/text.h"

#include <errno.h>
#include <string.h>

enum { UTF8_LONGEST = 4 };

/* Takes the first byte of a character (Unicode 15, table 3-7). */
static int utf8_lead(struct text_utf8 *state, uint8_t byte) {
    if (byte == 0 || (byte >= 0x80 && byte < 0xC2) || byte > 0xF4)
        return -EILSEQ;
    if (byte < 0x80)
        return 0;
    state->pending = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    state->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    state->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    return 0;
}

static int utf8_step(struct text_utf8 *state, uint8_t byte) {
    if (state->pending == 0)
        return utf8_lead(state, byte);
    if (byte < state->low || byte > state->high)
        return -EILSEQ;
    state->pending--;
    state->low = state->pending ? 0x80 : 0;
    state->high = state->pending ? 0xBF : 0;
    return 0;
}

static bool utf8_is_continuation(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

int text_utf8_feed(struct text_utf8 *state, const void *data, size_t size) {
    const uint8_t *bytes = data;
    struct text_utf8 next = *state;

    for (size_t i = 0; i < size; i++) {
        int rc = utf8_step(&next, bytes[i]);
        if (rc < 0)
            return rc;
    }
    *state = next;
    return 0;
}

int text_utf8_fragment(const void *data, size_t size) {
    const uint8_t *bytes = data;
    struct text_utf8 state = {0};
    size_t skip = 0;

    while (skip < size && skip < UTF8_LONGEST - 1 && utf8_is_continuation(bytes[skip]))
        skip++;
    return text_utf8_feed(&state, bytes + skip, size - skip);
}

size_t text_utf8_whole(const void *data, size_t size) {
    const uint8_t *bytes = data;
    size_t lead = size;

    while (lead > 0 && size - lead < UTF8_LONGEST) {
        lead--;
        if (utf8_is_continuation(bytes[lead]))
            continue;
        struct text_utf8 state = {0};
        bool unfinished = text_utf8_feed(&state, bytes + lead, size - lead) == 0 && state.pending > 0;
        return unfinished ? lead : size;
    }
    return size;
}

enum text_end text_end_of(const char *body, size_t size) {
    if (size == 0)
        return TEXT_END_EMPTY;
    return body[size - 1] == '\n' ? TEXT_END_NEWLINE : TEXT_END_LINE;
}

uint64_t text_shown_size(uint64_t size, enum text_end end, bool exact) {
    if (exact || size == 0 || end == TEXT_END_EMPTY || end == TEXT_END_NEWLINE)
        return size;
    return size + 1;
}

uint64_t text_stored_size(uint64_t file_size, const char *tail, size_t tail_size, bool *out_exact) {
    bool ends_in_newline = tail_size > 0 && tail[tail_size - 1] == '\n';
    bool has_line_before = tail_size > 1 && tail[tail_size - 2] != '\n';

    *out_exact = file_size > 0 && !ends_in_newline;
    return ends_in_newline && has_line_before ? file_size - 1 : file_size;
}

/* Length of the longest prefix of DATA, of LIMIT bytes at most, that may be a text: it is
 * followed by a newline and doesn't end in one. 0 if there is none. */
static size_t whole_lines(const char *data, size_t size, size_t limit) {
    for (size_t end = size; end > 1; end--)
        if (end - 1 <= limit && data[end - 1] == '\n' && data[end - 2] != '\n')
            return end - 1;
    return 0;
}

/* A line that is longer than one call takes: as many characters of it as go. 0 when these
 * would be empty lines only. */
static size_t broken_line(const char *data, size_t limit) {
    size_t size = text_utf8_whole(data, limit);

    while (size > 0 && data[size - 1] == '\n')
        size--;
    return size;
}

/* Cuts the next text out of DATA, whatever is there to append it to. */
static enum text_how cut_text(const struct text_tail *tail, const char *data, size_t size, size_t limit,
                              struct text_append *cut) {
    bool flush = tail->patience == TEXT_FLUSH;
    bool ends_in_newline = data[size - 1] == '\n';
    size_t text_size = whole_lines(data, size, limit);

    if (flush && !ends_in_newline && size <= limit)
        text_size = size;
    if (text_size == 0 && !flush && whole_lines(data, size, size) == 0)
        return TEXT_NOTHING;
    if (text_size == 0 && !tail->locked)
        return TEXT_REWRITE;
    if (text_size == 0 && size > limit)
        text_size = broken_line(data, limit);
    if (text_size == 0)
        return TEXT_NOTHING;

    cut->text_size = text_size;
    cut->partial = text_size == size || data[text_size] != '\n';
    cut->consumed = cut->partial ? text_size : text_size + 1;
    return TEXT_APPEND;
}

/* Decides whether the body's end lets a text be appended to it, and what size results. */
static enum text_how join_text(const struct text_tail *tail, size_t text_size, uint64_t *out_predicted) {
    bool learnable = tail->body_size == UINT64_MAX || tail->body_size <= tail->learn_limit;
    bool forgiving = tail->locked || tail->rule == TEXT_RULE_MISSING;
    bool predictable = tail->body_size != UINT64_MAX;
    uint64_t separator = 1;

    switch (tail->end) {
    case TEXT_END_UNKNOWN:
        if (learnable && !forgiving)
            return TEXT_LEARN;
        predictable = false;
        break;
    case TEXT_END_EMPTY:
        *out_predicted = text_size;
        return TEXT_APPEND;
    case TEXT_END_LINE:
        break;
    case TEXT_END_NEWLINE:
        if (!forgiving)
            return TEXT_REWRITE;
        predictable = predictable && tail->rule != TEXT_RULE_UNKNOWN;
        separator = tail->rule == TEXT_RULE_MISSING ? 0 : 1;
        break;
    }
    *out_predicted = predictable ? tail->body_size + separator + text_size : UINT64_MAX;
    return TEXT_APPEND;
}

/* The situation without contradictions: a body of no bytes is known to be empty, and only
 * a body that ends inside a line can be glued to. */
static struct text_tail settle_tail(const struct text_tail *tail) {
    struct text_tail settled = *tail;

    if (settled.end == TEXT_END_UNKNOWN && settled.body_size == 0)
        settled.end = TEXT_END_EMPTY;
    if (settled.end == TEXT_END_EMPTY || settled.end == TEXT_END_NEWLINE)
        settled.glued = false;
    return settled;
}

enum text_how text_plan_append(const struct text_tail *tail, const char *data, size_t size, size_t limit,
                               struct text_append *out) {
    struct text_tail settled = settle_tail(tail);
    struct text_append next = {0};

    size = text_utf8_whole(data, size);
    if (size == 0)
        return TEXT_NOTHING;
    if (settled.glued && data[0] == '\n') {
        *out = (struct text_append){.consumed = 1, .predicted = settled.body_size};
        return TEXT_ENDED;
    }

    enum text_how how = cut_text(&settled, data, size, limit, &next);
    if (how == TEXT_APPEND && settled.glued && !settled.locked)
        how = TEXT_REWRITE;
    if (how == TEXT_APPEND)
        how = join_text(&settled, next.text_size, &next.predicted);
    if (how == TEXT_APPEND)
        *out = next;
    return how;
}

enum text_rule text_learn_rule(uint64_t size_before, enum text_end end_before, size_t text_size,
                               uint64_t size_after) {
    if (end_before != TEXT_END_NEWLINE || size_after < size_before)
        return TEXT_RULE_UNKNOWN;
    uint64_t grown = size_after - size_before;
    if (grown == text_size)
        return TEXT_RULE_MISSING;
    return grown == (uint64_t)text_size + 1 ? TEXT_RULE_ALWAYS : TEXT_RULE_UNKNOWN;
}
