/* text: what bytes may be stored and what a final newline means. Pure.
 *
 * "File" is what a program sees, "body" is what the service stores
 * (DESIGN.md section 2, "Text"; API.md C1, C21).
 */
#ifndef JOTSFS_CACHE_TEXT_H
#define JOTSFS_CACHE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a byte stream that must be UTF-8 without NUL stands: zero-initialise it
 * at the start of the stream. */
struct text_utf8 {
    uint8_t pending; /* continuation bytes still missing */
    uint8_t low;     /* smallest allowed next byte, 0 when pending is 0 */
    uint8_t high;    /* largest allowed next byte */
};

/* Feeds the next bytes of a stream. -EILSEQ as soon as they can't be UTF-8
 * whatever follows (also NUL, overlong forms, surrogates); STATE is then
 * unchanged. 0 otherwise. */
int text_utf8_feed(struct text_utf8 *state, const void *data, size_t size);

/* Checks bytes written at any offset of a file, neighbours unknown: up to three
 * leading continuation bytes and an unfinished last character are accepted.
 * 0 or -EILSEQ. */
int text_utf8_fragment(const void *data, size_t size);

/* How many bytes of DATA (at most SIZE) end on a character boundary: SIZE less an
 * unfinished last character. */
size_t text_utf8_whole(const void *data, size_t size);

/* How a remote body ends. */
enum text_end {
    TEXT_END_UNKNOWN, /* not fetched */
    TEXT_END_EMPTY,   /* no byte at all */
    TEXT_END_LINE,    /* its last byte is not a newline */
    TEXT_END_NEWLINE, /* its last byte is a newline */
};

/* What is known of the service's separator (API.md C1). */
enum text_rule {
    TEXT_RULE_UNKNOWN,
    TEXT_RULE_ALWAYS,  /* H1: a newline before every append to a non-empty body */
    TEXT_RULE_MISSING, /* H2: only where the body lacks a final newline */
};

enum text_end text_end_of(const char *body, size_t size);

/* Size of the file that shows a body of SIZE bytes with this END: one more where a
 * final newline is supplied. EXACT: the body is shown as it is (the flag of a
 * version that this machine wrote without a final newline). */
uint64_t text_shown_size(uint64_t size, enum text_end end, bool exact);

/* Size of the body that stores a file (the body is a prefix of the file). TAIL is the
 * file's last two bytes (fewer if it is shorter). *OUT_EXACT tells that the
 * version must be remembered as shown without a supplied newline.
 * Property: text_shown_size(stored) = file, with EXACT as returned. */
uint64_t text_stored_size(uint64_t file_size, const char *tail, size_t tail_size, bool *out_exact);

/* When a partial last line or trailing empty lines stop waiting for what follows. */
enum text_patience {
    TEXT_WAIT,  /* more may come: hold them back */
    TEXT_FLUSH, /* fsync, flush or 2 s after the last close: send what can be sent */
};

enum text_how {
    TEXT_NOTHING, /* nothing to send now; everything waits */
    TEXT_APPEND,  /* one append call */
    TEXT_REWRITE, /* can't be expressed by an append: PATCH the whole body */
    TEXT_LEARN,   /* GET the body first: how it ends decides */
    TEXT_ENDED,   /* no call: the first byte only ends the glued line. Drop it, the version is no
                    * longer EXACT nor the data glued, and plan again */
};

/* The situation of a note that has unsent appended data. */
struct text_tail {
    enum text_end end; /* the remote body as last known */
    enum text_rule rule;
    uint64_t body_size; /* bytes of the remote body, UINT64_MAX when unknown */
    bool locked;        /* append-only on the server: PATCH is impossible */
    bool glued;         /* the data continues a line that the server already has
                              * (the remote version is shown without final newline) */
    enum text_patience patience;
    uint64_t learn_limit; /* bodies up to this size may be fetched to learn their end */
};

/* One append: the first CONSUMED bytes of the data are dealt with by sending the
 * first TEXT_SIZE bytes of them (a final newline held back). */
struct text_append {
    size_t consumed;
    size_t text_size;
    bool partial;       /* the text ends inside a line: the version is EXACT */
    uint64_t predicted; /* byte_size that the receipt must show, UINT64_MAX if it can't be known */
};

/* Decides what to send of DATA (SIZE bytes, all of it unsent, LIMIT bytes at most in
 * one call; cut at line ends; a line longer than LIMIT is a rewrite, or on a locked note cut at
 * a character boundary). A text is never empty and never ends in a newline.
 * Writes *OUT only for TEXT_APPEND and TEXT_ENDED. SIZE_MAX is no limit, less than 4 is not allowed. */
enum text_how text_plan_append(const struct text_tail *tail, const char *data, size_t size, size_t limit,
                               struct text_append *out);

/* What a receipt teaches about the rule when the body ended in a newline before
 * (TEXT_RULE_UNKNOWN when it teaches nothing). */
enum text_rule text_learn_rule(uint64_t size_before, enum text_end end_before, size_t text_size,
                               uint64_t size_after);

#endif
