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

void log_text(int level, const char *text, void *log) {
    const struct log *to = log;
    char line[LINE_SIZE];

    if (level == LOG_DEBUG && !to->debug)
        return;
    if (!to->foreground) {
        syslog(LOG_DAEMON | level, "%s", text);
        return;
    }
    int length = snprintf(line, sizeof(line), "jotsfs: %s\n", text);
    if (length >= LINE_SIZE) {
        length = LINE_SIZE - 1;
        line[LINE_SIZE - 2] = '\n';
    }
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
