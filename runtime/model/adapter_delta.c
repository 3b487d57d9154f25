#include "runtime/model/adapter_delta.h"

#include "runtime/model/lowrank.h"

#include <string.h>

enum { FACTORS_MAX = 1 << 30 }; /* bytes; rank 1,024 on the largest layer needs 100 MB */

/* ---- Shapes ---------------------------------------------------------------------------------- */

static size_t elements(const struct ld_st_tensor *tensor)
{
    return tensor ? (size_t)ld_st_elements(tensor) : 0;
}

/* First dimension and the product of the rest. */
static bool is_matrix(const struct ld_st_tensor *tensor, size_t rows, size_t columns)
{
    return tensor && tensor->rank >= 2 && tensor->shape[0] == rows &&
           ld_st_elements(tensor) == (uint64_t)rows * columns;
}

static size_t rows_of(const struct ld_st_tensor *tensor)
{
    return tensor && tensor->rank >= 2 ? (size_t)tensor->shape[0] : 0;
}

/* A rank beyond the bound counts as none, so that products with it cannot overflow. */
static size_t rank_of(const struct ld_st_tensor *tensor)
{
    const size_t rank = rows_of(tensor);
    return rank <= LD_ADAPTER_RANK_MAX ? rank : 0;
}

static void set_target(struct ld_delta *delta, const struct ld_key *key)
{
    delta->out = (size_t)key->shape[0];
    delta->in = key->rank >= 2 ? (size_t)key->shape[1] : 1;
    delta->kernel = key->rank == 4 ? (size_t)(key->shape[2] * key->shape[3]) : 1;
    delta->columns = delta->in * delta->kernel;
}

/* The first convolution of an inpainting model has more input channels than the 4 that adapters
 * know; the rest is left alone. */
static bool try_narrow(struct ld_delta *delta)
{
    if (delta->in != 9 && delta->in != 8)
        return false;
    if (delta->columns != delta->in * delta->kernel)
        return false;
    delta->columns = 4 * delta->kernel;
    return true;
}

static bool fits_lora(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    const struct ld_st_tensor *mid = slots[LD_SLOT_MID];
    const size_t rank = rank_of(slots[LD_SLOT_DOWN]);
    delta->rank[0] = rank;
    delta->kind = LD_DELTA_LOWRANK;
    if (rank == 0 || !is_matrix(slots[LD_SLOT_UP], delta->out, rank))
        return false;
    if (mid)
        return is_matrix(mid, rank, rank * delta->kernel) &&
               is_matrix(slots[LD_SLOT_DOWN], rank, delta->columns / delta->kernel);
    return is_matrix(slots[LD_SLOT_DOWN], rank, delta->columns);
}

/* One of the two low-rank factors of a Hadamard product. */
static bool fits_hadamard_factor(struct ld_delta *delta, size_t index, const struct ld_st_tensor *a,
                                 const struct ld_st_tensor *b, const struct ld_st_tensor *core)
{
    const size_t rank = rank_of(b);
    delta->rank[index] = rank;
    if (rank == 0)
        return false;
    if (core)
        return is_matrix(core, rank, rank * delta->kernel) && is_matrix(a, rank, delta->out) &&
               is_matrix(b, rank, delta->columns / delta->kernel);
    return is_matrix(a, delta->out, rank) && is_matrix(b, rank, delta->columns);
}

static bool fits_loha(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    delta->kind = LD_DELTA_HADAMARD;
    return fits_hadamard_factor(delta, 0, slots[LD_SLOT_HADA_W1A], slots[LD_SLOT_HADA_W1B],
                                slots[LD_SLOT_HADA_T1]) &&
           fits_hadamard_factor(delta, 1, slots[LD_SLOT_HADA_W2A], slots[LD_SLOT_HADA_W2B],
                                slots[LD_SLOT_HADA_T2]);
}

