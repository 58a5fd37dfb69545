/* The status texts. JSON is written by hand because fs/ has no JSON library: it is one fixed object of strings
 * and numbers. Strings come from the server too (messages, names), so both
 * forms are safe whatever is in them: JSON gets valid UTF-8 with every control character escaped, a
 * terminal gets no control characters at all.
 *
 * Called by control.c when a status file is opened.
 */
#include "fs/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/version.h"

static const char *const class_names[SERVICE_CLASSES] = {
    [SERVICE_READ] = "read",
    [SERVICE_WRITE] = "write",
    [SERVICE_APPEND] = "append",
};

/* Bytes of the UTF-8 character at TEXT (NUL-terminated); 0 if it isn't one. Overlong forms and surrogates aren't. */
static size_t character_size(const unsigned char *text) {
    size_t size = text[0] < 0x80 ? 1 : text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4;

    if (text[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return size;
}

/* --- JSON --- */

static void json_string(FILE *out, const char *string) {
    const unsigned char *text = (const unsigned char *)string;

    if (!text) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    while (*text) {
        size_t size = character_size(text);
        if (size == 0)
            fputs("\\ufffd", out);
        else if (*text < 0x20 || *text == 0x7F)
            fprintf(out, "\\u%04x", *text);
        else if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else
            fwrite(text, 1, size, out);
        text += size ? size : 1;
    }
    fputc('"', out);
}

/* KEY: STRING, with what comes BEFORE it. */
static void json_member(FILE *out, const char *before, const char *key, const char *string) {
    fprintf(out, "%s\"%s\": ", before, key);
    json_string(out, string);
}

static void json_count(FILE *out, const char *before, const char *key, int64_t count) {
    fprintf(out, "%s\"%s\": ", before, key);
    if (count < 0)
        fputs("null", out);
    else
        fprintf(out, "%" PRId64, count);
}

static void json_pending(FILE *out, const struct cache_status *status) {
    fputs(",\n  \"pending\": [", out);
    for (size_t i = 0; i < status->pending_count; i++) {
        const struct cache_pending *pending = &status->pending[i];
        json_member(out, i ? ",\n    {" : "\n    {", "path", pending->path);
        json_member(out, ", ", "kind", pending->kind);
        fprintf(out, ", \"bytes\": %" PRIu64 ", \"since\": %" PRId64, pending->bytes, pending->since);
        json_member(out, ", ", "error", pending->error ? pending->message : NULL);
        fputc('}', out);
    }
    fputs(status->pending_count ? "\n  ]" : "]", out);
}

static void json_errors(FILE *out, const struct cache_status *status) {
    bool some = false;

    fputs(",\n  \"errors\": [", out);
    for (size_t i = 0; i < status->pending_count; i++) {
        const struct cache_pending *pending = &status->pending[i];
        if (!pending->error)
            continue;
        json_member(out, some ? ",\n    {" : "\n    {", "path", pending->path);
        json_member(out, ", ", "code", pending->code);
        json_member(out, ", ", "message", pending->message);
        fprintf(out, ", \"errno\": %d}", -pending->error);
        some = true;
    }
    fputs(some ? "\n  ]" : "]", out);
}

static void json_budget(FILE *out, const struct cache_status *status) {
    fputs(",\n  \"budget\": {", out);
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        const struct service_budget *budget = &status->budget[i];
        fprintf(out, "%s\n    \"%s\": ", i ? "," : "", class_names[i]);
        json_count(out, "{", "limit", budget->limit);
        json_count(out, ", ", "remaining", budget->remaining);
        fprintf(out, ", \"resets_in_s\": %.1f}", (double)budget->resets_in_ms / 1000.0);
    }
    fputs("\n  }", out);
}

static void write_json(FILE *out, const struct cache_status *status, const char *url) {
    json_member(out, "{\n  ", "version", JOTSFS_VERSION);
    json_member(out, ",\n  ", "url", url);
    fprintf(out, ",\n  \"online\": %s", status->online ? "true" : "false");
    fprintf(out, ",\n  \"saved\": %s", status->saved ? "true" : "false");
    json_member(out, ",\n  \"account\": {", "state", status->account);
    json_member(out, ", ", "message", status->account_message);
    fputc('}', out);
    json_pending(out, status);
    json_errors(out, status);
    json_budget(out, status);
    fprintf(out,
            ",\n  \"cache\": {\"notes\": %" PRIu64 ", \"folders\": %" PRIu64 ", \"bodies\": %" PRIu64
            ", \"bytes\": %" PRIu64 "}\n}\n",
            status->notes, status->folders, status->bodies, status->bytes);
}

/* --- for people --- */

static void plain_string(FILE *out, const char *string) {
    const unsigned char *text = (const unsigned char *)string;

    while (text && *text) {
        size_t size = character_size(text);
        /* U+0080 to U+009F are control characters too. */
        if (size == 0 || *text < 0x20 || *text == 0x7F || (*text == 0xC2 && text[1] < 0xA0))
            fputc('?', out);
        else
            fwrite(text, 1, size, out);
        text += size ? size : 1;
    }
}

static void plain_pending(FILE *out, const struct cache_pending *pending) {
    time_t since = (time_t)pending->since;
    char when[32];
    struct tm tm;

    localtime_r(&since, &tm);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    fprintf(out, "  %s  %-8s  %8" PRIu64 " bytes  ", when, pending->kind, pending->bytes);
    plain_string(out, pending->path);
    if (pending->error) {
        fputs("\n      refused: ", out);
        plain_string(out, pending->message ? pending->message : strerrordesc_np(-pending->error));
        if (pending->code)
            fprintf(out, " (%s)", pending->code);
    }
    fputc('\n', out);
}

static void plain_budget(FILE *out, const struct cache_status *status) {
    fputs("budget:", out);
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        const struct service_budget *budget = &status->budget[i];
        fprintf(out, "%s %s ", i ? "," : "", class_names[i]);
        if (budget->limit < 0 || budget->remaining < 0)
            fputs("unknown", out);
        else
            fprintf(out, "%" PRId64 " of %" PRId64, budget->remaining, budget->limit);
        if (budget->wait_ms > 0)
            fprintf(out, " (waits %.1f s)", (double)budget->wait_ms / 1000.0);
    }
    fputc('\n', out);
}

