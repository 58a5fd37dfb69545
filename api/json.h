/* json: JSON from a hostile server, read with tolerance; JSON for the service, written exactly. Pure. */
#ifndef JOTSFS_API_JSON_H
#define JOTSFS_API_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/service.h"

/* Parses TEXT, which has a NUL after its SIZE bytes and is overwritten. Rejects raw NULs, trailing
 * bytes, bad escapes, more than 64 levels and more than 200,000 values. NULL when it is no such JSON or
 * memory is short. cJSON_Delete the result. */
cJSON *json_parse(char *text, size_t size);

/* Members of OBJECT. All return false, and leave *OUT alone, when the member is missing or of
 * another type. Integers may come as numeric strings (API.md C28). */
bool json_int(const cJSON *object, const char *key, int64_t *out);
bool json_bool(const cJSON *object, const char *key, bool *out);
/* ISO 8601 in UTC or with an offset, as seconds since the epoch (API.md C27). */
bool json_time(const cJSON *object, const char *key, int64_t *out);
/* An id: an integer from 1 to 2^53 - 1. */
bool json_id(const cJSON *object, const char *key, int64_t *out);
/* True when the member is there and null. */
bool json_null(const cJSON *object, const char *key);
const cJSON *json_member(const cJSON *object, const char *key);

/* Takes a string member out of OBJECT without a copy. NULL when there is none. The
 * caller frees it. OUT_SIZE and OUT_EXACT may be NULL. *OUT_EXACT is false when the text is not
 * UTF-8 or held NULs or lone surrogates, which are U+FFFD now. */
char *json_take_string(cJSON *object, const char *key, size_t *out_size, bool *out_exact);

bool json_parse_time(const char *text, int64_t *out);

/* True when the SIZE bytes are UTF-8. */
bool json_utf8(const char *text, size_t size);

/* Adders: 0, -ENOMEM, or -EINVAL for text that isn't UTF-8 or holds a NUL. */
int json_add_text(cJSON *object, const char *key, struct service_text text);
int json_add_string(cJSON *object, const char *key, const char *text);
int json_add_int(cJSON *object, const char *key, int64_t value);
/* Adds KEY only when VALUE is true. */
int json_add_true(cJSON *object, const char *key, bool value);
int json_add_null(cJSON *object, const char *key);

#endif
