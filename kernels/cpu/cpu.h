/*
 * What the files of the CPU backend share: the backend object, the packed weight, and the functions
 * that each level (plain C, AVX2, AVX-512, AMX, NEON) supplies. Private to kernels/cpu.
 */
#ifndef LD_KERNELS_CPU_CPU_H
#define LD_KERNELS_CPU_CPU_H

#include "kernels/check.h"
#include "kernels/idx.h"
#include "kernels/rows.h"
#include "runtime/base/thread.h"

struct ld_cpu_backend;

/* ---- Packed weights -------------------------------------------------------------------------- */

struct ld_weight {
    struct ld_weight_facts facts;
    enum ld_dtype dtype; /* of `data` */
    void *data;
    size_t data_bytes;
    float *bias;         /* [rows], zeros where a part has none; NULL: none at all */
    float *row_scale;    /* [rows] multiplies the sum before the bias; NULL: 1 */
    size_t vector_bytes; /* the block that holds bias and row_scale */
};

/* ---- One level ------------------------------------------------------------------------------- */

/*
 * The operators whose code depends on the level. Shapes are checked before the call. `weight_pack`
 * fills `data`, `data_bytes` and `dtype` for LINEAR, GEGLU and CONV kinds.
 */
struct ld_cpu_level_ops {
    const char *name;
    enum ld_code (*weight_pack)(struct ld_cpu_backend *cpu, const struct ld_weight_desc *desc,
                                struct ld_weight *weight, struct ld_error *err);
    void (*conv2d)(struct ld_cpu_backend *cpu, const struct ld_conv2d *op);
    void (*linear)(struct ld_cpu_backend *cpu, const struct ld_linear *op);
    void (*group_norm)(struct ld_cpu_backend *cpu, const struct ld_group_norm *op);
    void (*layer_norm)(struct ld_cpu_backend *cpu, const struct ld_layer_norm *op);
    void (*attention)(struct ld_cpu_backend *cpu, const struct ld_attention *op);
    void (*map)(struct ld_cpu_backend *cpu, const struct ld_map *op);
    const struct ld_row_kernels *rows;
};

struct ld_cpu_backend {
    struct ld_backend base; /* first: the public handle points here */
    struct ld_pool *pool;
    uint32_t threads;
    enum ld_cpu_level level;
    const struct ld_cpu_level_ops *ops;
    /* Scratch, reserved at creation and backed by pages only where an operator writes. */
    unsigned char *shared; /* written by one phase of an operator, read by the next */
    size_t shared_bytes;
    unsigned char *private; /* one slice of `private_bytes` for each worker */
    size_t private_bytes;
};

extern const struct ld_cpu_level_ops ld_cpu_plain_ops;
extern const struct ld_row_kernels ld_plain_rows;

static inline struct ld_cpu_backend *ld_cpu_of(struct ld_backend *backend)
{
    return (struct ld_cpu_backend *)backend;
}

/* ---- Checks: kernels/check.h, and what the scratch memory adds ---------------------------------- */

enum ld_code ld_cpu_check_conv2d(const struct ld_conv2d *op, struct ld_error *err);
enum ld_code ld_cpu_check_group_norm(const struct ld_group_norm *op, struct ld_error *err);
enum ld_code ld_cpu_check_attention(const struct ld_attention *op, struct ld_error *err);

/* ---- Weights (weight.c) ---------------------------------------------------------------------- */

enum ld_code ld_cpu_weight_create(struct ld_backend *backend, const struct ld_weight_desc *desc,
                                  struct ld_weight **out, struct ld_error *err);
void ld_cpu_weight_destroy(struct ld_backend *backend, struct ld_weight *weight);
size_t ld_cpu_weight_bytes(const struct ld_weight *weight);

/* ---- Operators that are plain C at every level ----------------------------------------------- */

enum ld_code ld_cpu_resize(struct ld_backend *backend, const struct ld_resize *op,
                           struct ld_error *err);
enum ld_code ld_cpu_timestep(struct ld_backend *backend, const struct ld_timestep *op,
                             struct ld_error *err);
enum ld_code ld_cpu_embed(struct ld_backend *backend, const struct ld_embed *op,
                          struct ld_error *err);
enum ld_code ld_cpu_add_scaled(struct ld_backend *backend, const struct ld_add_scaled *op,
                               struct ld_error *err);
enum ld_code ld_cpu_planes_in(struct ld_backend *backend, const struct ld_planes_in *op,
                              struct ld_error *err);
enum ld_code ld_cpu_planes_out(struct ld_backend *backend, const struct ld_planes_out *op,
                               struct ld_error *err);

/* ---- The oracle's families ------------------------------------------------------------------- */

enum ld_code ld_plain_weight_pack(struct ld_cpu_backend *cpu, const struct ld_weight_desc *desc,
                                  struct ld_weight *weight, struct ld_error *err);
void ld_plain_conv2d(struct ld_cpu_backend *cpu, const struct ld_conv2d *op);
void ld_plain_linear(struct ld_cpu_backend *cpu, const struct ld_linear *op);
void ld_plain_group_norm(struct ld_cpu_backend *cpu, const struct ld_group_norm *op);
void ld_plain_layer_norm(struct ld_cpu_backend *cpu, const struct ld_layer_norm *op);
void ld_plain_attention(struct ld_cpu_backend *cpu, const struct ld_attention *op);
void ld_plain_map(struct ld_cpu_backend *cpu, const struct ld_map *op);

#endif
