#include "runtime/model/adapter_rows.h"

#include "runtime/model/lowrank.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Values of a task: enough that handing it out costs nothing, little enough for the near caches. */
enum { TASK_VALUES = 1 << 16 };

enum dora_axis { DORA_OFF, DORA_PER_OUTPUT, DORA_PER_INPUT };

/* What the tasks of one weight share. */
struct change {
    const struct ld_delta *delta;
    const struct ld_weight_view *from; /* NULL: `values` holds W already */
    float *values;
    double strength;
    enum ld_dora_norm norm;
    float *scratch; /* [threads][2][LD_LOWRANK_ROWS, columns] */
    size_t task_rows, stride;
    float *magnitude; /* DoRA only */
    double *squares;  /* DoRA per input: [tasks][inputs] */
    void (*rows)(const struct change *change, size_t first, size_t rows, float *d);
};

/* ---- Rows ------------------------------------------------------------------------------------ */

/* W += strength * scale * D */
static void add_rows(const struct change *change, size_t first, size_t rows, float *d)
{
    const size_t columns = change->delta->columns;
    const float factor = (float)(change->strength * change->delta->scale);
    for (size_t r = 0; r < rows; r++, d += columns) {
        float *w = change->values + (first + r) * change->stride;
        for (size_t j = 0; j < columns; j++)
            w[j] += factor * d[j];
    }
}

/* W = what the adapter holds, whatever the strength. */
static void replace_rows(const struct change *change, size_t first, size_t rows, float *d)
{
    const size_t columns = change->delta->columns;
    for (size_t r = 0; r < rows; r++, d += columns)
        memcpy(change->values + (first + r) * change->stride, d, columns * sizeof *d);
}

/* V = W + scale * D, in place of D. */
static void merge_row(const struct change *change, const float *w, float *d)
{
    const float scale = (float)change->delta->scale;
    for (size_t j = 0; j < change->delta->columns; j++)
        d[j] = w[j] + scale * d[j];
}

/* W += strength * (V * factor - W) */
static void blend(const struct change *change, float *w, const float *v, size_t count, float factor)
{
    const float strength = (float)change->strength;
    for (size_t j = 0; j < count; j++)
        w[j] += strength * (v[j] * factor - w[j]);
}

static double square_sum(const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sum;
}

static float magnitude_over(float magnitude, double squares)
{
    return (float)((double)magnitude / (sqrt(squares) + (double)FLT_EPSILON));
}

static void dora_output_rows(const struct change *change, size_t first, size_t rows, float *d)
{
    const size_t columns = change->delta->columns;
    const bool comfy = change->norm == LD_DORA_COMFY;
    for (size_t r = 0; r < rows; r++, d += columns) {
        float *w = change->values + (first + r) * change->stride;
        const double before = comfy ? square_sum(w, columns) : 0;
        merge_row(change, w, d);
        const double squares = comfy ? before : square_sum(d, columns);
        blend(change, w, d, columns, magnitude_over(change->magnitude[first + r], squares));
    }
}

/* First of two passes: the squares that these rows add to each input's norm. */
static void dora_square_rows(const struct change *change, size_t first, size_t rows, float *d)
{
    const size_t kernel = change->delta->kernel;
    const size_t inputs = change->delta->columns / kernel;
    double *squares = change->squares + first / change->task_rows * inputs;
    for (size_t r = 0; r < rows; r++, d += change->delta->columns) {
        merge_row(change, change->values + (first + r) * change->stride, d);
        for (size_t i = 0; i < inputs; i++)
            squares[i] += square_sum(d + i * kernel, kernel);
    }
}

/* Second pass, with the sums in the first task's place; D is made again rather than kept. */
static void dora_input_rows(const struct change *change, size_t first, size_t rows, float *d)
{
    const size_t kernel = change->delta->kernel;
    const size_t inputs = change->delta->columns / kernel;
    for (size_t r = 0; r < rows; r++, d += change->delta->columns) {
        float *w = change->values + (first + r) * change->stride;
        merge_row(change, w, d);
        for (size_t i = 0; i < inputs; i++)
            blend(change, w + i * kernel, d + i * kernel, kernel,
                  magnitude_over(change->magnitude[i], change->squares[i]));
    }
}

/* ---- Tasks ----------------------------------------------------------------------------------- */

static void run_task(void *ctx, uint32_t task, uint32_t worker)
{
    const struct change *change = ctx;
    const struct ld_delta *delta = change->delta;
    const size_t room = LD_LOWRANK_ROWS * delta->columns;
    float *d = change->scratch + 2 * room * worker;
    const size_t start = task * change->task_rows;
    const size_t end =
        delta->out - start < change->task_rows ? delta->out : start + change->task_rows;
    for (size_t first = start; first < end; first += LD_LOWRANK_ROWS) {
        const size_t rows = end - first < LD_LOWRANK_ROWS ? end - first : LD_LOWRANK_ROWS;
        float *w = change->values + first * change->stride;
        if (change->from)
            ld_weight_view_decode_part(change->from, first * change->stride, rows * change->stride,
                                       w);
        ld_delta_rows(delta, first, rows, w, d, d + room);
        change->rows(change, first, rows, d);
    }
}

