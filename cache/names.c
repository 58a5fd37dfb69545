/* names: file names of the mount against names of the service, in both directions.
 *
 * The service stores whatever title somebody typed, and may make a filename of it by a
 * rule that nobody has written down for sure (API.md C11); a directory holds names
 * without "/" and NUL, of 255 bytes at most, each once. Four questions are answered:
 *
 *   - may this name be created (names_check), and under which spelling is it kept: NFC,
 *     so that a name typed on another system finds the same note (names_normalise);
 *   - how does a remote name look here (names_show). Every remote name has a form, and
 *     reading "%XX" back gives its NFC form again, so no two names share one. A form
 *     is NFC itself: that is why a combining mark behind an escape is
 *     escaped too, it would melt into the last hex digit ("%0A" and a ring is "%0Å");
 *   - does this name belong to an editor's debris that must not leave the machine;
 *   - which names do we invent (conflict copies, places to swap through).
 *
 * Nothing is allocated. No NFC form is shorter than a third of its source, so that
 * WORK_BYTES of a name decide everything about what is shown of it.
 */
#include "cache/names.h"

#include <assert.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

enum {
    WORK_BYTES = 1024,              /* of a name that are looked at */
    WORK_POINTS = 2 * WORK_BYTES,   /* no character decomposes into more than two per byte */
    WORK_COMPOSED = 3 * WORK_BYTES, /* nor does its NFC form take more than three bytes per byte */
    ESCAPE_SIZE = 3,                /* "%2F" */
    EXTENSION_MAX = 16,
    VIM_PROBES = 10, /* see is_vim_probe */
};

/* Characters under work. */
struct points {
    utf8proc_int32_t data[WORK_POINTS + 1]; /* one more: utf8proc_reencode ends it with a NUL */
    utf8proc_ssize_t count;
};

static int points_set(struct points *points, const char *text, size_t size, utf8proc_option_t options) {
    if (size > WORK_BYTES)
        return -ENAMETOOLONG;
    points->count = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, points->data,
                                       WORK_POINTS, options);
    if (points->count < 0)
        return -EILSEQ;
    return points->count > WORK_POINTS ? -ENAMETOOLONG : 0;
}

/* NFC form of TEXT by OPTIONS in OUT, NUL-terminated. Its size, -EILSEQ or -ENAMETOOLONG. */
static int compose(const char *text, size_t size, unsigned options, char *out, size_t room) {
    struct points points;
    utf8proc_option_t all = (utf8proc_option_t)(options | UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    int rc = points_set(&points, text, size, all);
    if (rc < 0)
        return rc;

    utf8proc_ssize_t composed = utf8proc_reencode(points.data, points.count, all);
    if (composed < 0)
        return -EILSEQ;
    if ((size_t)composed >= room)
        return -ENAMETOOLONG;
    memcpy(out, points.data, (size_t)composed);
    out[composed] = '\0';
    return (int)composed;
}

/* Size of the character that TEXT (SIZE bytes, at least one) begins with; 0 if it isn't UTF-8. */
static size_t next_point(const char *text, size_t size, utf8proc_int32_t *out_point) {
    utf8proc_ssize_t step =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, out_point);

    return step > 0 ? (size_t)step : 0;
}

static bool is_control(utf8proc_int32_t point) {
    return utf8proc_category(point) == UTF8PROC_CATEGORY_CC;
}

static bool is_invisible(utf8proc_int32_t point) {
    return is_control(point) || utf8proc_category(point) == UTF8PROC_CATEGORY_CF;
}

/* Largest character boundary of TEXT up to SIZE. */
static size_t boundary(const char *text, size_t size) {
    while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80)
        size--;
    return size;
}

/* ---- names that programs give ---- */

int names_check(enum names_kind kind, const char *name, char out[NAMES_MAX_SHOWN + 1]) {
    char composed[WORK_BYTES + 1];
    utf8proc_int32_t point;
    size_t characters = 0;
    int size = compose(name, strlen(name), 0, composed, sizeof composed);
    if (size < 0)
        return size;

    for (const char *at = composed; *at; at += next_point(at, strlen(at), &point), characters++)
        if (next_point(at, strlen(at), &point) == 0 || is_invisible(point) || point == '/')
            return -EINVAL;
    if (size == 0 || strcmp(composed, ".") == 0 || strcmp(composed, "..") == 0)
        return -EINVAL;
    if (kind == NAMES_NOTE && size > NAMES_MAX_NOTE)
        return -ENAMETOOLONG;
    if (kind == NAMES_FOLDER && (characters > NAMES_MAX_FOLDER || size > NAMES_MAX_SHOWN))
        return -ENAMETOOLONG;
    memcpy(out, composed, (size_t)size + 1);
    return 0;
}

int names_normalise(const char *name, char out[NAMES_MAX_SHOWN + 1]) {
    char composed[NAMES_MAX_SHOWN + 1];
    int size = compose(name, strlen(name), 0, composed, sizeof composed);
    if (size < 0)
        return size;
    memcpy(out, composed, (size_t)size + 1);
    return 0;
}