/* Shape of w1, whole or as a product. */
static bool kron_first(struct ld_delta *delta)
{
    const struct ld_st_tensor *whole = delta->module->slots[LD_SLOT_LOKR_W1];
    const struct ld_st_tensor *a = delta->module->slots[LD_SLOT_LOKR_W1A];
    const struct ld_st_tensor *b = delta->module->slots[LD_SLOT_LOKR_W1B];
    delta->rank[0] = whole ? 0 : rank_of(b);
    if (whole) {
        delta->kron_out = rows_of(whole);
        delta->kron_in = delta->kron_out ? elements(whole) / delta->kron_out : 0;
    } else {
        delta->kron_out = rows_of(a);
        delta->kron_in = delta->rank[0] ? elements(b) / delta->rank[0] : 0;
        if (!is_matrix(a, delta->kron_out, delta->rank[0]))
            return false;
    }
    return delta->kron_out > 0 && delta->kron_in > 0 && delta->out % delta->kron_out == 0 &&
           (delta->columns / delta->kernel) % delta->kron_in == 0;
}

static bool fits_lokr(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    delta->kind = LD_DELTA_KRONECKER;
    if (!kron_first(delta))
        return false;
    const size_t out = delta->out / delta->kron_out;
    const size_t in = delta->columns / delta->kernel / delta->kron_in;
    const struct ld_st_tensor *a = slots[LD_SLOT_LOKR_W2A];
    const struct ld_st_tensor *b = slots[LD_SLOT_LOKR_W2B];
    const struct ld_st_tensor *core = slots[LD_SLOT_LOKR_T2];
    if (slots[LD_SLOT_LOKR_W2]) {
        delta->rank[1] = 0;
        return is_matrix(slots[LD_SLOT_LOKR_W2], out, in * delta->kernel);
    }
    const size_t rank = rank_of(b);
    delta->rank[1] = rank;
    if (rank == 0)
        return false;
    if (core)
        return is_matrix(core, rank, rank * delta->kernel) && is_matrix(a, rank, out) &&
               is_matrix(b, rank, in);
    return is_matrix(a, out, rank) && is_matrix(b, rank, in * delta->kernel);
}

/* D = b1 b2 + (W a1) a2 as stored now; the old form has the roles of the indices exchanged. */
static bool fits_glora(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    const struct ld_st_tensor *a1 = slots[LD_SLOT_GLORA_A1];
    const struct ld_st_tensor *b1 = slots[LD_SLOT_GLORA_B1];
    const size_t n = delta->columns;
    delta->kind = LD_DELTA_GLORA;
    if (n != delta->in * delta->kernel)
        return false;
    const size_t rank = a1 && rows_of(a1) ? elements(a1) / rows_of(a1) : 0;
    if (rank > 0 && rank <= LD_ADAPTER_RANK_MAX && is_matrix(a1, n, rank) &&
        is_matrix(slots[LD_SLOT_GLORA_A2], rank, n) && is_matrix(b1, delta->out, rank) &&
        is_matrix(slots[LD_SLOT_GLORA_B2], rank, n)) {
        delta->rank[0] = delta->rank[1] = rank;
        delta->on_input = false;
        return true;
    }
    const size_t old = rank_of(a1);
    delta->rank[0] = delta->rank[1] = old;
    delta->on_input = true; /* here: the old form */
    return old > 0 && is_matrix(a1, old, n) && is_matrix(slots[LD_SLOT_GLORA_A2], n, old) &&
           is_matrix(b1, old, n) && is_matrix(slots[LD_SLOT_GLORA_B2], delta->out, old);
}

static bool fits_whole(struct ld_delta *delta)
{
    return delta->whole->rank >= 1 && delta->whole->shape[0] == delta->out &&
           elements(delta->whole) == delta->out * delta->columns;
}

static bool fits_ia3(struct ld_delta *delta)
{
    const struct ld_st_tensor *flag = delta->module->slots[LD_SLOT_ON_INPUT];
    float value = 0;
    delta->kind = LD_DELTA_IA3;
    if (elements(flag) != 1)
        return false;
    ld_safetensors_decode(delta->adapter->file, flag, &value, 1);
    delta->on_input = value != 0;
    return elements(delta->whole) ==
           (delta->on_input ? delta->columns / delta->kernel : delta->out);
}

