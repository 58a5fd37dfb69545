/* json: cJSON, made safe for what a hostile or broken server may send.
 *
 * Reading. cJSON cuts strings at NUL, refuses a whole reply for one lone
 * surrogate, and takes 64 bytes of memory for a two-byte `1,`. So each reply is
 * scanned once before cJSON sees it:
 * - levels and values are counted, which bounds memory by a small multiple of the reply's size;
 * - an escape that no C string can hold (\u0000, a lone surrogate) is overwritten
 *   in place by six 0xFF bytes. 0xFF never occurs in UTF-8, so that the mark is found
 *   again in the decoded string, becomes U+FFFD there, and makes just that string inexact.
 * Everything of a wrong type counts as absent: fields come and go (API.md C5, C28).
 *
 * Writing. Integers are written digit by digit (cJSON would print 1e+15), texts are
 * checked, nothing is formatted by locale: the same call gives the same bytes, as a
 * retry under the same Idempotency-Key needs (API.md C4).
 *
 * Called by codec, notes and folders. No state.
 */
#include "api/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_DEPTH = 64, MAX_VALUES = 200000, ESCAPE_SIZE = 6 };

/* Above this a double no longer tells neighbours apart. */
static const int64_t max_exact = (INT64_C(1) << 53) - 1;
static const char unholdable[] = "\xff\xff\xff\xff\xff\xff";
static const char replacement[] = "\xef\xbf\xbd";

