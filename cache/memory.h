/* memory: allocations that can't fail. */
#ifndef JOTSFS_CACHE_MEMORY_H
#define JOTSFS_CACHE_MEMORY_H

#include <stddef.h>

/* Memory, or the end of the program. */
void *memory_must(size_t size);

#endif