/* With the columns as they are set now. */
static bool fits(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    const uint32_t families = delta->module->families;
    if (slots[LD_SLOT_SET_WEIGHT]) {
        delta->kind = LD_DELTA_REPLACE;
        delta->whole = slots[LD_SLOT_SET_WEIGHT];
        return fits_whole(delta);
    }
    if (families & LD_ADAPTER_LORA)
        return fits_lora(delta);
    if (families & LD_ADAPTER_LOHA)
        return fits_loha(delta);
    if (families & LD_ADAPTER_LOKR)
        return fits_lokr(delta);
    if (families & LD_ADAPTER_GLORA)
        return fits_glora(delta);
    if (slots[LD_SLOT_DIFF] || slots[LD_SLOT_NORM]) {
        delta->kind = LD_DELTA_DIFFERENCE;
        delta->whole = slots[LD_SLOT_DIFF] ? slots[LD_SLOT_DIFF] : slots[LD_SLOT_NORM];
        return fits_whole(delta);
    }
    if (families & LD_ADAPTER_IA3) {
        delta->whole = slots[LD_SLOT_IA3];
        return fits_ia3(delta);
    }
    delta->kind = LD_DELTA_NONE;
    return slots[LD_SLOT_DIFF_BIAS] || slots[LD_SLOT_NORM_BIAS];
}

bool ld_delta_plan(struct ld_delta *out, const struct ld_adapter *adapter,
                   const struct ld_adapter_module *module, const struct ld_key *key)
{
    memset(out, 0, sizeof *out);
    out->adapter = adapter;
    out->module = module;
    out->scale = ld_adapter_module_scale(adapter, module);
    set_target(out, key);
    return fits(out) || (try_narrow(out) && fits(out));
}

/* ---- Factors --------------------------------------------------------------------------------- */

static float *decode(struct ld_delta *delta, const struct ld_st_tensor *tensor)
{
    const size_t count = elements(tensor);
    float *values = ld_arena_calloc(&delta->arena, count, sizeof *values);
    if (values)
        ld_safetensors_decode(delta->adapter->file, tensor, values, count);
    return values;
}

/* dst[c, r] = src[r, c] */
static float *transposed(struct ld_delta *delta, const float *src, size_t rows, size_t columns)
{
    float *dst = ld_arena_calloc(&delta->arena, rows * columns, sizeof *dst);
    for (size_t r = 0; dst && src && r < rows; r++) {
        for (size_t c = 0; c < columns; c++)
            dst[c * rows + r] = src[r * columns + c];
    }
    return src ? dst : NULL;
}

/* The core tensor folded into the second factor: [a, i, k] = sum_b core[a, b, k] b[b, i]. */
static float *fold_core(struct ld_delta *delta, const struct ld_st_tensor *core_tensor,
                        const float *b, size_t rank, size_t in)
{
    const size_t kernel = delta->kernel;
    const float *core = decode(delta, core_tensor);
    float *folded = ld_arena_calloc(&delta->arena, rank * in, kernel * sizeof *folded);
    if (!core || !b || !folded)
        return NULL;
    for (size_t a = 0; a < rank; a++) {
        for (size_t second = 0; second < rank; second++) {
            const float *taps = core + (a * rank + second) * kernel;
            for (size_t i = 0; i < in; i++) {
                for (size_t k = 0; k < kernel; k++)
                    folded[(a * in + i) * kernel + k] += taps[k] * b[second * in + i];
            }
        }
    }
    return folded;
}

static bool load_hadamard_factor(struct ld_delta *delta, size_t index, const struct ld_st_tensor *a,
                                 const struct ld_st_tensor *b, const struct ld_st_tensor *core)
{
    delta->up[index] = decode(delta, a);
    delta->down[index] = decode(delta, b);
    if (core) {
        delta->up[index] = transposed(delta, delta->up[index], delta->rank[index], delta->out);
        delta->down[index] = fold_core(delta, core, delta->down[index], delta->rank[index],
                                       delta->columns / delta->kernel);
    }
    return delta->up[index] && delta->down[index];
}

