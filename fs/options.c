/* The command line: words (URL, MOUNTPOINT, subcommands), flags, and -o lists. Each option is a row of `rows`: its
 * name, how its value is read, and where that goes. mount(8) and fstab bring words
 * that mean nothing to a file system (`_netdev`, `nofail`, `x-*`): they are rows that are
 * skipped. What is in no row is an error, so that a typing mistake doesn't mount with other settings.
 *
 * Paths become absolute here, because the daemon changes to "/". Nothing is opened but by realpath.
 *
 * Called by main, once, before there are threads.
 */
#include "fs/options.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/values.h"

#define DEFAULT_URL "https://freshjots.com/api/v1"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

__attribute__((format(printf, 2, 3))) static int complain(char **out_why, const char *format, ...) {
    va_list args;

    va_start(args, format);
    if (vasprintf(out_why, format, args) < 0)
        *out_why = NULL;
    va_end(args);
    return -EINVAL;
}

/* --- the rows --- */

/* OUT is the struct options: the list grows. */
static int read_local(const char *value, void *out) {
    struct options *options = out;
    char **local;

    if (!*value || strchr(value, '/'))
        return -EINVAL;
    local = reallocarray(options->local, options->local_count + 2, sizeof(*local));
    if (!local)
        return -ENOMEM;
    options->local = local;
    local[options->local_count] = strdup(value);
    if (!local[options->local_count])
        return -ENOMEM;
    local[++options->local_count] = NULL;
    return 0;
}

struct row {
    const char *name;
    enum { ROW_VALUE, ROW_TRUE, ROW_FALSE } kind;
    size_t offset;
    int (*read)(const char *value, void *out);
    const char *wants; /* what a value looks like, for the complaint */
};

#define AT(member) offsetof(struct options, member)

static const struct row rows[] = {
    {"ttl", ROW_VALUE, AT(ttl_ms), value_seconds, "seconds"},
    {"settle", ROW_VALUE, AT(settle_ms), value_seconds, "seconds"},
    {"settle_delete", ROW_VALUE, AT(settle_delete_ms), value_seconds, "seconds"},
    {"request_timeout", ROW_VALUE, AT(request_timeout_ms), value_seconds, "seconds"},
    {"drain_timeout", ROW_VALUE, AT(drain_timeout_ms), value_seconds, "seconds"},
    {"fsync", ROW_VALUE, AT(fsync), value_fsync, "local or server"},
    {"local", ROW_VALUE, 0, read_local, "a pattern of names"},
    {"cache_size", ROW_VALUE, AT(cache_size_bytes), value_size, "a size such as 500M or 2G"},
    {"token_file", ROW_VALUE, AT(token_file), value_path, "a path"},
    {"state_dir", ROW_VALUE, AT(state_dir), value_path, "a path"},
    {"umask", ROW_VALUE, AT(umask), value_umask, "an octal number"},
    {"uid", ROW_VALUE, AT(uid), value_uid, "a user"},
    {"gid", ROW_VALUE, AT(gid), value_gid, "a group"},
    {"append_only", ROW_TRUE, AT(append_only), NULL, NULL},
    {"allow_other", ROW_TRUE, AT(allow_other), NULL, NULL},
    {"ro", ROW_TRUE, AT(read_only), NULL, NULL},
    {"rw", ROW_FALSE, AT(read_only), NULL, NULL},
    {"debug", ROW_TRUE, AT(debug), NULL, NULL},
};

/* For libfuse and the kernel. */
static const char *const passed[] = {
    "suid",    "nosuid", "dev",   "nodev",        "exec",      "noexec",      "atime",        "noatime",
    "dirsync", "sync",   "async", "auto_unmount", "context=*", "fscontext=*", "defcontext=*", "rootcontext=*",
};

/* For mount(8), systemd and other readers of fstab, or always so. */
static const char *const skipped[] = {
    "default_permissions",
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "user=*",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "relatime",
    "norelatime",
    "diratime",
    "nodiratime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "silent",
    "loud",
    "symfollow",
    "nosymfollow",
    "comment=*",
    "helper=*",
    "uhelper=*",
    "x-*",
    "X-*",
};

static bool is_one_of(const char *word, const char *const *patterns, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (fnmatch(patterns[i], word, 0) == 0)
            return true;
    return false;
}

