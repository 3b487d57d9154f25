/*
 * Attention as two matrix products around a softmax, one block of keys after another.
 *
 * k and v of some heads are packed once for all queries (shared scratch); a task takes one head and
 * one block of queries. Per key block and pair of tiles: scores, softmax (weights come out as the
 * left operand of the next product), values. Blocks of keys and queries are cut from the shape
 * alone. Where one head's keys outgrow the scratch, they are taken in chunks: the unnormalised
 * output and each row's maximum and sum wait in `o` and the scratch, in float32, so that the bits
 * are those of a single chunk.
 */
#include "kernels/cpu/attention.h"

enum {
    KEY_BLOCK = 256,     /* keys between two looks at the running maximum */
    KEY_BLOCK_WIDE = 64, /* for wide heads: a block of k and v must stay in the near cache */
    WIDE_HEAD = 256,
    QUERY_ROWS = 256, /* rows of one task */
    QUERY_ROWS_WIDE = 128,
    STATE_BYTES = 8 << 20 /* of the shared scratch: maximum and sum of rows between chunks */
};

static const double LOG2_E = 1.44269504088896340736;

struct attention {
    struct ld_cpu_backend *cpu;
    const struct ld_micro *micro;
    const struct ld_attention *op;
    struct ld_micro_qk qk;
    int32_t v_terms;
    int32_t key_block, key_steps; /* keys and steps of one block */
    int32_t d_panels;
    int32_t query_tiles; /* of one task */
    size_t k_panel_bytes, v_panel_bytes;
    size_t k_block_bytes, block_bytes; /* packed k, and k with v, of one key block */

    /* In work: pairs of image and head, a range of queries, a range of key blocks. */
    int32_t first_pair, pairs;
    int32_t query_first, query_end;
    int32_t first_block, blocks;
    bool first_chunk, last_chunk;
    float *state;          /* [queries in range][2], only between chunks */
    unsigned char *packed; /* [pair][block] */
};

static int32_t keys_of(const struct ld_attention *op, int32_t pair)
{
    return op->kv_len != NULL ? op->kv_len[pair / op->heads] : op->kv_rows;
}

/* Row `row` of the pair's head in q, k, v or o. */
static size_t head_at(const struct ld_attention *op, int32_t pair, int32_t rows, int32_t row,
                      int32_t stride)
{
    size_t image = (size_t)(pair / op->heads);
    size_t head = (size_t)(pair % op->heads) * (size_t)op->head_dim;
    return (image * (size_t)rows + (size_t)row) * (size_t)stride + head;
}

/* ---- Packing k and v ------------------------------------------------------------------------- */

static void pack_keys_task(void *pointer, uint32_t task, uint32_t worker)
{
    (void)worker;
    const struct attention *a = pointer;
    const struct ld_attention *op = a->op;
    const struct ld_micro *micro = a->micro;
    int32_t pair = a->first_pair + (int32_t)task / a->blocks;
    int32_t first = (a->first_block + (int32_t)task % a->blocks) * a->key_block;
    int32_t keys = ld_idx_min(keys_of(op, pair) - first, a->key_block);
    if (keys <= 0)
        return;
    unsigned char *dst = a->packed + (size_t)task * a->block_bytes;
    const float *k = (const float *)op->k + head_at(op, pair, op->kv_rows, first, op->k_stride);
    for (int32_t j = 0; j < keys; j += micro->nr, dst += a->k_panel_bytes)
        micro->pack_k(dst, k + (size_t)j * (size_t)op->k_stride, (size_t)op->k_stride,
                      ld_idx_min(keys - j, micro->nr), op->head_dim);
    const float *v = (const float *)op->v + head_at(op, pair, op->kv_rows, first, op->v_stride);
    for (int32_t panel = 0; panel < a->d_panels; panel++) {
        dst = a->packed + (size_t)task * a->block_bytes + a->k_block_bytes +
              (size_t)panel * a->v_panel_bytes;
        int32_t column = panel * micro->nr;
        int32_t columns = ld_idx_min(op->head_dim - column, micro->nr);
        for (int32_t j = 0; j < keys; j += LD_STEP_K) {
            micro->pack_v(dst, v + (size_t)j * (size_t)op->v_stride + column, (size_t)op->v_stride,
                          ld_idx_min(keys - j, LD_STEP_K), columns);
            dst += (size_t)a->v_terms * micro->term_bytes;
        }
    }
}

/* ---- One task -------------------------------------------------------------------------------- */