static int hex4(const char *text) {
    int value = 0;

    for (int i = 0; i < 4; i++) {
        char c = text[i];
        int digit;

        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (c | 32) - 'a' + 10;
        else
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* AT points to a backslash, with the text's NUL somewhere behind. Returns the size
 * of the escape, 0 when it is none; marks what no C string can hold. */
static size_t scan_escape(char *at) {
    int unit;
    int next;

    if (at[1] == '\0')
        return 0;
    if (at[1] != 'u')
        return 2;
    unit = hex4(at + 2);
    if (unit < 0)
        return 0;
    if (unit >= 0xd800 && unit <= 0xdbff && at[6] == '\\' && at[7] == 'u') {
        next = hex4(at + 8);
        if (next >= 0xdc00 && next <= 0xdfff)
            return 2 * ESCAPE_SIZE;
    }
    if (unit == 0 || (unit >= 0xd800 && unit <= 0xdfff))
        memcpy(at, unholdable, ESCAPE_SIZE);
    return ESCAPE_SIZE;
}

/* AT points behind an opening quote. Returns where the closing quote is, or NULL. */
static char *scan_string(char *at) {
    size_t size;

    while (*at != '"') {
        if (*at == '\0')
            return NULL;
        size = *at == '\\' ? scan_escape(at) : 1;
        if (size == 0)
            return NULL;
        at += size;
    }
    return at;
}

static bool scan(char *text, size_t size) {
    char *end = text + size;
    unsigned depth = 0;
    unsigned values = 0;

    for (char *at = text; at < end; at++) {
        switch (*at) {
        case '"':
            at = scan_string(at + 1);
            if (!at)
                return false;
            break;
        case '[':
        case '{':
            values++;
            if (++depth > MAX_DEPTH)
                return false;
            break;
        case ']':
        case '}':
            if (depth-- == 0)
                return false;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
    }
    return values <= MAX_VALUES;
}

cJSON *json_parse(char *text, size_t size) {
    if (size == 0 || memchr(text, '\0', size) || !scan(text, size))
        return NULL;
    return cJSON_ParseWithLengthOpts(text, size + 1, NULL, 1);
}

const cJSON *json_member(const cJSON *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

bool json_null(const cJSON *object, const char *key) {
    return cJSON_IsNull(json_member(object, key));
}

static bool int_of_string(const char *text, int64_t *out) {
    char *end;
    long long value;

    if ((*text < '0' || *text > '9') && *text != '-')
        return false;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno || *end || end == text)
        return false;
    *out = value;
    return true;
}

bool json_int(const cJSON *object, const char *key, int64_t *out) {
    const cJSON *item = json_member(object, key);
    double value;

    if (cJSON_IsString(item) && item->valuestring)
        return int_of_string(item->valuestring, out);
    if (!cJSON_IsNumber(item))
        return false;
    value = item->valuedouble;
    if (!(value >= -(double)max_exact && value <= (double)max_exact) || value != (double)(int64_t)value)
        return false;
    *out = (int64_t)value;
    return true;
}

bool json_id(const cJSON *object, const char *key, int64_t *out) {
    int64_t value;

    if (!json_int(object, key, &value) || value <= 0 || value > max_exact)
        return false;
    *out = value;
    return true;
}

bool json_bool(const cJSON *object, const char *key, bool *out) {
    const cJSON *item = json_member(object, key);

    if (!cJSON_IsBool(item))
        return false;
    *out = cJSON_IsTrue(item);
    return true;
}

bool json_utf8(const char *text, size_t size) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    const utf8proc_uint8_t *end;
    utf8proc_int32_t codepoint;
    utf8proc_ssize_t step;

    if (size == 0)
        return true;
    end = at + size;
    while (at < end) {
        if (*at < 0x80) {
            at++;
            continue;
        }
        step = utf8proc_iterate(at, end - at, &codepoint);
        if (step < 0)
            return false;
        at += step;
    }
    return true;
}

/* Turns the marks of scan_escape() into U+FFFD, in place. Returns the new size. */
static size_t unmark(char *text, size_t size) {
    char *to = text;
    const char *end = text + size;

    for (const char *from = text; from < end;) {
        if (end - from >= ESCAPE_SIZE && memcmp(from, unholdable, ESCAPE_SIZE) == 0) {
            memcpy(to, replacement, 3);
            to += 3;
            from += ESCAPE_SIZE;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

char *json_take_string(cJSON *object, const char *key, size_t *out_size, bool *out_exact) {
    cJSON *item = cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
    char *text;
    size_t size;
    bool exact;

    if (!item || !cJSON_IsString(item) || !item->valuestring)
        return NULL;
    /* cJSON's allocator is malloc, as nobody sets its hooks; cJSON_Delete takes the NULL. */
    text = item->valuestring;
    item->valuestring = NULL;
    size = strlen(text);
    exact = json_utf8(text, size);
    if (!exact)
        size = unmark(text, size);
    if (out_size)
        *out_size = size;
    if (out_exact)
        *out_exact = exact;
    return text;
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. */
static int64_t days_of(int year, int month, int day) {
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Reads "Z", "+hh:mm", "+hhmm", "+hh" or nothing, up to the end of the text. */
static bool offset_of(const char *text, int64_t *out_seconds) {
    int digits[4] = {0};
    size_t count = 0;
    int seconds;

    *out_seconds = 0;
    if (*text == '\0' || strcmp(text, "Z") == 0 || strcmp(text, "z") == 0 || strcmp(text, " UTC") == 0)
        return true;
    if (*text != '+' && *text != '-')
        return false;
    for (const char *at = text + 1; *at; at++) {
        if (*at == ':' && count == 2)
            continue;
        if (*at < '0' || *at > '9' || count == 4)
            return false;
        digits[count++] = *at - '0';
    }
    if (count != 2 && count != 4)
        return false;
    seconds = (digits[0] * 10 + digits[1]) * 3600 + (digits[2] * 10 + digits[3]) * 60;
    *out_seconds = *text == '-' ? -seconds : seconds;
    return true;
}

bool json_parse_time(const char *text, int64_t *out) {
    int year, month, day, hour, minute, second;
    int used = -1;
    char separator;
    int64_t offset;

    if (*text < '0' || *text > '9')
        return false;
    if (sscanf(text, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &year, &month, &day, &separator, &hour, &minute, &second,
               &used) < 7 ||
        used < 0)
        return false;
    if ((separator != 'T' && separator != 't' && separator != ' ') || month < 1 || month > 12 || day < 1 ||
        day > 31 || hour < 0 || hour > 24 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    text += used;
    if (*text == '.' || *text == ',') {
        text++;
        text += strspn(text, "0123456789");
    }
    if (!offset_of(text, &offset))
        return false;
    *out = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    return true;
}

bool json_time(const cJSON *object, const char *key, int64_t *out) {
    const cJSON *item = json_member(object, key);

    return cJSON_IsString(item) && item->valuestring && json_parse_time(item->valuestring, out);
}

int json_add_text(cJSON *object, const char *key, struct service_text text) {
    char *copy;
    cJSON *item;

    if ((text.size && memchr(text.data, '\0', text.size)) || !json_utf8(text.data, text.size))
        return -EINVAL;
    copy = malloc(text.size + 1);
    if (!copy)
        return -ENOMEM;
    if (text.size)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    item = cJSON_AddStringToObject(object, key, copy);
    free(copy);
    return item ? 0 : -ENOMEM;
}

int json_add_string(cJSON *object, const char *key, const char *text) {
    return json_add_text(object, key, (struct service_text){text, strlen(text)});
}

int json_add_int(cJSON *object, const char *key, int64_t value) {
    char digits[24];

    snprintf(digits, sizeof(digits), "%" PRId64, value);
    return cJSON_AddRawToObject(object, key, digits) ? 0 : -ENOMEM;
}

int json_add_true(cJSON *object, const char *key, bool value) {
    return !value || cJSON_AddTrueToObject(object, key) ? 0 : -ENOMEM;
}

int json_add_null(cJSON *object, const char *key) {
    return cJSON_AddNullToObject(object, key) ? 0 : -ENOMEM;
}