/* The whole product of two factors [rows, rank] and [rank, columns]. */
static float *multiply(struct ld_delta *delta, const float *a, const float *b, size_t rows,
                       size_t rank, size_t columns)
{
    float *product = ld_arena_calloc(&delta->arena, rows * columns, sizeof *product);
    if (!a || !b || !product)
        return NULL;
    for (size_t row = 0; row < rows; row += LD_LOWRANK_ROWS) {
        const size_t count = rows - row < LD_LOWRANK_ROWS ? rows - row : LD_LOWRANK_ROWS;
        ld_lowrank_rows(product + row * columns, a + row * rank, b, count, rank, columns);
    }
    return product;
}

static bool load_lokr(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    const size_t out = delta->out / delta->kron_out;
    const size_t in = delta->columns / delta->kernel / delta->kron_in;
    if (delta->rank[0] == 0)
        delta->up[0] = decode(delta, slots[LD_SLOT_LOKR_W1]);
    else
        delta->up[0] = multiply(delta, decode(delta, slots[LD_SLOT_LOKR_W1A]),
                                decode(delta, slots[LD_SLOT_LOKR_W1B]), delta->kron_out,
                                delta->rank[0], delta->kron_in);
    if (delta->rank[1] == 0) {
        delta->up[1] = decode(delta, slots[LD_SLOT_LOKR_W2]);
        return delta->up[0] && delta->up[1];
    }
    const float *a = decode(delta, slots[LD_SLOT_LOKR_W2A]);
    const float *b = decode(delta, slots[LD_SLOT_LOKR_W2B]);
    if (slots[LD_SLOT_LOKR_T2]) {
        a = transposed(delta, a, delta->rank[1], out);
        b = fold_core(delta, slots[LD_SLOT_LOKR_T2], b, delta->rank[1], in);
    }
    delta->up[1] = multiply(delta, a, b, out, delta->rank[1], in * delta->kernel);
    return delta->up[0] && delta->up[1];
}

/* up and down of both terms: b b and a a. */
static bool load_glora(struct ld_delta *delta)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    const bool old = delta->on_input;
    delta->up[0] = decode(delta, slots[old ? LD_SLOT_GLORA_B2 : LD_SLOT_GLORA_B1]);
    delta->down[0] = decode(delta, slots[old ? LD_SLOT_GLORA_B1 : LD_SLOT_GLORA_B2]);
    delta->up[1] = decode(delta, slots[old ? LD_SLOT_GLORA_A2 : LD_SLOT_GLORA_A1]);
    delta->down[1] = decode(delta, slots[old ? LD_SLOT_GLORA_A1 : LD_SLOT_GLORA_A2]);
    return delta->up[0] && delta->down[0] && delta->up[1] && delta->down[1];
}

enum ld_code ld_delta_load(struct ld_delta *delta, struct ld_error *err)
{
    const struct ld_st_tensor *const *slots = delta->module->slots;
    bool done = true;
    ld_arena_init(&delta->arena, "adapter factors", FACTORS_MAX);
    switch (delta->kind) {
    case LD_DELTA_NONE:
    case LD_DELTA_DIFFERENCE:
    case LD_DELTA_REPLACE:
        break;
    case LD_DELTA_LOWRANK:
        delta->up[0] = decode(delta, slots[LD_SLOT_UP]);
        delta->down[0] = decode(delta, slots[LD_SLOT_DOWN]);
        if (slots[LD_SLOT_MID])
            delta->down[0] = fold_core(delta, slots[LD_SLOT_MID], delta->down[0], delta->rank[0],
                                       delta->columns / delta->kernel);
        done = delta->up[0] && delta->down[0];
        break;
    case LD_DELTA_HADAMARD:
        done = load_hadamard_factor(delta, 0, slots[LD_SLOT_HADA_W1A], slots[LD_SLOT_HADA_W1B],
                                    slots[LD_SLOT_HADA_T1]) &&
               load_hadamard_factor(delta, 1, slots[LD_SLOT_HADA_W2A], slots[LD_SLOT_HADA_W2B],
                                    slots[LD_SLOT_HADA_T2]);
        break;
    case LD_DELTA_KRONECKER:
        done = load_lokr(delta);
        break;
    case LD_DELTA_GLORA:
        done = load_glora(delta);
        break;
    case LD_DELTA_IA3:
        delta->up[0] = decode(delta, delta->whole);
        done = delta->up[0] != NULL;
        break;
    }
    return done ? LD_OK : LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
}

