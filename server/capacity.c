#include "server/capacity.h"

#include "api/json_scan.h"
#include "runtime/base/arena.h"
#include "runtime/base/json_find.h"
#include "runtime/base/log.h"
#include "server/supervisor.h"

#include <math.h>
#include <pthread.h>

enum {
    ARENA_BYTES = 16 << 20,
    VALUES_MAX = 1 << 18, /* 10,000 models at most, and a table for each of their kinds */
    POSITION_PIXELS = 64, /* of a latent position: 8 by 8 */
    LEAST_POSITIONS = 64  /* of the least picture, 64 by 64 pixels */
};

/* From so many latent positions on a picture takes at least so much. */
struct step {
    int64_t positions, bytes;
};

/* What some models take; steps rise. */
struct table {
    const char **models;
    struct step *steps;
    uint32_t model_count, step_count;
};

/* Of one worker. */
struct report {
    struct ld_arena arena;
    bool spoken;
    int64_t bytes; /* 0: no bound */
    const char *default_model;
    struct table *tables;
    uint32_t table_count;
};

struct ld_capacity {
    pthread_mutex_t lock; /* guards the reports */
    uint32_t count;
    struct report reports[LD_WORKERS_MAX];
};

/* ---- Life ------------------------------------------------------------------------------------ */

enum ld_code ld_capacity_create(struct ld_capacity **out, uint32_t workers, struct ld_error *err)
{
    LD_ASSERT(workers >= 1 && workers <= LD_WORKERS_MAX);
    struct ld_capacity *capacity = ld_heap_alloc(sizeof *capacity);
    *out = capacity;
    if (!capacity)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&capacity->lock, NULL);
    capacity->count = workers;
    for (uint32_t i = 0; i < workers; i++)
        ld_arena_init(&capacity->reports[i].arena, "capacity", ARENA_BYTES);
    return LD_OK;
}

