/*
 * One launch into sums: instructions by what they are, passes and sectors, and the places that they
 * come from. What was counted in a sample of the blocks is scaled to the grid.
 */
#include "tests/ptx/count.h"

#include <string.h>

/* ---- What an instruction is ------------------------------------------------------------------ */

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_special(const char *name)
{
    static const char *const units[] = {"ex2.", "rcp.", "rsqrt.", "sqrt.approx",
                                        "lg2.", "sin.", "cos.",   "tanh."};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (begins(name, units[i]))
            return true;
    return false;
}

static bool is_move(const char *name)
{
    return begins(name, "mov.") || begins(name, "ld.param") || begins(name, "cvta");
}

static enum count_class class_of(const char *name, const struct ptx_site *site)
{
    const bool shared = site->passes > 0 || strstr(name, ".shared") != NULL;
    if (begins(name, "mma."))
        return COUNT_MMA;
    if (begins(name, "ldmatrix."))
        return COUNT_LDMATRIX;
    if (begins(name, "cp.async.c") && strstr(name, ".shared.global") != NULL)
        return COUNT_COPY;
    if (is_move(name))
        return COUNT_MOVE;
    if (is_special(name))
        return COUNT_SPECIAL;
    if (begins(name, "ld."))
        return shared ? COUNT_SHARED_LOAD : COUNT_GLOBAL_LOAD;
    if (begins(name, "st.") || begins(name, "atom.") || begins(name, "red."))
        return shared ? COUNT_SHARED_STORE : COUNT_GLOBAL_STORE;
    return COUNT_OTHER;
}

/* In units of m16n8k16. */
static double products(const char *name)
{
    return strstr(name, ".m16n8k8.") != NULL ? 0.5 : 1;
}

static bool has_f16_sums(const char *name)
{
    return strstr(name, ".f16.f16.f16.f16") != NULL;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

void count_sums_add(struct count_sums *to, const struct count_sums *from)
{
    for (int i = 0; i < COUNT_CLASSES; i++) {
        to->executed[i] += from->executed[i];
        to->passes[i] += from->passes[i];
        to->passes_least[i] += from->passes_least[i];
        to->sectors[i] += from->sectors[i];
        to->sectors_least[i] += from->sectors_least[i];
    }
    to->all += from->all;
    to->flop += from->flop;
    to->flop_f16 += from->flop_f16;
    to->loop_mma += from->loop_mma;
    to->loop_rest += from->loop_rest;
}

static void add_site(struct count_sums *sums, const char *name, const struct ptx_site *site,
                     double scale)
{
    static const double flop = 2.0 * 16 * 8 * 16;
    const enum count_class class = class_of(name, site);
    const double executed = scale * (double)site->executed;
    sums->executed[class] += executed;
    sums->all += executed;
    sums->passes[class] += scale * (double)site->passes;
    sums->passes_least[class] += scale * (double)site->passes_least;
    sums->sectors[class] += scale * (double)site->sectors;
    sums->sectors_least[class] += scale * (double)site->sectors_least;
    if (class == COUNT_MMA) {
        sums->flop += executed * products(name) * flop;
        sums->flop_f16 += has_f16_sums(name) ? executed * products(name) * flop : 0;
    }
}

static void add_loop(struct count_sums *sums, const struct ptx_kernel *kernel,
                     const struct ptx_site *sites, double scale)
{
    uint64_t most = 0;
    for (int32_t i = 0; i < kernel->inst_count; i++)
        if (begins(kernel->insts[i].name, "mma.") && sites[i].executed > most)
            most = sites[i].executed;
    for (int32_t i = 0; most > 0 && i < kernel->inst_count; i++) {
        const char *name = kernel->insts[i].name;
        const double executed = scale * (double)sites[i].executed;
        if (2 * sites[i].executed < most || is_move(name))
            continue;
        if (begins(name, "mma."))
            sums->loop_mma += executed * products(name);
        else
            sums->loop_rest += executed;
    }
}

/* ---- Rows and places ------------------------------------------------------------------------- */

static struct count_row *row_of(struct counts *counts, const char *kernel,
                                const struct ptx_launch *launch)
{
    for (uint32_t i = 0; i < counts->row_count; i++) {
        struct count_row *row = &counts->rows[i];
        if (strcmp(row->op, counts->op) == 0 && strcmp(row->kernel, kernel) == 0 &&
            memcmp(row->grid, launch->grid, sizeof row->grid) == 0)
            return row;
    }
    if (counts->row_count == COUNT_ROWS_MAX)
        return NULL;
    struct count_row *row = &counts->rows[counts->row_count++];
    *row = (struct count_row){.launches = 0};
    memcpy(row->op, counts->op, sizeof row->op);
    memcpy(row->kernel, kernel, sizeof row->kernel);
    memcpy(row->grid, launch->grid, sizeof row->grid);
    row->warps = (launch->block[0] * launch->block[1] * launch->block[2] + 31) / 32;
    return row;
}

static struct count_place *place_of(struct counts *counts, const char *kernel,
                                    const struct ptx_module *module, const struct ptx_inst *inst)
{
    for (uint32_t i = 0; i < counts->place_count; i++) {
        struct count_place *place = &counts->places[i];
        if (place->line == inst->line && strcmp(place->kernel, kernel) == 0)
            return place;
    }
    if (counts->place_count == COUNT_PLACES_MAX)
        return NULL;
    struct count_place *place = &counts->places[counts->place_count++];
    const bool known = inst->source_line > 0 && inst->source_file >= 0 &&
                       inst->source_file < module->file_count &&
                       module->files[inst->source_file] != NULL;
    *place = (struct count_place){.inst = inst->name, .line = inst->line, .file = ""};
    memcpy(place->kernel, kernel, sizeof place->kernel);
    if (known) {
        const char *file = module->files[inst->source_file];
        const char *slash = strrchr(file, '/');
        place->file = slash != NULL ? slash + 1 : file;
        place->source = inst->source_line;
    }
    return place;
}

static void add_place(struct counts *counts, const char *kernel, const struct ptx_module *module,
                      const struct ptx_inst *inst, const struct ptx_site *site, double scale)
{
    if (site->passes == 0 && site->sectors == 0)
        return;
    struct count_place *place = place_of(counts, kernel, module, inst);
    if (place == NULL) {
        counts->full = true;
        return;
    }
    place->executed += scale * (double)site->executed;
    place->passes += scale * (double)site->passes;
    place->passes_least += scale * (double)site->passes_least;
    place->sectors += scale * (double)site->sectors;
    place->sectors_least += scale * (double)site->sectors_least;
}

void count_launch(void *context, const struct ptx_launch *launch, uint64_t blocks,
                  const struct ptx_site *sites)
{
    struct counts *counts = context;
    const struct ptx_kernel *kernel = launch->kernel;
    const double all = (double)launch->grid[0] * (double)launch->grid[1] * (double)launch->grid[2];
    const double scale = all / (double)blocks;
    struct count_sums sums = {.all = 0};
    char name[COUNT_NAME];
    count_name(kernel->name, name);
    struct count_row *row = row_of(counts, name, launch);
    if (row == NULL) {
        counts->full = true;
        return;
    }
    for (int32_t i = 0; i < kernel->inst_count; i++) {
        add_site(&sums, kernel->insts[i].name, &sites[i], scale);
        add_place(counts, name, kernel->module, &kernel->insts[i], &sites[i], scale);
    }
    add_loop(&sums, kernel, sites, scale);
    row->launches++;
    row->blocks += all;
    count_sums_add(&row->sums, &sums);
}
