/*
 * The memory that kernels may touch: what was allocated, as a sorted table.
 *
 * A block remembers the regions of its last accesses, so the table is seldom asked. What was freed
 * lately is remembered too: an access there is told from one beyond an end.
 */
#include "tests/ptx/machine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREED = 64 };

static struct ptx_region *regions; /* by base */
static size_t region_count, region_room;
static struct ptx_region freed[FREED];
static size_t freed_next;
static pthread_rwlock_t regions_lock = PTHREAD_RWLOCK_INITIALIZER;

/* The first region that begins after `address`. */
static size_t after(uint64_t address)
{
    size_t low = 0, high = region_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (regions[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void ptx_memory_add(void *base, size_t bytes)
{
    pthread_rwlock_wrlock(&regions_lock);
    if (region_count == region_room) {
        region_room = region_room != 0 ? 2 * region_room : 64;
        regions = realloc(regions, region_room * sizeof *regions);
        if (regions == NULL)
            abort();
    }
    const uint64_t address = (uint64_t)(uintptr_t)base;
    const size_t at = after(address);
    memmove(&regions[at + 1], &regions[at], (region_count - at) * sizeof *regions);
    regions[at] = (struct ptx_region){address, bytes};
    region_count++;
    for (size_t i = 0; i < FREED; i++)
        if (freed[i].base < address + bytes && address < freed[i].base + freed[i].bytes)
            freed[i].bytes = 0;
    pthread_rwlock_unlock(&regions_lock);
}

void ptx_memory_remove(void *base)
{
    pthread_rwlock_wrlock(&regions_lock);
    const uint64_t address = (uint64_t)(uintptr_t)base;
    const size_t at = after(address);
    if (at > 0 && regions[at - 1].base == address) {
        freed[freed_next++ % FREED] = regions[at - 1];
        memmove(&regions[at - 1], &regions[at], (region_count - at) * sizeof *regions);
        region_count--;
    }
    pthread_rwlock_unlock(&regions_lock);
}

static bool inside(const struct ptx_region *region, uint64_t address, uint64_t count)
{
    const uint64_t offset = address - region->base; /* huge if it is before */
    return offset < region->bytes && region->bytes - offset >= count;
}

/* What is wrong with bytes [address, address + count), which are in no region. The table is locked.
 */
static void describe(uint64_t address, uint64_t count, char *text, size_t size)
{
    const size_t next = after(address);
    for (size_t i = 0; i < FREED; i++) {
        if (inside(&freed[i], address, 1)) {
            snprintf(text, size, "in %llu bytes at 0x%llx that have been freed",
                     (unsigned long long)freed[i].bytes, (unsigned long long)freed[i].base);
            return;
        }
    }
    const struct ptx_region *below = next > 0 ? &regions[next - 1] : NULL;
    const struct ptx_region *above = next < region_count ? &regions[next] : NULL;
    const uint64_t past = below != NULL ? address + count - (below->base + below->bytes) : 0;
    const uint64_t before = above != NULL ? above->base - address : 0;
    if (below != NULL && (above == NULL || past <= before))
        snprintf(text, size, "%llu bytes past the end of %llu bytes at 0x%llx",
                 (unsigned long long)past, (unsigned long long)below->bytes,
                 (unsigned long long)below->base);
    else if (above != NULL)
        snprintf(text, size, "%llu bytes before the beginning of %llu bytes at 0x%llx",
                 (unsigned long long)before, (unsigned long long)above->bytes,
                 (unsigned long long)above->base);
    else
        snprintf(text, size, "and there is no memory at all");
}

/* Asks the table. */
static bool look_up(uint64_t address, uint64_t count, struct ptx_region *out, char *text,
                    size_t size)
{
    pthread_rwlock_rdlock(&regions_lock);
    const size_t next = after(address);
    const bool found = next > 0 && inside(&regions[next - 1], address, count);
    if (found)
        *out = regions[next - 1];
    else
        describe(address, count, text, size);
    pthread_rwlock_unlock(&regions_lock);
    return found;
}

unsigned char *ptx_global(struct ptx_warp *w, int lane, uint64_t address, uint32_t count,
                          uint32_t align, bool write)
{
    struct ptx_block *block = w->block;
    char text[160];
    if ((address & (align - 1)) != 0)
        ptx_fail(w, lane, "%s %u bytes at 0x%llx, which is not a multiple of %u",
                 write ? "writes" : "reads", count, (unsigned long long)address, align);
    for (int i = 0; i < PTX_NEAR; i++)
        if (inside(&block->near[i], address, count))
            return (unsigned char *)(uintptr_t)address;
    struct ptx_region *region = &block->near[block->near_next++ % PTX_NEAR];
    if (!look_up(address, count, region, text, sizeof text))
        ptx_fail(w, lane, "%s %u bytes at 0x%llx, %s", write ? "writes" : "reads", count,
                 (unsigned long long)address, text);
    return (unsigned char *)(uintptr_t)address;
}