static void write_plain(FILE *out, const struct cache_status *status, const char *url) {
    plain_string(out, url);
    fprintf(out, ": %s, account: %s", status->online ? "online" : "offline", status->account);
    if (status->account_message) {
        fputs(" - ", out);
        plain_string(out, status->account_message);
    }
    fputc('\n', out);
    if (status->pending_count == 0)
        fputs(status->saved ? "everything is saved on the service\n" : "nothing is pending\n", out);
    else
        fprintf(out, "%zu %s not saved on the service yet:\n", status->pending_count,
                status->pending_count == 1 ? "change is" : "changes are");
    for (size_t i = 0; i < status->pending_count; i++)
        plain_pending(out, &status->pending[i]);
    plain_budget(out, status);
    fprintf(out, "cache: %" PRIu64 " notes in %" PRIu64 " folders; %" PRIu64 " bodies, %" PRIu64 " bytes\n",
            status->notes, status->folders, status->bodies, status->bytes);
}

/* --- */

static int report(void (*write)(FILE *, const struct cache_status *, const char *),
                  const struct cache_status *status, const char *url, char **out, size_t *out_size) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return -ENOMEM;
    write(stream, status, url);
    if (fclose(stream) != 0) {
        free(text);
        return -ENOMEM;
    }
    *out = text;
    *out_size = size;
    return 0;
}

int report_json(const struct cache_status *status, const char *url, char **out, size_t *out_size) {
    return report(write_json, status, url, out, out_size);
}

int report_plain(const struct cache_status *status, const char *url, char **out, size_t *out_size) {
    return report(write_plain, status, url, out, out_size);
}