int names_fold(const char *name, char out[NAMES_KEY_SIZE]) {
    char composed[NAMES_MAX_SHOWN + 1];
    char folded[NAMES_KEY_SIZE];
    int size = compose(name, strlen(name), 0, composed, sizeof composed);
    if (size >= 0)
        size = compose(composed, (size_t)size, UTF8PROC_CASEFOLD, folded, sizeof folded);
    if (size < 0)
        return size;
    memcpy(out, folded, (size_t)size + 1);
    return 0;
}

/* ---- scratch ---- */

/* Vim's swap files: .NAME.swp, then .swo and so on down to .swa; .swx and .swpx are made to
 * find out what the file system does to long names. (Vim would go on with .svz, but
 * that is after 16 of one file, and .svg and .sql are people's own.) */
static bool is_vim_swap(const char *name) {
    const char *dot = strrchr(name, '.');

    if (name[0] != '.' || strncmp(dot, ".sw", 3) != 0)
        return false;
    return strcmp(dot, ".swpx") == 0 ||
           (((dot[3] >= 'a' && dot[3] <= 'p') || dot[3] == 'x') && dot[4] == '\0');
}

/* Vim creates "4913" to see whether it may, and adds 123 while that exists (its
 * buf_write()); a few leftovers are enough. */
static bool is_vim_probe(const char *name) {
    char probe[16];

    for (int i = 0; i < VIM_PROBES; i++) {
        snprintf(probe, sizeof probe, "%d", 4913 + 123 * i);
        if (strcmp(name, probe) == 0)
            return true;
    }
    return false;
}

bool names_is_scratch(const char *name, char *const *local_globs) {
    static const char *const globs[] = {
        "*~",      "#*#",           ".#*",   ".~lock.*#", ".goutputstream-*", ".DS_Store", "._*",
        ".Trash*", ".fuse_hidden*", ".nfs*", NULL,
    };

    if (is_vim_swap(name) || is_vim_probe(name))
        return true;
    for (const char *const *glob = globs; *glob; glob++)
        if (fnmatch(*glob, name, 0) == 0)
            return true;
    for (char *const *glob = local_globs; glob && *glob; glob++)
        if (fnmatch(*glob, name, 0) == 0)
            return true;
    return false;
}

/* ---- names that the service gives ---- */

/* A shown name while it is built of characters and escapes. */
struct rendering {
    char data[NAMES_MAX_SHOWN + 1];
    size_t size;
    size_t limit;
    bool cut;     /* something didn't go within LIMIT: nothing more is taken */
    bool escaped; /* it ends in an escape */
};

static void render_plain(struct rendering *out, const char *bytes, size_t size) {
    if (out->cut || out->size + size > out->limit) {
        out->cut = true;
        return;
    }
    memcpy(out->data + out->size, bytes, size);
    out->size += size;
    out->escaped = false;
}

