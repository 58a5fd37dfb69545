/* backend: the cache with its service, as the options want it. */
#ifndef JOTSFS_FS_BACKEND_H
#define JOTSFS_FS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/cache.h"
#include "fs/credentials.h"
#include "fs/log.h"
#include "fs/options.h"

/* Starts both; OPTIONS, LOG and EVENTS' argument must outlive them. Takes the token. Negative errno with *OUT_WHY malloc'ed. May wait 1 s
 * for another process to hand over. */
int backend_open(const struct options *options, struct credentials *credentials,
                 const struct cache_events *events, struct log *log, struct cache **out, char **out_why);
/* Sends what is owed, for at most TIMEOUT_MS, or until a signal to stop comes or another process wants the state. Logs
 * and returns what is left. */
size_t backend_drain(struct cache *cache, uint64_t timeout_ms, const struct log *log);

#endif
