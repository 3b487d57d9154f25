/*
 * Tables of what was counted, and of what it predicts for an H200. Predictions assume that one
 * thing alone is busy, all the time, on every multiprocessor: a kernel takes longer than the
 * longest of them.
 *
 * Source: CUDA C++ Programming Guide, "Arithmetic Instructions" (four warp instructions, 16 results
 * of special functions a clock and multiprocessor) and "Shared Memory" (32 banks of 4 bytes); 790
 * TFLOP/s an H200's, as others measured; 1.755 GHz its clock under such a load.
 */
#include "tests/ptx/count.h"

#include <stdlib.h>
#include <string.h>

static const double SM_CLOCKS_MS = 132 * 1.755e6; /* clocks a millisecond, of all multiprocessors */
static const double FLOP_MS = 790e9;
static const double L2_BYTES_MS = 5.5e9; /* into all multiprocessors, as tune.c has it */
static const double PLACE_SHARE = 1e-3;  /* of all passes or sectors, that a place tells of */
enum { SECTOR_BYTES = 32 };

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 1;
}

static double sum_of(const double *of_class)
{
    double sum = 0;
    for (int i = 0; i < COUNT_CLASSES; i++)
        sum += of_class[i];
    return sum;
}

static double issued(const struct count_sums *s)
{
    return s->all - s->executed[COUNT_MOVE];
}

/* ---- Predictions, milliseconds --------------------------------------------------------------- */

static double issue_ms(const struct count_sums *s)
{
    return issued(s) / (4 * SM_CLOCKS_MS);
}

static double mma_ms(const struct count_sums *s)
{
    return s->flop / FLOP_MS;
}

static double special_ms(const struct count_sums *s)
{
    return s->executed[COUNT_SPECIAL] * 32 / (16 * SM_CLOCKS_MS);
}

static double shared_ms(const struct count_sums *s)
{
    return sum_of(s->passes) / SM_CLOCKS_MS;
}

/* As if no access found its bytes in the multiprocessor's own cache; cp.async.cg never looks there.
 */