/* A worker's scratch, in floats and bytes; all sizes follow from the head width. */
struct query_task {
    int32_t pair;
    int32_t row, rows; /* queries, within the image */
    unsigned char *q;
    unsigned char *p;
    float *scores;  /* [key panel][tile of the call][sub][nr] */
    float *o;       /* [d panel][tile][sub][nr] */
    float *largest; /* [rows] */
    float *total;
    size_t q_term_stride, p_term_stride;
};

static void lay_scratch(const struct attention *a, struct query_task *t, unsigned char *scratch)
{
    const struct ld_micro *micro = a->micro;
    size_t rows = (size_t)a->query_tiles * (size_t)micro->sub;
    size_t call_rows = (size_t)micro->tiles * (size_t)micro->sub;
    t->q_term_stride = rows * micro->row_bytes;
    t->p_term_stride = call_rows * micro->row_bytes;
    t->largest = (float *)(void *)scratch;
    t->total = t->largest + rows;
    t->q = scratch + ((2 * rows * sizeof(float) + 63) & ~(size_t)63);
    t->p = t->q + (size_t)(a->qk.blocks * a->qk.a_terms + a->qk.tail) * t->q_term_stride;
    unsigned char *at = t->p + (size_t)a->key_steps * (size_t)micro->a_terms * t->p_term_stride;
    t->scores = (float *)(void *)at;
    t->o = t->scores + (size_t)a->key_block * call_rows;
}

static size_t scratch_bytes(const struct attention *a)
{
    struct query_task t;
    lay_scratch(a, &t, a->cpu->private);
    size_t o = (size_t)a->d_panels * (size_t)a->query_tiles *
               (size_t)(a->micro->sub * a->micro->nr) * sizeof(float);
    return (size_t)((unsigned char *)t.o - a->cpu->private) + o;
}

/* Scores of `tiles` tiles from `tile` on against one key block. */
static void multiply_scores(const struct attention *a, const struct query_task *t, int32_t tile,
                            int32_t tiles, const unsigned char *k, int32_t keys)
{
    static const size_t no_offset[1] = {0};
    const struct ld_micro *micro = a->micro;
    size_t tile_values = (size_t)(micro->sub * micro->nr);
    struct ld_micro_call call = {
        .a_block_stride = t->q_term_stride * (size_t)a->qk.a_terms,
        .a_term_stride = t->q_term_stride,
        .tap_offset = no_offset,
        .taps = 1,
        .blocks = a->qk.blocks,
        .last_k = a->qk.last_k,
        .tail = a->qk.tail,
        .a_terms = a->qk.a_terms,
        .b_terms = a->qk.b_terms,
        .tiles = tiles,
    };
    for (int32_t i = 0; i < tiles; i++)
        call.a[i] = t->q + (size_t)(tile + i) * (size_t)micro->sub * micro->row_bytes;
    for (int32_t j = 0; j < keys; j += micro->nr, k += a->k_panel_bytes) {
        call.b = k;
        call.columns = ld_idx_min(keys - j, micro->nr);
        for (int32_t i = 0; i < tiles; i++)
            call.c[i] = t->scores + (size_t)(j / micro->nr * micro->tiles + i) * tile_values;
        micro->multiply(&call);
    }
}

static void weigh_scores(const struct attention *a, const struct query_task *t, int32_t tile,
                         int32_t tiles, int32_t first_key, int32_t keys, bool first)
{
    const struct ld_micro *micro = a->micro;
    for (int32_t i = 0; i < tiles; i++) {
        int32_t valid[LD_MICRO_SUB_MAX];
        int32_t at = (tile + i) * micro->sub;
        for (int32_t r = 0; r < micro->sub; r++) {
            /* Rows past the last query work on leftovers, as if they were the last. */
            int32_t row = t->row + ld_idx_min(at + r, t->rows - 1);
            int32_t visible = a->op->causal ? row + 1 - first_key : keys;
            valid[r] = visible < 0 ? 0 : ld_idx_min(visible, keys);
        }
        struct ld_micro_softmax s = {
            .scores = t->scores,
            .panel_tiles = micro->tiles,
            .tile = i,
            .keys = keys,
            .valid = valid,
            .p = t->p + (size_t)(i * micro->sub) * micro->row_bytes,
            .p_block_stride = t->p_term_stride * (size_t)micro->a_terms,
            .p_term_stride = t->p_term_stride,
            .largest = t->largest + at,
            .total = t->total + at,
            .o = t->o + (size_t)(tile + i) * (size_t)(micro->sub * micro->nr),
            .o_panels = a->d_panels,
            .o_panel_tiles = a->query_tiles,
            .first = first,
        };
        micro->softmax(&s);
    }
}