static uint32_t task_count(const struct change *change)
{
    return (uint32_t)((change->delta->out + change->task_rows - 1) / change->task_rows);
}

static void run(struct change *change, struct ld_pool *pool,
                void (*rows)(const struct change *, size_t, size_t, float *))
{
    const uint32_t tasks = task_count(change);
    change->rows = rows;
    if (pool) {
        ld_pool_run(pool, tasks, run_task, change);
        return;
    }
    for (uint32_t task = 0; task < tasks; task++)
        run_task(change, task, 0);
}

/* ---- DoRA ------------------------------------------------------------------------------------ */

/* Leading dimension = outputs means per output, even for square weights; a bare vector is per
 * output only where its length leaves no choice. PEFT's vector is always per output. */
static enum dora_axis dora_axis(const struct ld_delta *delta, const struct ld_st_tensor **scale)
{
    const struct ld_adapter_module *module = delta->module;
    const size_t in = delta->columns / delta->kernel;
    *scale = module->slots[LD_SLOT_MAGNITUDE];
    if (*scale)
        return ld_st_elements(*scale) == delta->out ? DORA_PER_OUTPUT : DORA_OFF;
    *scale = module->slots[LD_SLOT_DORA];
    if (!*scale)
        return DORA_OFF;
    const uint64_t count = ld_st_elements(*scale);
    if ((*scale)->rank >= 2 && (*scale)->shape[0] == delta->out && count == delta->out)
        return DORA_PER_OUTPUT;
    if ((*scale)->rank >= 2 && (*scale)->shape[1] == in && count == in)
        return DORA_PER_INPUT;
    if ((*scale)->rank == 1 && count == delta->out && count != in)
        return DORA_PER_OUTPUT;
    if ((*scale)->rank == 1 && count == in)
        return DORA_PER_INPUT;
    return DORA_OFF;
}

bool ld_adapter_rows_contradict(const struct ld_delta *delta)
{
    const struct ld_st_tensor *scale;
    const bool wanted =
        delta->module->slots[LD_SLOT_DORA] || delta->module->slots[LD_SLOT_MAGNITUDE];
    return wanted && dora_axis(delta, &scale) == DORA_OFF;
}

/* Sums of the tasks in their order, whoever made them. */
static void join_squares(const struct change *change)
{
    const size_t inputs = change->delta->columns / change->delta->kernel;
    for (uint32_t task = 1; task < task_count(change); task++)
        for (size_t i = 0; i < inputs; i++)
            change->squares[i] += change->squares[task * inputs + i];
}

/* False without memory. */
static bool change_dora(struct change *change, struct ld_pool *pool, enum dora_axis axis,
                        const struct ld_st_tensor *scale)
{
    const size_t count = (size_t)ld_st_elements(scale);
    const size_t sums = axis == DORA_PER_INPUT ? task_count(change) * count : 1;
    change->magnitude = ld_heap_calloc(count, sizeof *change->magnitude);
    change->squares = ld_heap_calloc(sums, sizeof *change->squares);
    const bool ready = change->magnitude && change->squares;
    if (ready)
        ld_safetensors_decode(change->delta->adapter->file, scale, change->magnitude, count);
    if (ready && axis == DORA_PER_OUTPUT) {
        run(change, pool, dora_output_rows);
    } else if (ready) {
        run(change, pool, dora_square_rows);
        join_squares(change);
        change->from = NULL; /* decoded by the first pass */
        run(change, pool, dora_input_rows);
    }
    ld_heap_free(change->magnitude);
    ld_heap_free(change->squares);
    return ready;
}

/* ---- One weight ------------------------------------------------------------------------------ */

enum ld_code ld_adapter_rows_change(struct ld_delta *delta, const struct ld_rows_options *options,
                                    const struct ld_weight_view *from, float *values,
                                    struct ld_error *err)
{
    const uint32_t threads = options->pool ? ld_pool_threads(options->pool) : 1;
    struct change change = {.delta = delta,
                            .from = from,
                            .values = values,
                            .strength = options->strength,
                            .norm = options->dora_norm,
                            .stride = delta->in * delta->kernel};
    const size_t groups = TASK_VALUES / (LD_LOWRANK_ROWS * change.stride);
    change.task_rows = LD_LOWRANK_ROWS * (groups ? groups : 1);
    change.scratch =
        ld_heap_calloc(2 * LD_LOWRANK_ROWS * delta->columns, threads * sizeof *change.scratch);
    bool done = ld_delta_load(delta, NULL) == LD_OK && change.scratch;
    if (done) {
        const struct ld_st_tensor *scale;
        const enum dora_axis axis = dora_axis(delta, &scale);
        if (delta->kind == LD_DELTA_REPLACE)
            run(&change, options->pool, replace_rows);
        else if (axis == DORA_OFF)
            run(&change, options->pool, add_rows);
        else
            done = change_dora(&change, options->pool, axis, scale);
    }
    ld_delta_deinit(delta);
    ld_heap_free(change.scratch);
    return done ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
}