void ld_capacity_destroy(struct ld_capacity *capacity)
{
    if (!capacity)
        return;
    for (uint32_t i = 0; i < capacity->count; i++)
        ld_arena_deinit(&capacity->reports[i].arena);
    (void)pthread_mutex_destroy(&capacity->lock);
    ld_heap_free(capacity);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static const char *text_of(const struct ld_json_node *node, struct ld_arena *arena)
{
    struct ld_span text;
    return node && node->kind == LD_JSON_STRING && ld_json_string_text(node, arena, &text)
               ? ld_arena_strndup(arena, (const char *)text.data, text.size)
               : NULL;
}

/* A list with at least one item. */
static const struct ld_json_node *list_at(const struct ld_json_tree *tree,
                                          const struct ld_json_node *object, const char *key)
{
    const struct ld_json_node *list =
        object->kind == LD_JSON_OBJECT_BEGIN ? ld_json_member(tree, object, key) : NULL;
    return list && list->kind == LD_JSON_ARRAY_BEGIN && list->child_count > 0 ? list : NULL;
}

static bool read_step(const struct ld_json_tree *tree, const struct ld_json_node *pair,
                      struct step *step)
{
    if (pair->kind != LD_JSON_ARRAY_BEGIN || pair->child_count != 2)
        return false;
    const struct ld_json_node *positions = ld_json_first(tree, pair);
    return ld_json_integer(positions, &step->positions) && step->positions > 0 &&
           ld_json_integer(ld_json_after(tree, positions), &step->bytes) && step->bytes > 0;
}

static bool read_table(const struct ld_json_tree *tree, const struct ld_json_node *object,
                       struct ld_arena *arena, struct table *table)
{
    const struct ld_json_node *models = list_at(tree, object, "models");
    const struct ld_json_node *steps = list_at(tree, object, "steps");
    if (!models || !steps)
        return false;
    table->models = ld_arena_calloc(arena, models->child_count, sizeof *table->models);
    table->steps = ld_arena_calloc(arena, steps->child_count, sizeof *table->steps);
    if (!table->models || !table->steps)
        return false;
    for (const struct ld_json_node *name = ld_json_first(tree, models); name;
         name = ld_json_after(tree, name))
        if (!(table->models[table->model_count++] = text_of(name, arena)))
            return false;
    for (const struct ld_json_node *pair = ld_json_first(tree, steps); pair;
         pair = ld_json_after(tree, pair)) {
        struct step *step = &table->steps[table->step_count++];
        if (!read_step(tree, pair, step) ||
            (table->step_count > 1 &&
             (step->positions <= step[-1].positions || step->bytes < step[-1].bytes)))
            return false;
    }
    return true;
}

static bool read_memory(struct ld_span memory, struct report *report)
{
    struct ld_json_tree tree;
    struct ld_error ignored = {0};
    if (ld_json_scan(&tree, memory, 8, VALUES_MAX, &report->arena, &ignored) != LD_OK)
        return false;
    const struct ld_json_node *root = ld_json_root(&tree);
    const struct ld_json_node *needs = list_at(&tree, root, "needs");
    if (!needs)
        return true; /* models whose widths nobody knows yet */
    const struct ld_json_node *bytes = ld_json_member(&tree, root, "bytes");
    report->default_model = text_of(ld_json_member(&tree, root, "default"), &report->arena);
    report->tables = ld_arena_calloc(&report->arena, needs->child_count, sizeof *report->tables);
    if (!bytes || !ld_json_integer(bytes, &report->bytes) || report->bytes < 0 ||
        !report->default_model || !report->tables)
        return false;
    for (const struct ld_json_node *table = ld_json_first(&tree, needs); table;
         table = ld_json_after(&tree, table))
        if (!read_table(&tree, table, &report->arena, &report->tables[report->table_count++]))
            return false;
    return true;
}

void ld_capacity_set(struct ld_capacity *capacity, uint32_t index, const char *inventory_json)
{
    struct ld_span memory;
    LD_ASSERT(index < capacity->count);
    struct report *report = &capacity->reports[index];
    pthread_mutex_lock(&capacity->lock);
    ld_arena_reset(&report->arena);
    const struct ld_arena arena = report->arena;
    *report = (struct report){.arena = arena, .spoken = true};
    if (ld_json_find_span(ld_span_text(inventory_json), "/memory", &memory) &&
        !read_memory(memory, report)) {
        report->bytes = 0;
        LD_LOG(LD_LOG_WARN, "capacity", "what a worker's device has cannot be read",
               ld_log_int("worker", index));
    }
    pthread_mutex_unlock(&capacity->lock);
}

/* ---- Judging --------------------------------------------------------------------------------- */

/* A pass of a request. */
struct pass {
    const char *model; /* "": the default */
    int64_t width, height;
    int64_t positions; /* that are sure to be painted at once */
    const char *pointer;
};

static const struct table *table_of(const struct report *report, const char *model)
{
    const char *name = model[0] ? model : report->default_model;
    for (uint32_t i = 0; i < report->table_count; i++)
        for (uint32_t m = 0; m < report->tables[i].model_count; m++)
            if (strcmp(report->tables[i].models[m], name) == 0)
                return &report->tables[i];
    return NULL;
}

/* The last step at or below a size; 0 below the first. */
static int64_t bytes_at(const struct table *table, int64_t positions)
{
    int64_t bytes = 0;
    for (uint32_t i = 0; i < table->step_count && table->steps[i].positions <= positions; i++)
        bytes = table->steps[i].bytes;
    return bytes;
}

/* The last step that takes no more than there is; 0: not even the first. */
static int64_t positions_within(const struct table *table, int64_t bytes)
{
    int64_t positions = 0;
    for (uint32_t i = 0; i < table->step_count && table->steps[i].bytes <= bytes; i++)
        positions = table->steps[i].positions;
    return positions;
}

static enum ld_code refuse(const struct pass *pass, const struct report *largest,
                           struct ld_error *err)
{
    enum { MIB_BITS = 20 };
    const struct table *table = table_of(largest, pass->model);
    const int64_t fit = positions_within(table, largest->bytes);
    const int64_t side = (int64_t)sqrt((double)(fit * POSITION_PIXELS));
    const long long taken = bytes_at(table, pass->positions);
    char rest[96] = "too little for any picture of this model";
    if (fit > 0)
        (void)ld_fmt(rest, sizeof rest, "enough for about %lldx%lld", (long long)side,
                     (long long)side);
    (void)LD_FAIL(
        err, LD_E_GPU_NOMEM,
        "a picture of %lldx%lld takes at least %lld MiB of GPU memory; the largest worker "
        "has %lld MiB, %s",
        (long long)pass->width, (long long)pass->height, (taken + (1 << MIB_BITS) - 1) >> MIB_BITS,
        (long long)(largest->bytes >> MIB_BITS), rest);
    return ld_error_at(err, "%s", pass->pointer);
}

/* With the lock. */
static enum ld_code check_pass(const struct ld_capacity *capacity, const struct pass *pass,
                               struct ld_error *err)
{
    const struct report *largest = NULL;
    for (uint32_t i = 0; i < capacity->count; i++) {
        const struct report *report = &capacity->reports[i];
        const struct table *table =
            report->spoken && report->bytes > 0 ? table_of(report, pass->model) : NULL;
        if (!table || bytes_at(table, pass->positions) <= report->bytes)
            return LD_OK;
        if (!largest || report->bytes > largest->bytes)
            largest = report;
    }
    LD_ASSERT(largest); /* there is a worker, and it got here */
    return refuse(pass, largest, err);
}

/* Whether a pass over a picture may come to no step at all: profiles round differently. */
static bool may_be_empty(double strength, int64_t steps)
{
    return strength * (double)steps < 2;
}

/* Latent positions that are sure to be evaluated at once. */
static int64_t sure_positions(const struct ld_request *request, int64_t width, int64_t height)
{
    return request->deep_shrink.present ? LEAST_POSITIONS : width * height / POSITION_PIXELS;
}

static struct pass first_pass(const struct ld_request *request)
{
    const int64_t steps =
        request->sigma_count > 0 ? (int64_t)request->sigma_count - 1 : request->steps;
    const bool empty = request->init.present && may_be_empty(request->init.strength, steps);
    return (struct pass){
        .model = request->model,
        .width = request->width,
        .height = request->height,
        .positions = empty ? 0 : sure_positions(request, request->width, request->height),
        .pointer = "/width",
    };
}

static struct pass second_pass(const struct ld_request *request)
{
    int64_t width;
    int64_t height;
    const struct ld_request_hires *hires = &request->hires;
    ld_request_final_size(request, &width, &height);
    const bool empty =
        may_be_empty(hires->strength, hires->steps > 0 ? hires->steps : request->steps);
    return (struct pass){
        .model = hires->model[0] ? hires->model : request->model,
        .width = width,
        .height = height,
        .positions = empty ? 0 : sure_positions(request, width, height),
        .pointer = "/hires",
    };
}

enum ld_code ld_capacity_check(struct ld_capacity *capacity, const struct ld_request *request,
                               struct ld_error *err)
{
    if (request->upscale.present)
        return LD_OK;
    const struct pass first = first_pass(request);
    pthread_mutex_lock(&capacity->lock);
    enum ld_code code = check_pass(capacity, &first, err);
    if (code == LD_OK && request->hires.present) {
        const struct pass second = second_pass(request);
        code = check_pass(capacity, &second, err);
    }
    pthread_mutex_unlock(&capacity->lock);
    return code;
}
