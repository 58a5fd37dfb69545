/* token: the bearer token: from a file or given, in one buffer, wiped in the end. */
#ifndef JOTSFS_API_TOKEN_H
#define JOTSFS_API_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

/* A token as it goes into a request. Counted references, all on one thread. */
struct token_line;

struct token;

/* Reads a token from PATH; see http_read_token(). */
int token_read(const char *path, char **out, const char **out_why);

/* TEXT is used when PATH is NULL. Both are copied. -EINVAL for a token with blanks or control
 * characters, or what token_read() says. */
int token_create(const char *text, const char *path, struct token **out);
void token_destroy(struct token *token);

/* Reads the file again if it is another one than the last one read. Looks at most once a second, or at
 * once when FORCE. True when the token is another one now. A file that can't be read leaves the token
 * alone and sets *OUT_WHY, once. */
bool token_refresh(struct token *token, int64_t now_ms, bool force, const char **out_why);

/* The current token. */
struct token_line *token_get(struct token *token);
bool token_is_current(const struct token *token, const struct token_line *line);
/* "Authorization: Bearer ..." */
char *token_line_header(struct token_line *line);
/* Overwrites every place where TEXT holds the token. */
void token_line_censor(const struct token_line *line, char *text);
void token_line_put(struct token_line *line);

/* Wipes and frees TEXT. NULL is fine. */
void token_wipe(char *text);

#endif
