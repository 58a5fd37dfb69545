/* origin: the only place that a token is ever sent to, checked before it is.
 *
 * https to anywhere, http to this machine only: a token must not cross a network in the clear. The
 * URL is taken apart by libcurl's own parser, as libcurl will take it apart again to connect: two parsers
 * that disagree on where the host ends would be a hole.
 *
 * Called by http, and by main through http_check_url().
 */
#include "api/origin.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static bool is_loopback(const char *host) {
    struct in_addr address;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static bool has_part(CURLU *parts, CURLUPart part) {
    char *text = NULL;
    bool has = curl_url_get(parts, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return has;
}

/* What is wrong with URL, or NULL. */
static const char *fault_of(CURLU *parts, const char *url, struct origin *out) {
    char *scheme = NULL;
    char *host = NULL;
    const char *why = NULL;

    if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK) {
        why = "not a URL such as https://host/api/v1";
    } else if (has_part(parts, CURLUPART_USER) || has_part(parts, CURLUPART_PASSWORD)) {
        why = "a URL must not hold a user name or password";
    } else if (has_part(parts, CURLUPART_QUERY) || has_part(parts, CURLUPART_FRAGMENT) ||
               strpbrk(url, "?#")) {
        why = "a base URL has no query and no fragment";
    } else {
        *out = (struct origin){strcmp(scheme, "https") == 0, is_loopback(host)};
        if (!out->secure && strcmp(scheme, "http") != 0)
            why = "only https, and http to this machine";
        else if (!out->secure && !out->loopback)
            why = "http would send the token in the clear; only http to this machine is allowed";
    }
    curl_free(scheme);
    curl_free(host);
    return why;
}

int origin_check(const char *url, struct origin *out, const char **out_why) {
    CURLU *parts = curl_url();
    const char *why = parts ? fault_of(parts, url, out) : "out of memory";

    curl_url_cleanup(parts);
    if (!why)
        return 0;
    *out_why = why;
    return -EINVAL;
}
