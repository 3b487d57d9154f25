/*
 * The CPU backend: picks a level, owns the thread pool and the scratch memory, checks every
 * operator and hands it to the level.
 */
#include "kernels/cpu/cpu.h"

#include "kernels/cpu/cpuid.h"
#include "runtime/base/arena.h"

#include <stdio.h>

enum { PRIVATE_BYTES = 16 << 20, SHARED_BYTES = 64 << 20 };

/* ---- Operators: check, then the level -------------------------------------------------------- */

static enum ld_code conv2d(struct ld_backend *backend, const struct ld_conv2d *op,
                           struct ld_error *err)
{
    enum ld_code code = ld_cpu_check_conv2d(op, err);
    if (code == LD_OK)
        ld_cpu_of(backend)->ops->conv2d(ld_cpu_of(backend), op);
    return code;
}

static enum ld_code linear(struct ld_backend *backend, const struct ld_linear *op,
                           struct ld_error *err)
{
    enum ld_code code = ld_check_linear(op, err);
    if (code == LD_OK)
        ld_cpu_of(backend)->ops->linear(ld_cpu_of(backend), op);
    return code;
}

static enum ld_code group_norm(struct ld_backend *backend, const struct ld_group_norm *op,
                               struct ld_error *err)
{
    enum ld_code code = ld_cpu_check_group_norm(op, err);
    if (code == LD_OK)
        ld_cpu_of(backend)->ops->group_norm(ld_cpu_of(backend), op);
    return code;
}

static enum ld_code layer_norm(struct ld_backend *backend, const struct ld_layer_norm *op,
                               struct ld_error *err)
{
    enum ld_code code = ld_check_layer_norm(op, err);
    if (code == LD_OK)
        ld_cpu_of(backend)->ops->layer_norm(ld_cpu_of(backend), op);
    return code;
}

static enum ld_code attention(struct ld_backend *backend, const struct ld_attention *op,
                              struct ld_error *err)
{
    enum ld_code code = ld_cpu_check_attention(op, err);
    if (code == LD_OK)
        ld_cpu_of(backend)->ops->attention(ld_cpu_of(backend), op);
    return code;
}

static enum ld_code map(struct ld_backend *backend, const struct ld_map *op, struct ld_error *err)
{
    if (op->x == NULL || op->y == NULL || op->count < 1 || op->count > (INT64_C(1) << 38) ||
        op->activation == LD_ACT_GEGLU)
        return LD_FAIL(err, LD_E_SHAPE,
                       "map needs an input, an output and an elementwise function");
    ld_cpu_of(backend)->ops->map(ld_cpu_of(backend), op);
    return LD_OK;
}

static enum ld_code memory_alloc(struct ld_backend *backend, size_t bytes, void **out,
                                 struct ld_error *err)
{
    *out = ld_block_alloc(bytes);
    if (*out == NULL && backend->relieve != NULL && backend->relieve(backend->relieve_ctx))
        *out = ld_block_alloc(bytes);
    return *out != NULL ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "out of memory for activations");
}

static void memory_free(struct ld_backend *backend, void *memory, size_t bytes)
{
    (void)backend;
    if (memory != NULL)
        ld_block_free(memory, bytes);
}

static enum ld_code synchronize(struct ld_backend *backend, struct ld_error *err)
{
    (void)backend;
    (void)err;
    return LD_OK;
}

static void destroy(struct ld_backend *backend)
{
    if (backend == NULL)
        return;
    struct ld_cpu_backend *cpu = ld_cpu_of(backend);
    ld_pool_destroy(cpu->pool);
    if (cpu->shared != NULL)
        ld_block_free(cpu->shared, cpu->shared_bytes);
    if (cpu->private != NULL)
        ld_block_free(cpu->private, cpu->private_bytes * cpu->threads);
    ld_heap_free(cpu);
}

static const struct ld_ops operator_table = {
    .weight_create = ld_cpu_weight_create,
    .weight_destroy = ld_cpu_weight_destroy,
    .weight_bytes = ld_cpu_weight_bytes,
    .memory_alloc = memory_alloc,
    .memory_free = memory_free,
    .conv2d = conv2d,
    .linear = linear,
    .group_norm = group_norm,
    .layer_norm = layer_norm,
    .attention = attention,
    .timestep = ld_cpu_timestep,
    .embed = ld_cpu_embed,
    .map = map,
    .resize = ld_cpu_resize,
    .add_scaled = ld_cpu_add_scaled,
    .planes_in = ld_cpu_planes_in,
    .planes_out = ld_cpu_planes_out,
    .synchronize = synchronize,
    .destroy = destroy,
};

/* ---- Creation -------------------------------------------------------------------------------- */

enum ld_code ld_cpu_backend_create(struct ld_backend **out, uint32_t threads,
                                   enum ld_cpu_level level, struct ld_error *err)
{
    LD_ASSERT(out != NULL);
    *out = NULL;
    struct ld_cpu_backend *cpu = ld_heap_alloc(sizeof *cpu);
    if (cpu == NULL)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory for the CPU backend");
    cpu->base.ops = &operator_table;
    cpu->base.name = "cpu";
    cpu->base.act_dtype = LD_DTYPE_F32;
    cpu->level = level;
    enum ld_code code = ld_cpu_level_choose(&cpu->level, &cpu->ops, err);
    if (code == LD_OK)
        code = ld_pool_create(&cpu->pool, threads, err);
    if (code != LD_OK)
        goto failed;
    cpu->threads = ld_pool_threads(cpu->pool);
    cpu->private_bytes = PRIVATE_BYTES;
    cpu->private = ld_block_alloc(cpu->private_bytes * cpu->threads);
    cpu->shared_bytes = SHARED_BYTES;
    cpu->shared = ld_block_alloc(cpu->shared_bytes);
    if (cpu->private == NULL || cpu->shared == NULL) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory for scratch");
        goto failed;
    }
    snprintf(cpu->base.description, sizeof cpu->base.description, "%s, %u thread%s", cpu->ops->name,
             cpu->threads, cpu->threads == 1 ? "" : "s");
    *out = &cpu->base;
    return LD_OK;
failed:
    destroy(&cpu->base);
    return code;
}