void ld_delta_deinit(struct ld_delta *delta)
{
    ld_arena_deinit(&delta->arena);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static void rows_kronecker(const struct ld_delta *delta, size_t first, size_t rows, float *dst)
{
    const size_t inner_out = delta->out / delta->kron_out;
    const size_t inner = delta->columns / delta->kron_in; /* kernel included */
    for (size_t row = 0; row < rows; row++) {
        const float *w1 = delta->up[0] + (first + row) / inner_out * delta->kron_in;
        const float *w2 = delta->up[1] + (first + row) % inner_out * inner;
        for (size_t i = 0; i < delta->kron_in; i++) {
            for (size_t j = 0; j < inner; j++)
                dst[row * delta->columns + i * inner + j] = w1[i] * w2[j];
        }
    }
}

static void rows_glora(const struct ld_delta *delta, size_t first, size_t rows, const float *w,
                       float *dst, float *scratch)
{
    const size_t rank = delta->rank[0];
    const size_t columns = delta->columns;
    float projected[LD_LOWRANK_ROWS * LD_ADAPTER_RANK_MAX];
    LD_ASSERT(rank <= LD_ADAPTER_RANK_MAX);
    ld_lowrank_rows(dst, delta->up[0] + first * rank, delta->down[0], rows, rank, columns);
    ld_lowrank_rows(projected, w, delta->up[1], rows, columns, rank);
    ld_lowrank_rows(scratch, projected, delta->down[1], rows, rank, columns);
    for (size_t i = 0; i < rows * columns; i++)
        dst[i] += scratch[i];
}

static void rows_ia3(const struct ld_delta *delta, size_t first, size_t rows, const float *w,
                     float *dst)
{
    const size_t stride = delta->in * delta->kernel;
    for (size_t row = 0; row < rows; row++) {
        for (size_t j = 0; j < delta->columns; j++) {
            const float factor =
                delta->on_input ? delta->up[0][j / delta->kernel] : delta->up[0][first + row];
            dst[row * delta->columns + j] = w[row * stride + j] * factor;
        }
    }
}

void ld_delta_rows(const struct ld_delta *delta, size_t first, size_t rows, const float *w,
                   float *dst, float *scratch)
{
    const size_t columns = delta->columns;
    switch (delta->kind) {
    case LD_DELTA_NONE:
        memset(dst, 0, rows * columns * sizeof *dst);
        break;
    case LD_DELTA_LOWRANK:
        ld_lowrank_rows(dst, delta->up[0] + first * delta->rank[0], delta->down[0], rows,
                        delta->rank[0], columns);
        break;
    case LD_DELTA_HADAMARD:
        ld_lowrank_rows(dst, delta->up[0] + first * delta->rank[0], delta->down[0], rows,
                        delta->rank[0], columns);
        ld_lowrank_rows(scratch, delta->up[1] + first * delta->rank[1], delta->down[1], rows,
                        delta->rank[1], columns);
        for (size_t i = 0; i < rows * columns; i++)
            dst[i] *= scratch[i];
        break;
    case LD_DELTA_KRONECKER:
        rows_kronecker(delta, first, rows, dst);
        break;
    case LD_DELTA_GLORA:
        rows_glora(delta, first, rows, w, dst, scratch);
        break;
    case LD_DELTA_DIFFERENCE:
    case LD_DELTA_REPLACE: {
        const uint8_t *data = ld_safetensors_data(delta->adapter->file, delta->whole);
        const size_t size = ld_dtype_size(delta->whole->dtype);
        ld_dtype_to_f32(dst, data + first * columns * size, delta->whole->dtype, rows * columns);
        break;
    }
    case LD_DELTA_IA3:
        rows_ia3(delta, first, rows, w, dst);
        break;
    }
}