static void multiply_values(const struct attention *a, const struct query_task *t, int32_t tile,
                            int32_t tiles, const unsigned char *v, int32_t keys, bool first)
{
    static const size_t no_offset[1] = {0};
    const struct ld_micro *micro = a->micro;
    size_t tile_values = (size_t)(micro->sub * micro->nr);
    int32_t steps = ld_idx_ceil_div(keys, LD_STEP_K);
    struct ld_micro_call call = {
        .a_block_stride = t->p_term_stride * (size_t)micro->a_terms,
        .a_term_stride = t->p_term_stride,
        .tap_offset = no_offset,
        .taps = 1,
        .blocks = steps,
        .last_k = keys - (steps - 1) * LD_STEP_K,
        .a_terms = micro->a_terms,
        .b_terms = a->v_terms,
        .tiles = tiles,
        .add = !first,
    };
    for (int32_t i = 0; i < tiles; i++)
        call.a[i] = t->p + (size_t)(i * micro->sub) * micro->row_bytes;
    for (int32_t panel = 0; panel < a->d_panels; panel++) {
        call.b = v + (size_t)panel * a->v_panel_bytes;
        call.columns = ld_idx_min(a->op->head_dim - panel * micro->nr, micro->nr);
        for (int32_t i = 0; i < tiles; i++)
            call.c[i] = t->o + (size_t)(panel * a->query_tiles + tile + i) * tile_values;
        micro->multiply(&call);
    }
}

/* Bring back, or put away, the running state of the task's rows between two chunks of keys. */
static void load_state(const struct attention *a, const struct query_task *t)
{
    const struct ld_micro *micro = a->micro;
    const struct ld_attention *op = a->op;
    const float *o = (const float *)op->o + head_at(op, t->pair, op->q_rows, t->row, op->o_stride);
    for (int32_t r = 0; r < t->rows; r++, o += op->o_stride) {
        const float *state = a->state + 2 * (size_t)(t->row - a->query_first + r);
        t->largest[r] = state[0];
        t->total[r] = state[1];
        for (int32_t c = 0; c < op->head_dim; c++) {
            int32_t tile = c / micro->nr * a->query_tiles + r / micro->sub;
            int32_t at = (tile * micro->sub + r % micro->sub) * micro->nr + c % micro->nr;
            t->o[at] = o[c];
        }
    }
}

static void store_rows(const struct attention *a, const struct query_task *t)
{
    const struct ld_micro *micro = a->micro;
    const struct ld_attention *op = a->op;
    for (int32_t r = 0; r < t->rows; r++) {
        float *state = a->state + 2 * (size_t)(t->row - a->query_first + r);
        if (a->last_chunk)
            break;
        state[0] = t->largest[r];
        state[1] = t->total[r];
    }
    float *o = (float *)op->o + head_at(op, t->pair, op->q_rows, t->row, op->o_stride);
    for (int32_t r = 0; r < t->rows; r += micro->sub) {
        const float *tiles = t->o + (size_t)(r / micro->sub) * (size_t)(micro->sub * micro->nr);
        micro->normalise(o + (size_t)r * (size_t)op->o_stride, (size_t)op->o_stride,
                         ld_idx_min(t->rows - r, micro->sub), tiles, a->query_tiles, op->head_dim,
                         a->last_chunk ? t->total + r : NULL);
    }
}

static void attend_block(const struct attention *a, const struct query_task *t, int32_t block,
                         const unsigned char *packed)
{
    const struct ld_micro *micro = a->micro;
    int32_t first_key = block * a->key_block;
    int32_t keys = ld_idx_min(keys_of(a->op, t->pair) - first_key, a->key_block);
    if (keys <= 0 || (a->op->causal && first_key > t->row + t->rows - 1))
        return;
    int32_t tiles = ld_idx_ceil_div(t->rows, micro->sub);
    for (int32_t tile = 0; tile < tiles; tile += micro->tiles) {
        int32_t count = ld_idx_min(tiles - tile, micro->tiles);
        multiply_scores(a, t, tile, count, packed, keys);
        weigh_scores(a, t, tile, count, first_key, keys, block == 0);
        multiply_values(a, t, tile, count, packed + a->k_block_bytes, keys, block == 0);
    }
}

