/* transfer: one HTTP exchange on libcurl: a request out, a bounded answer in. Network thread only. */
#ifndef JOTSFS_API_TRANSFER_H
#define JOTSFS_API_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "api/codec.h"
#include "api/header.h"
#include "api/origin.h"
#include "api/request.h"
#include "api/token.h"

/* Where transfers go, and how. Strings are borrowed. */
struct transfer_target {
    const char *base_url; /* without a slash at its end */
    struct origin origin;
    long connect_timeout_ms;
    long stall_timeout_s;
};

enum transfer_end {
    TRANSFER_ANSWERED, /* a whole answer, of whatever status */
    TRANSFER_UNSENT,   /* no byte of the request can have left */
    TRANSFER_BROKEN,   /* anything else */
};

struct transfer;

/* Makes the exchange for REQUEST, which is borrowed; the header line of TOKEN too, and the transfer puts
 * its reference when it is destroyed (also on failure of this function). KEY may be NULL. NULL when
 * out of memory. OWNER is what transfer_owner() finds. */
struct transfer *transfer_create(const struct transfer_target *target, const struct request *request,
                                 const char *key, struct token_line *token, size_t answer_max, void *owner);
void transfer_destroy(struct transfer *transfer);

CURL *transfer_easy(struct transfer *transfer);
void *transfer_owner(CURL *easy);

/* How it ended; CODE is libcurl's word. TRANSFER_ANSWERED: *OUT_ANSWER points into the transfer. */
enum transfer_end transfer_finish(struct transfer *transfer, CURLcode code, struct codec_answer *out_answer);
/* As if it were ended now. */
enum transfer_end transfer_abandon(const struct transfer *transfer);
/* Why it did not end well; a text for people, never with the token. */
const char *transfer_why(const struct transfer *transfer, CURLcode code);
const struct header *transfer_header(const struct transfer *transfer);
const struct token_line *transfer_token(const struct transfer *transfer);

#endif
