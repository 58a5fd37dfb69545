/* Lines for people. In the background stderr is gone after the start, so everything goes to
 * syslog (LOG_DAEMON, "jotsfs[PID]"); in the foreground stderr gets each line with one
 * write, so that lines of several threads don't mix. LOG_DEBUG is dropped
 * unless -d was given.
 *
 * Called from every thread, also with the cache's lock held: nothing here waits for
 * anything of ours. syslog(3) opens its socket at the first line.
 */
#include "fs/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

enum { LINE_SIZE = 2048 };

/* Names and messages come from the server: no control characters for the terminal. */
static void disarm(char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = '?';
}

void log_text(int level, const char *text, void *log) {
    const struct log *to = log;
    char line[LINE_SIZE];

    if (level == LOG_DEBUG && !to->debug)
        return;
    if (!to->foreground) {
        syslog(LOG_DAEMON | level, "%s", text);
        return;
    }
    int length = snprintf(line, sizeof(line), "jotsfs: %s%s\n", level <= LOG_ERR ? "error: " : "", text);
    if (length >= LINE_SIZE) {
        length = LINE_SIZE - 1;
        line[LINE_SIZE - 2] = '\n';
    }
    disarm(line, (size_t)length - 1);
    /* There is nobody to tell that stderr is gone. */
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return;
}

void log_line(const struct log *log, int level, const char *format, ...) {
    struct log to = *log;
    char text[LINE_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_text(level, text, &to);
}
