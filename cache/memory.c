/* memory: allocations that can't fail.
 *
 * For the buckets of hash tables (tree.h): uthash can't give an error back from the middle of an insertion. Where there is
 * no memory even for these the program ends by abort. Nothing that was accepted is lost by that: it is on disk, as at any kill,
 * and the next start goes on. All other allocations of cache/ report -ENOMEM.
 */
#include "cache/memory.h"

#include <stdlib.h>

void *memory_must(size_t size) {
    void *memory = malloc(size);

    if (!memory)
        abort();
    return memory;
}
