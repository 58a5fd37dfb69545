/* token: keeps the bearer token in as few places as can be, for as short as can be.
 *
 * A token lives in a token_line, which is the finished header line. Transfers point to
 * it (libcurl doesn't copy header lists) and hold a reference; it is wiped when the
 * last one is gone. So a token that is replaced while requests are under way stays
 * valid for them, and there is never a second copy of ours.
 *
 * With a file, replacing it resumes a service whose token had expired: its identity (device,
 * inode, size, mtime) is compared, and only a changed file is read. A file that fails the checks is
 * reported once per identity and the old token stays.
 *
 * Called by http, on the network thread once it runs.
 */
#include "api/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKEN_MAX = 4096, CHECK_MS = 1000, CENSOR_MIN = 4 };

static const char prefix[] = "Authorization: Bearer ";

struct token_line {
    unsigned references;
    size_t size;
    char text[]; /* the prefix and the token */
};

struct token {
    char *path;       /* NULL: never changes */
    struct stat seen; /* the file as last looked at */
    int64_t checked_ms;
    struct token_line *line;
};

void token_wipe(char *text) {
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

static bool is_printable(const char *text) {
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static const char *fault_of(const struct stat *info) {
    if (!S_ISREG(info->st_mode))
        return "the token file is not a regular file";
    if (info->st_uid != geteuid())
        return "the token file belongs to someone else";
    if (info->st_mode & (S_IRWXG | S_IRWXO))
        return "the token file is accessible to others: chmod 600 it";
    return NULL;
}

/* Reads up to TOKEN_MAX bytes into TEXT, cuts trailing white space. */
static int read_text(int fd, char *text, const char **out_why) {
    size_t size = 0;
    ssize_t got;

    do {
        got = read(fd, text + size, TOKEN_MAX - size);
        if (got > 0)
            size += (size_t)got;
    } while (size < TOKEN_MAX && (got > 0 || (got < 0 && errno == EINTR)));
    if (got < 0)
        return -errno;
    while (size > 0 && strchr(" \t\r\n", text[size - 1]))
        size--;
    text[size] = '\0';
    *out_why = size == 0 ? "the token file is empty" : "the token file holds more than a token";
    return size == 0 || size >= TOKEN_MAX || strlen(text) != size || !is_printable(text) ? -EINVAL : 0;
}

/* As token_read(); also tells what file it was. */
static int read_file(const char *path, char **out, struct stat *out_info, const char **out_why) {
    char *text = NULL;
    int fd = -1;
    int error;

    *out_why = "the token file can't be read";
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, out_info) < 0) {
        error = -errno;
        goto out;
    }
    if (fault_of(out_info)) {
        *out_why = fault_of(out_info);
        error = -EACCES;
        goto out;
    }
    text = calloc(1, TOKEN_MAX + 1);
    error = text ? read_text(fd, text, out_why) : -ENOMEM;
    if (!error) {
        *out = text;
        text = NULL;
    }
out:
    if (text) {
        explicit_bzero(text, TOKEN_MAX);
        free(text);
    }
    if (fd >= 0)
        close(fd);
    return error;
}

int token_read(const char *path, char **out, const char **out_why) {
    struct stat info;

    return read_file(path, out, &info, out_why);
}

static struct token_line *line_create(const char *text) {
    size_t size = strlen(prefix) + strlen(text);
    struct token_line *line = malloc(sizeof(*line) + size + 1);

    if (!line)
        return NULL;
    line->references = 1;
    line->size = size;
    stpcpy(stpcpy(line->text, prefix), text);
    return line;
}

int token_create(const char *text, const char *path, struct token **out) {
    struct token *token = calloc(1, sizeof(*token));
    char *from_file = NULL;
    const char *why;
    int error;

    if (!token)
        return -ENOMEM;
    if (path) {
        token->path = strdup(path);
        error = token->path ? read_file(path, &from_file, &token->seen, &why) : -ENOMEM;
        if (error)
            goto out;
        text = from_file;
    }
    error = -EINVAL;
    if (!text || !*text || strlen(text) >= TOKEN_MAX || !is_printable(text))
        goto out;
    token->line = line_create(text);
    error = token->line ? 0 : -ENOMEM;
out:
    token_wipe(from_file);
    if (error)
        token_destroy(token);
    else
        *out = token;
    return error;
}

void token_destroy(struct token *token) {
    if (!token)
        return;
    token_line_put(token->line);
    free(token->path);
    free(token);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Takes the token of the file that was just seen to be another one. */
static bool reread(struct token *token, const char **out_why) {
    struct token_line *line = NULL;
    char *text = NULL;
    bool changed = false;

    if (read_file(token->path, &text, &token->seen, out_why) || !text)
        return false;
    *out_why = NULL;
    if (strcmp(text, token->line->text + strlen(prefix)) != 0)
        line = line_create(text);
    if (line) {
        token_line_put(token->line);
        token->line = line;
        changed = true;
    }
    token_wipe(text);
    return changed;
}

bool token_refresh(struct token *token, int64_t now_ms, bool force, const char **out_why) {
    struct stat info = {0};

    *out_why = NULL;
    if (!token->path || (!force && token->checked_ms && now_ms - token->checked_ms < CHECK_MS))
        return false;
    token->checked_ms = now_ms;
    /* A file that is gone for a moment is being replaced. */
    if (stat(token->path, &info) < 0 || same_file(&info, &token->seen))
        return false;
    token->seen = info;
    return reread(token, out_why);
}

struct token_line *token_get(struct token *token) {
    token->line->references++;
    return token->line;
}

bool token_is_current(const struct token *token, const struct token_line *line) {
    return token->line == line;
}

char *token_line_header(struct token_line *line) {
    return line->text;
}

void token_line_censor(const struct token_line *line, char *text) {
    const char *secret = line->text + strlen(prefix);
    size_t size = line->size - strlen(prefix);

    for (char *at = size < CENSOR_MIN ? NULL : text; at && (at = strstr(at, secret)) != NULL; at += size)
        memset(at, '*', size);
}

void token_line_put(struct token_line *line) {
    if (!line || --line->references > 0)
        return;
    explicit_bzero(line->text, line->size);
    free(line);
}