static int pass_on(struct options *options, const char *word) {
    char *joined;

    if (asprintf(&joined, "%s%s%s", options->mount ? options->mount : "", options->mount ? "," : "", word) <
        0)
        return -ENOMEM;
    free(options->mount);
    options->mount = joined;
    return 0;
}

static int row_apply(const struct row *row, const char *value, struct options *options, char **out_why) {
    void *at = (char *)options + row->offset;
    bool *flag = at;

    if (row->kind != ROW_VALUE && value)
        return complain(out_why, "option %s takes no value", row->name);
    if (row->kind != ROW_VALUE) {
        *flag = row->kind == ROW_TRUE;
        return 0;
    }
    int rc = value ? row->read(value, at) : -EINVAL;
    return rc == -EINVAL ? complain(out_why, "option %s wants %s", row->name, row->wants) : rc;
}

static int read_option(const char *word, struct options *options, char **out_why) {
    size_t length = strcspn(word, "=");

    for (size_t i = 0; i < LENGTH(rows); i++)
        if (strncmp(rows[i].name, word, length) == 0 && rows[i].name[length] == '\0')
            return row_apply(&rows[i], word[length] ? word + length + 1 : NULL, options, out_why);
    if (is_one_of(word, passed, LENGTH(passed)))
        return pass_on(options, word);
    if (is_one_of(word, skipped, LENGTH(skipped)))
        return 0;
    return complain(out_why, "unknown option: %.*s", (int)length, word);
}

/* Takes the next word off LIST, undoing "\," and "\\". Words are separated by commas; empty ones are skipped by the caller. */
static const char *next_word(const char *list, char *out) {
    while (*list && *list != ',') {
        if (*list == '\\' && (list[1] == ',' || list[1] == '\\'))
            list++;
        *out++ = *list++;
    }
    *out = '\0';
    return *list ? list + 1 : list;
}

static int read_list(const char *list, struct options *options, char **out_why) {
    char *word = malloc(strlen(list) + 1);
    int rc = word ? 0 : -ENOMEM;

    while (rc == 0 && *list) {
        list = next_word(list, word);
        if (*word)
            rc = read_option(word, options, out_why);
    }
    free(word);
    return rc;
}

/* --- arguments --- */

/* The words, in order. */
struct words {
    const char *word[3];
    size_t count;
};

/* One argument; *ARG moves on when a second one is used. */
static int read_flags(char **argv, int argc, int *arg, struct options *options, char **out_why) {
    for (const char *flag = argv[*arg] + 1; *flag; flag++) {
        if (*flag == 'f')
            options->foreground = true;
        else if (*flag == 'd')
            options->debug = true;
        else if (*flag == 'h')
            options->command = OPTIONS_HELP;
        else if (*flag == 'V')
            options->command = OPTIONS_VERSION;
        else if (*flag == 'o' && flag[1])
            return read_list(flag + 1, options, out_why);
        else if (*flag == 'o' && *arg + 1 < argc)
            return read_list(argv[++*arg], options, out_why);
        else
            return complain(out_why, *flag == 'o' ? "-o wants options" : "unknown flag: -%c", *flag);
    }
    return 0;
}

static int read_long(const char *flag, struct options *options, char **out_why) {
    if (strcmp(flag, "--help") == 0)
        options->command = OPTIONS_HELP;
    else if (strcmp(flag, "--version") == 0)
        options->command = OPTIONS_VERSION;
    else if (strcmp(flag, "--json") == 0 && options->command == OPTIONS_STATUS)
        options->json = true;
    else
        return complain(out_why, "unknown flag: %s", flag);
    return 0;
}

static int read_arguments(struct options *options, int argc, char **argv, int first, struct words *words,
                          char **out_why) {
    bool flags = true;
    int rc = 0;

    for (int arg = first; rc == 0 && arg < argc; arg++) {
        const char *word = argv[arg];
        if (flags && strcmp(word, "--") == 0)
            flags = false;
        else if (flags && strncmp(word, "--", 2) == 0)
            rc = read_long(word, options, out_why);
        else if (flags && word[0] == '-' && word[1])
            rc = read_flags(argv, argc, &arg, options, out_why);
        else if (words->count == LENGTH(words->word))
            rc = complain(out_why, "too many arguments: %s", word);
        else
            words->word[words->count++] = word;
    }
    return rc;
}

