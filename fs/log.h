/* log: one line to stderr (foreground) or syslog (background). */
#ifndef JOTSFS_FS_LOG_H
#define JOTSFS_FS_LOG_H

#include <stdbool.h>

struct log {
    bool foreground; /* to stderr */
    bool debug;      /* LOG_DEBUG lines too */
};

/* Any thread. LEVEL is a syslog priority. */
__attribute__((format(printf, 3, 4))) void log_line(const struct log *log, int level, const char *format,
                                                    ...);
/* The same as a callback of cache and service; LOG is the struct log. */
void log_text(int level, const char *text, void *log);

#endif
