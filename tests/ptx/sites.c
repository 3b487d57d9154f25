/*
 * What each instruction of a kernel cost, for those who watch (ptx_options.watch): the least that
 * its accesses could have taken beside what they took.
 *
 * The least of shared memory is a pass for each group of lanes that go together (32 of up to 4
 * bytes, 16 of 8, 8 of 16): what is more is bank conflicts. The least of global memory is the
 * sectors that the bytes asked for would fill, bytes that several lanes ask for counted once: what
 * is more is bytes moved for nothing.
 */
#include "tests/ptx/memory.h"

enum { SECTOR_BYTES = 32 };

static struct ptx_site *present_site(const struct ptx_warp *w)
{
    struct ptx_site *sites = w->block->sites;
    return sites != NULL ? &sites[w->op - w->block->launch->kernel->ops] : NULL;
}

void ptx_site_passes(struct ptx_warp *w, uint32_t lanes, uint32_t bytes, uint32_t passes)
{
    struct ptx_site *site = present_site(w);
    if (site == NULL)
        return;
    site->passes += passes;
    site->passes_least += ptx_bank_passes_least(lanes, bytes);
}

void ptx_site_sectors(struct ptx_warp *w, uint32_t lanes, const uint64_t *address, uint32_t bytes,
                      uint32_t sectors)
{
    struct ptx_site *site = present_site(w);
    if (site == NULL || lanes == 0)
        return;
    const uint32_t pieces = ptx_count_pieces(lanes, address, (uint32_t)__builtin_ctz(bytes));
    site->sectors += sectors;
    site->sectors_least += (pieces * bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
}
