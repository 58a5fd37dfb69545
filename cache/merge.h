/* merge: three-way merge by lines. Pure. */
#ifndef JOTSFS_CACHE_MERGE_H
#define JOTSFS_CACHE_MERGE_H

#include <stddef.h>

struct merge_text {
    const char *data;
    size_t size;
};

enum merge_outcome {
    MERGE_CLEAN,   /* out holds both sides' changes */
    MERGE_OVERLAP, /* the sides changed the same or touching lines differently */
};

/* Merges two descendants of ANCESTOR as diff3 does (identical changes count once; a last line
 * without newline equals the same line with one).
 * 0 and *OUT_OUTCOME; on MERGE_CLEAN *OUT_DATA (malloc'ed, caller frees, never NULL) and *OUT_SIZE.
 * -ENOMEM, or -EFBIG when the texts are too different to be compared in bounded work (callers treat it as an overlap).
 * Time is O(ND), bounded. */
int merge_lines(struct merge_text ancestor, struct merge_text ours, struct merge_text theirs,
                enum merge_outcome *out_outcome, char **out_data, size_t *out_size);

#endif