static void attend_task(void *pointer, uint32_t task, uint32_t worker)
{
    const struct attention *a = pointer;
    const struct ld_attention *op = a->op;
    const struct ld_micro *micro = a->micro;
    int32_t task_rows = a->query_tiles * micro->sub;
    int32_t tasks_per_pair = ld_idx_ceil_div(a->query_end - a->query_first, task_rows);
    int32_t pair = (int32_t)task / tasks_per_pair;
    struct query_task t = {.pair = a->first_pair + pair};
    t.row = a->query_first + (int32_t)task % tasks_per_pair * task_rows;
    t.rows = ld_idx_min(a->query_end - t.row, task_rows);
    lay_scratch(a, &t, a->cpu->private + worker * a->cpu->private_bytes);
    micro->begin();
    const float *q = (const float *)op->q + head_at(op, t.pair, op->q_rows, t.row, op->q_stride);
    micro->pack_q(t.q, t.q_term_stride * (size_t)a->qk.a_terms, t.q_term_stride, q,
                  (size_t)op->q_stride, t.rows, op->head_dim, (double)op->scale * LOG2_E);
    if (!a->first_chunk)
        load_state(a, &t);
    const unsigned char *packed = a->packed + (size_t)(pair * a->blocks) * a->block_bytes;
    for (int32_t i = 0; i < a->blocks; i++, packed += a->block_bytes)
        attend_block(a, &t, a->first_block + i, packed);
    micro->end();
    store_rows(a, &t);
}

/* ---- The whole job --------------------------------------------------------------------------- */

/* All chunks of keys for the pairs and queries in work. */
static void run_pairs(struct attention *a, int32_t all_blocks, int32_t chunk_blocks)
{
    int32_t task_rows = a->query_tiles * a->micro->sub;
    uint32_t tasks =
        (uint32_t)a->pairs * (uint32_t)ld_idx_ceil_div(a->query_end - a->query_first, task_rows);
    for (a->first_block = 0; a->first_block < all_blocks; a->first_block += chunk_blocks) {
        a->blocks = ld_idx_min(all_blocks - a->first_block, chunk_blocks);
        a->first_chunk = a->first_block == 0;
        a->last_chunk = a->first_block + a->blocks == all_blocks;
        ld_pool_run(a->cpu->pool, (uint32_t)(a->pairs * a->blocks), pack_keys_task, a);
        ld_pool_run(a->cpu->pool, tasks, attend_task, a);
    }
}

void ld_tiled_attention(struct ld_cpu_backend *cpu, const struct ld_micro *micro,
                        const struct ld_attention *op)
{
    bool wide = op->head_dim > WIDE_HEAD;
    struct attention a = {
        .cpu = cpu,
        .micro = micro,
        .op = op,
        .qk = micro->qk(op->head_dim),
        .v_terms = micro->b_terms(LD_DTYPE_F32),
        .key_block = wide ? KEY_BLOCK_WIDE : KEY_BLOCK,
        .d_panels = ld_idx_ceil_div(op->head_dim, micro->nr),
        .query_tiles = (wide ? QUERY_ROWS_WIDE : QUERY_ROWS) / micro->sub & ~1,
    };
    a.key_steps = a.key_block / LD_STEP_K;
    a.k_panel_bytes = (size_t)(a.qk.blocks * a.qk.b_terms + a.qk.tail) * micro->term_bytes;
    a.v_panel_bytes = (size_t)(a.key_steps * a.v_terms) * micro->term_bytes;
    a.k_block_bytes = (size_t)ld_idx_ceil_div(a.key_block, micro->nr) * a.k_panel_bytes;
    a.block_bytes = a.k_block_bytes + (size_t)a.d_panels * a.v_panel_bytes;
    a.state = (float *)(void *)cpu->shared;
    a.packed = cpu->shared + STATE_BYTES;
    LD_ASSERT(scratch_bytes(&a) <= cpu->private_bytes);

    int32_t pairs = op->batch * op->heads;
    int32_t all_blocks = ld_idx_ceil_div(op->kv_rows, a.key_block);
    int32_t fit = (int32_t)((cpu->shared_bytes - STATE_BYTES) / a.block_bytes);
    int32_t chunk_blocks = ld_idx_min(fit, all_blocks);
    int32_t query_most = STATE_BYTES / (2 * (int32_t)sizeof(float));
    query_most -= query_most % (a.query_tiles * micro->sub);
    if (chunk_blocks == all_blocks)
        query_most = op->q_rows; /* nothing waits between chunks */
    for (a.query_first = 0; a.query_first < op->q_rows; a.query_first = a.query_end) {
        a.query_end = ld_idx_min(op->q_rows - a.query_first, query_most) + a.query_first;
        int32_t together = fit / all_blocks > 0 ? fit / all_blocks : 1;
        for (a.first_pair = 0; a.first_pair < pairs; a.first_pair += together) {
            a.pairs = ld_idx_min(pairs - a.first_pair, together);
            run_pairs(&a, all_blocks, chunk_blocks);
        }
    }
}