static enum options_command command_of(const char *word) {
    return strcmp(word, "status") == 0    ? OPTIONS_STATUS
           : strcmp(word, "flush") == 0   ? OPTIONS_FLUSH
           : strcmp(word, "refresh") == 0 ? OPTIONS_REFRESH
                                          : OPTIONS_MOUNT;
}

/* The mount point as mount(2) shows it, also when it is a dead mount that can't be looked into. */
static int resolve_path(const char *word, struct options *options) {
    options->path = realpath(word, NULL);
    return options->path ? 0 : value_path(word, &options->path);
}

/* [URL] PATH. In fstab the first field must be something: words that are no URL stand for the default. */
static int take_words(const struct words *words, struct options *options, char **out_why) {
    const char *path = words->count ? words->word[words->count - 1] : NULL;
    const char *url = words->count == 2 ? words->word[0] : NULL;

    if (words->count > 2)
        return complain(out_why, "too many arguments: %s", words->word[2]);
    if (!path || !*path || strstr(path, "://"))
        return complain(out_why, options->command == OPTIONS_FLUSH ? "which mount point or state directory?"
                                                                   : "which mount point?");
    if (url && strcmp(url, "jotsfs") != 0 && strcmp(url, "none") != 0) {
        options->url = strdup(url);
        options->url_given = true;
        if (!options->url)
            return -ENOMEM;
    }
    return resolve_path(path, options);
}

/* --- defaults --- */

static void set_defaults(struct options *options) {
    mode_t mask = umask(0);

    umask(mask);
    *options = (struct options){
        .ttl_ms = 5000,
        .settle_ms = 1000,
        .settle_delete_ms = 10000,
        .drain_timeout_ms = 30000,
        .request_timeout_ms = 10000,
        .cache_size_bytes = UINT64_C(1) << 30,
        .umask = mask,
        .uid = getuid(),
        .gid = getgid(),
    };
}

/* HOST or HOST:PORT of the URL, as a file name. */
static void host_of(const char *url, char *out, size_t size) {
    const char *start = strstr(url, "://");

    start = start ? start + 3 : url;
    snprintf(out, size, "%.*s", (int)strcspn(start, "/?#"), start);
}

static int default_state_dir(struct options *options, char **out_why) {
    const char *base = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
    char host[256];
    int rc;

    host_of(options->url, host, sizeof(host));
    if (base && *base == '/')
        rc = asprintf(&options->state_dir, "%s/jotsfs/%s", base, host);
    else if (home && *home == '/')
        rc = asprintf(&options->state_dir, "%s/.local/state/jotsfs/%s", home, host);
    else
        return complain(out_why, "HOME is not set: name a directory for unsent changes with -o state_dir=");
    return rc < 0 ? -ENOMEM : 0;
}

static int complete(struct options *options, char **out_why) {
    const char *url = secure_getenv("FRESHJOTS_BASE_URL");

    if (!options->url)
        options->url = strdup(url && *url ? url : DEFAULT_URL);
    if (!options->url)
        return -ENOMEM;
    if (options->debug)
        options->foreground = true;
    if (options->state_dir || options->command != OPTIONS_MOUNT)
        return 0;
    return default_state_dir(options, out_why);
}

int options_init(struct options *out, int argc, char **argv, char **out_why) {
    struct words words = {0};

    set_defaults(out);
    out->command = argc > 1 ? command_of(argv[1]) : OPTIONS_MOUNT;
    int rc = read_arguments(out, argc, argv, out->command == OPTIONS_MOUNT ? 1 : 2, &words, out_why);
    if (rc < 0 || out->command == OPTIONS_HELP || out->command == OPTIONS_VERSION)
        return rc;
    rc = take_words(&words, out, out_why);
    return rc < 0 ? rc : complete(out, out_why);
}

void options_release(struct options *options) {
    for (size_t i = 0; i < options->local_count; i++)
        free(options->local[i]);
    free(options->local);
    free(options->url);
    free(options->path);
    free(options->token_file);
    free(options->state_dir);
    free(options->mount);
}