static double l2_ms(const struct count_sums *s)
{
    return sum_of(s->sectors) * SECTOR_BYTES / L2_BYTES_MS;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static void print_head(void)
{
    printf("%-58s %-62s %4s %8s %3s %9s %5s %4s %4s %4s %4s %4s %4s %4s %4s | %5s %5s %5s %5s | "
           "%7s %5s %5s | %5s %6s | %8s %8s %8s %8s %8s\n",
           "kernel", "operator", "n", "blocks", "wrp", "inst/blk", "mma%", "ldm%", "lds%", "sts%",
           "ldg%", "stg%", "cp%", "sfu%", "mov%", "c.ldm", "c.lds", "c.sts", "c.cp", "GB", "u.ld",
           "u.st", "i/mma", "lp/mma", "p.issue", "p.mma", "p.sfu", "p.shared", "p.l2");
}

static double percent(const struct count_sums *s, enum count_class class)
{
    return s->all > 0 ? 100 * s->executed[class] / s->all : 0;
}

static double conflicts(const struct count_sums *s, enum count_class class)
{
    return ratio(s->passes[class], s->passes_least[class]);
}

/* Of reads, cp.async's too; of writes. */
static double spread_load(const struct count_sums *s)
{
    return ratio(s->sectors[COUNT_GLOBAL_LOAD] + s->sectors[COUNT_COPY],
                 s->sectors_least[COUNT_GLOBAL_LOAD] + s->sectors_least[COUNT_COPY]);
}

static double spread_store(const struct count_sums *s)
{
    return ratio(s->sectors[COUNT_GLOBAL_STORE], s->sectors_least[COUNT_GLOBAL_STORE]);
}

static void print_row(const struct count_row *row)
{
    const struct count_sums *s = &row->sums;
    const double products = s->flop / (2.0 * 16 * 8 * 16);
    printf(
        "%-58s %-62s %4llu %8.0f %3u %9.0f %5.1f %4.1f %4.1f %4.1f %4.1f %4.1f %4.1f %4.1f %4.1f "
        "| %5.2f %5.2f %5.2f %5.2f | %7.3f %5.2f %5.2f | %5.2f %6.2f | %8.4f %8.4f %8.4f %8.4f "
        "%8.4f\n",
        row->kernel, row->op, (unsigned long long)row->launches, row->blocks, row->warps,
        s->all / row->blocks, percent(s, COUNT_MMA), percent(s, COUNT_LDMATRIX),
        percent(s, COUNT_SHARED_LOAD), percent(s, COUNT_SHARED_STORE),
        percent(s, COUNT_GLOBAL_LOAD), percent(s, COUNT_GLOBAL_STORE), percent(s, COUNT_COPY),
        percent(s, COUNT_SPECIAL), percent(s, COUNT_MOVE), conflicts(s, COUNT_LDMATRIX),
        conflicts(s, COUNT_SHARED_LOAD), conflicts(s, COUNT_SHARED_STORE), conflicts(s, COUNT_COPY),
        sum_of(s->sectors) * SECTOR_BYTES / 1e9, spread_load(s), spread_store(s),
        products > 0 ? issued(s) / products : 0, s->loop_mma > 0 ? s->loop_rest / s->loop_mma : 0,
        issue_ms(s), mma_ms(s), special_ms(s), shared_ms(s), l2_ms(s));
}

static int by_issue(const void *a, const void *b)
{
    const double x = issued(&((const struct count_row *)a)->sums);
    const double y = issued(&((const struct count_row *)b)->sums);
    return x < y   ? 1
           : x > y ? -1
                   : strcmp(((const struct count_row *)a)->op, ((const struct count_row *)b)->op);
}

/* Rows of one kernel together, whatever the operator. */
static void print_kernels(const struct counts *counts)
{
    static struct count_row sums[COUNT_ROWS_MAX];
    uint32_t count = 0;
    struct count_row all = {.kernel = "all"};
    for (uint32_t i = 0; i < counts->row_count; i++) {
        const struct count_row *row = &counts->rows[i];
        uint32_t k = 0;
        while (k < count && strcmp(sums[k].kernel, row->kernel) != 0)
            k++;
        if (k == count) {
            sums[count++] = *row;
            sums[k].op[0] = '\0';
        } else {
            sums[k].launches += row->launches;
            sums[k].blocks += row->blocks;
            count_sums_add(&sums[k].sums, &row->sums);
        }
        all.launches += row->launches;
        all.blocks += row->blocks;
        count_sums_add(&all.sums, &row->sums);
    }
    qsort(sums, count, sizeof sums[0], by_issue);
    for (uint32_t k = 0; k < count; k++)
        print_row(&sums[k]);
    print_row(&all);
}

/* ---- Places ---------------------------------------------------------------------------------- */

static double waste(const struct count_place *p)
{
    return (p->passes - p->passes_least) + (p->sectors - p->sectors_least);
}

static int by_waste(const void *a, const void *b)
{
    const double x = waste(a), y = waste(b);
    return x < y ? 1 : x > y ? -1 : 0;
}

static void print_places(const struct counts *counts)
{
    double passes = 0, sectors = 0;
    for (uint32_t i = 0; i < counts->place_count; i++) {
        passes += counts->places[i].passes;
        sectors += counts->places[i].sectors;
    }
    for (uint32_t i = 0; i < counts->place_count; i++) {
        const struct count_place *p = &counts->places[i];
        if (p->passes - p->passes_least < PLACE_SHARE * passes &&
            p->sectors - p->sectors_least < PLACE_SHARE * sectors)
            continue;
        printf(
            "%-58s %s:%d (PTX %d) %-34s passes %.4g / %.4g = %.2f, %.2f%% of all; sectors %.4g / "
            "%.4g = %.2f, %.2f%% of all\n",
            p->kernel, p->file, p->source, p->line, p->inst, p->passes, p->passes_least,
            ratio(p->passes, p->passes_least), 100 * (p->passes - p->passes_least) / passes,
            p->sectors, p->sectors_least, ratio(p->sectors, p->sectors_least),
            100 * (p->sectors - p->sectors_least) / sectors);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_classes(FILE *json, const char *name, const double *of_class)
{
    static const char *const classes[COUNT_CLASSES] = {
        "mma",          "ldmatrix", "shared_load", "shared_store", "global_load",
        "global_store", "cp_async", "special",     "move",         "other"};
    fprintf(json, ",\"%s\":{", name);
    for (int i = 0, put = 0; i < COUNT_CLASSES; i++)
        if (of_class[i] > 0)
            fprintf(json, "%s\"%s\":%.9g", put++ > 0 ? "," : "", classes[i], of_class[i]);
    fprintf(json, "}");
}

static void put_json(const struct counts *counts, const char *title, FILE *json)
{
    fprintf(json, "{\"title\":\"%s\",\"rows\":[", title);
    for (uint32_t i = 0; i < counts->row_count; i++) {
        const struct count_row *row = &counts->rows[i];
        const struct count_sums *s = &row->sums;
        fprintf(json,
                "%s\n{\"kernel\":\"%s\",\"op\":\"%s\",\"grid\":[%u,%u,%u],\"warps\":%u,"
                "\"launches\":%llu,\"blocks\":%.0f,\"instructions\":%.9g,\"flop\":%.9g,"
                "\"flop_f16\":%.9g,\"loop_mma\":%.9g,\"loop_rest\":%.9g",
                i > 0 ? "," : "", row->kernel, row->op, row->grid[0], row->grid[1], row->grid[2],
                row->warps, (unsigned long long)row->launches, row->blocks, s->all, s->flop,
                s->flop_f16, s->loop_mma, s->loop_rest);
        put_classes(json, "executed", s->executed);
        put_classes(json, "passes", s->passes);
        put_classes(json, "passes_least", s->passes_least);
        put_classes(json, "sectors", s->sectors);
        put_classes(json, "sectors_least", s->sectors_least);
        fprintf(json,
                ",\"predicted_ms\":{\"issue\":%.6g,\"mma\":%.6g,\"special\":%.6g,\"shared\":%.6g,"
                "\"l2\":%.6g}}",
                issue_ms(s), mma_ms(s), special_ms(s), shared_ms(s), l2_ms(s));
    }
    fprintf(json, "]}");
}

void count_report(struct counts *counts, const char *title, FILE *json)
{
    qsort(counts->rows, counts->row_count, sizeof counts->rows[0], by_issue);
    qsort(counts->places, counts->place_count, sizeof counts->places[0], by_waste);
    printf("\n%s\nCounted in a sample of blocks, scaled to the grids; p.*: predicted milliseconds "
           "if nothing else took time\n\n",
           title);
    print_head();
    print_kernels(counts);
    printf("\nBy operator\n\n");
    print_head();
    for (uint32_t i = 0; i < counts->row_count; i++)
        print_row(&counts->rows[i]);
    printf("\nPlaces with bank conflicts or sectors for nothing, over %.1f%% of all\n\n",
           100 * PLACE_SHARE);
    print_places(counts);
    if (counts->full)
        printf("The tables were too short: something is missing.\n");
    if (json != NULL)
        put_json(counts, title, json);
}