static void render_escaped(struct rendering *out, const char *bytes, size_t size) {
    if (out->cut || out->size + ESCAPE_SIZE * size > out->limit) {
        out->cut = true;
        return;
    }
    for (size_t i = 0; i < size; i++) {
        snprintf(out->data + out->size, ESCAPE_SIZE + 1, "%%%02X", (unsigned char)bytes[i]);
        out->size += ESCAPE_SIZE;
    }
    out->escaped = true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* True if the "%" at TEXT would read as an escape that render_escaped makes. */
static bool reads_as_escape(const char *text) {
    int high = hex_digit(text[1]);
    int low = high < 0 ? -1 : hex_digit(text[2]);
    int byte = high * 16 + low;

    if (low < 0)
        return false;
    return byte < 0x20 || byte >= 0x7F || byte == '%' || byte == '.' || byte == '/';
}

/* Shows a run of valid UTF-8. */
static void render_run(struct rendering *out, const char *text, size_t size) {
    char composed[WORK_COMPOSED + 1];
    utf8proc_int32_t point;
    size_t step;
    int length = compose(text, size, 0, composed, sizeof composed);

    assert(length >= 0);
    for (int at = 0; at < length; at += (int)step) {
        const char *here = composed + at;
        step = next_point(here, (size_t)(length - at), &point);
        bool melts = out->escaped && utf8proc_get_property(point)->combining_class != 0;
        if (is_control(point) || point == '/' || melts || (point == '%' && reads_as_escape(here)))
            render_escaped(out, here, step);
        else
            render_plain(out, here, step);
    }
}

static void render(struct rendering *out, const char *remote, size_t limit) {
    size_t size = strnlen(remote, WORK_BYTES);
    utf8proc_int32_t point;

    *out = (struct rendering){.limit = limit};
    if (strcmp(remote, ".") == 0 || strcmp(remote, "..") == 0) {
        render_escaped(out, remote, size);
        return;
    }
    for (size_t at = 0; at < size;) {
        size_t run = 0;
        for (size_t step = 1; step > 0 && at + run < size; run += step)
            step = next_point(remote + at + run, size - at - run, &point);
        render_run(out, remote + at, run);
        at += run;
        if (at < size)
            render_escaped(out, remote + at++, 1);
    }
}

void names_show(const char *remote, int64_t id, bool taken, char out[NAMES_MAX_SHOWN + 1]) {
    struct rendering form;
    char suffix[24] = "";

    render(&form, remote, NAMES_MAX_SHOWN);
    if (taken || form.cut || form.size == 0) {
        snprintf(suffix, sizeof suffix, "~%" PRId64, id);
        render(&form, remote, NAMES_MAX_SHOWN - strlen(suffix));
    }
    memcpy(out, form.data, form.size);
    memcpy(out + form.size, suffix, strlen(suffix) + 1);
}

/* ---- names that we invent ---- */

/* Where the extension of NAME begins: a dot, a letter and a few more characters, something before it. */
static const char *extension(const char *name) {
    const char *end = name + strlen(name);
    const char *dot = strrchr(name, '.');

    if (!dot || dot == name || end - dot > EXTENSION_MAX || strchr(dot, ' '))
        return end;
    bool letter = (dot[1] >= 'a' && dot[1] <= 'z') || (dot[1] >= 'A' && dot[1] <= 'Z');
    return letter ? dot : end;
}

void names_copy_of(const char *name, enum names_why why, int64_t when, unsigned attempt,
                   char out[NAMES_MAX_SHOWN + 1]) {
    const char *dot = extension(name);
    time_t seconds = (time_t)when;
    struct tm local = {.tm_mday = 1};
    char date[32];
    char number[16] = "";
    char mark[80];

    localtime_r(&seconds, &local);
    if (strftime(date, sizeof date, "%Y-%m-%d %H.%M.%S", &local) == 0)
        date[0] = '\0';
    if (attempt > 1)
        snprintf(number, sizeof number, " %u", attempt);
    snprintf(mark, sizeof mark, " (%s %s)%s", why == NAMES_CONFLICT ? "conflict" : "local", date, number);

    size_t stem = (size_t)(dot - name);
    size_t room = NAMES_MAX_NOTE - strlen(mark) - strlen(dot);
    if (stem > room)
        stem = boundary(name, room);
    snprintf(out, NAMES_MAX_SHOWN + 1, "%.*s%s%s", (int)stem, name, mark, dot);
}

void names_temporary(int64_t id, char out[NAMES_MAX_SHOWN + 1]) {
    uint64_t mixed = (uint64_t)id + 0x9E3779B97F4A7C15u;

    /* The finaliser of splitmix64: unlike a counter nobody types it. Only letters, digits and
     * "-" in lower case, so that the slug rule (API.md C11) leaves it alone. */
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    mixed ^= mixed >> 31;
    snprintf(out, NAMES_MAX_SHOWN + 1, "jotsfs-moving-%" PRIu64 "-%016" PRIx64, (uint64_t)id, mixed);
}

/* ---- what the service makes of a title ---- */

/* The documented rule: NFC without slashes, control and format characters, cut to 200 bytes. */
static int sanitise(const char *title, char out[NAMES_MAX_SHOWN + 1]) {
    char composed[WORK_BYTES + 1];
    utf8proc_int32_t point;
    size_t size = 0;
    size_t step;
    int length = compose(title, strlen(title), 0, composed, sizeof composed);
    if (length < 0)
        return length;

    for (int at = 0; at < length; at += (int)step) {
        step = next_point(composed + at, (size_t)(length - at), &point);
        if (point == '/' || is_invisible(point))
            continue;
        if (size + step > NAMES_MAX_NOTE)
            break;
        memcpy(out + size, composed + at, step);
        size += step;
    }
    out[size] = '\0';
    return 0;
}

/* What every slug rule keeps of a name: its letters and digits, without marks and case. */
static int skeleton(const char *name, bool ascii_only, struct points *out) {
    utf8proc_ssize_t kept = 0;
    int rc = points_set(out, name, strlen(name),
                        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD));
    if (rc < 0)
        return rc;

    for (utf8proc_ssize_t i = 0; i < out->count; i++) {
        const char *category = utf8proc_category_string(out->data[i]);
        bool letter = category[0] == 'L' || category[0] == 'N';
        if (letter && (!ascii_only || out->data[i] < 0x80))
            out->data[kept++] = out->data[i];
    }
    out->count = kept;
    return 0;
}

/* True if a slug rule may have made FILENAME of NAME; one that knows only ASCII drops the rest. */
static bool is_slug(const char *name, const char *filename, bool ascii_only) {
    struct points asked;
    struct points given;

    if (skeleton(name, ascii_only, &asked) < 0 || skeleton(filename, false, &given) < 0)
        return false;
    return given.count > 0 && given.count == asked.count &&
           memcmp(given.data, asked.data, (size_t)given.count * sizeof *given.data) == 0;
}

bool names_is_rendering(const char *name, const char *filename) {
    char expected[NAMES_MAX_SHOWN + 1];
    char actual[NAMES_MAX_SHOWN + 1];

    if (sanitise(name, expected) == 0 && names_normalise(filename, actual) == 0 &&
        strcmp(expected, actual) == 0)
        return true;
    return is_slug(name, filename, false) || is_slug(name, filename, true);
}
