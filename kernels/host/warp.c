/*
 * Warp operations: lanes leave their operands, the last to arrive computes for all.
 *
 * Sums follow the tensor core's contract, not its order: products of 2-byte floats are exact in
 * float32, and d = fl(d + a * b) for ascending k.
 *
 * Source: PTX ISA 9.0, fragment layouts of mma.m16n8k16, mma.m16n8k8 and ldmatrix.
 */
#include "kernels/host/block.h"
#include "kernels/host/number.h"
#include "kernels/host/sanitizer.h"

#include <string.h>

uint32_t ldk_fiber_lane(void)
{
    return ldk_block.current->lane;
}

static const char *kind_name(enum ldk_warp_kind kind)
{
    if (kind == LDK_WARP_SYNC)
        return "__syncwarp";
    if (kind == LDK_WARP_SHUFFLE)
        return "a shuffle";
    if (kind == LDK_WARP_BALLOT)
        return "a vote";
    if (kind >= LDK_WARP_MMA_F16)
        return "mma";
    return kind >= LDK_WARP_LDMATRIX_1 ? "ldmatrix" : "a warp reduction";
}

/* ---- Meeting --------------------------------------------------------------------------------- */

/* The slot of this mask: looked for first, since a free slot taken too early splits one meeting in
 * two. Otherwise an idle one, the never used before those of other masks. */
static struct ldk_rendezvous *find_slot(uint32_t warp, uint32_t mask, struct ldk_place place)
{
    struct ldk_rendezvous *slots = ldk_block.rendezvous[warp], *idle = NULL;
    for (uint32_t i = 0; i < LDK_MAX_RENDEZVOUS; i++) {
        if (slots[i].mask == mask)
            return &slots[i];
    }
    for (uint32_t i = 0; i < LDK_MAX_RENDEZVOUS; i++) {
        if (slots[i].arrived == 0 && (!idle || (slots[i].mask == 0 && idle->mask != 0)))
            idle = &slots[i];
    }
    if (!idle)
        ldk_host_fault(place, "more than %d warp operations at once in one warp",
                       LDK_MAX_RENDEZVOUS);
    idle->mask = mask;
    return idle;
}

static void check_mask(const struct ldk_thread *self, uint32_t mask, enum ldk_warp_kind kind,
                       struct ldk_place place)
{
    if ((mask >> self->lane & 1) == 0)
        ldk_host_fault(place, "%s: lane %u is not in its mask 0x%08x", kind_name(kind), self->lane,
                       mask);
    uint32_t gone = ldk_block.gone[self->warp] & mask;
    if (gone != 0)
        ldk_host_fault(place, "%s: lanes 0x%08x of the mask have left the kernel", kind_name(kind),
                       gone);
}

void ldk_fiber_warp(enum ldk_warp_kind kind, uint32_t mask, struct ldk_warp_operand *operand,
                    struct ldk_place place)
{
    struct ldk_thread *self = ldk_block.current;
    check_mask(self, mask, kind, place);
    mask &= ldk_block.exists[self->warp];
    struct ldk_rendezvous *r = find_slot(self->warp, mask, place);
    if (r->arrived == 0) {
        r->kind = kind;
        r->place = place;
    } else if (r->kind != kind || r->place.line != place.line ||
               r->place.occurrence != place.occurrence || strcmp(r->place.file, place.file) != 0) {
        ldk_host_fault(place, "lane %u is in %s, lanes 0x%08x of its mask are in %s at %s:%d",
                       self->lane, kind_name(kind), r->arrived, kind_name(r->kind), r->place.file,
                       r->place.line);
    }
    r->operands[self->lane] = operand;
    r->arrived |= 1u << self->lane;
    char *order = &r->order[r->turn & 1];
    if (kind == LDK_WARP_SYNC)
        sanitizer_release(order);
    if (r->arrived == mask) {
        ldk_warp_compute(r, self->warp);
        r->arrived = 0;
        r->turn++;
        ldk_block_wake(self->warp, mask);
    }
    ldk_block_wait(kind_name(kind), place, false);
    if (kind == LDK_WARP_SYNC)
        sanitizer_acquire(order);
}

/* ---- Shuffles and votes ---------------------------------------------------------------------- */

static void shuffle(struct ldk_rendezvous *r)
{
    uint64_t values[32] = {0};
    for (uint32_t l = 0; l < 32; l++) {
        if (r->mask >> l & 1)
            values[l] = r->operands[l]->value;
    }
    for (uint32_t l = 0; l < 32; l++) {
        if ((r->mask >> l & 1) == 0)
            continue;
        int32_t source = r->operands[l]->source;
        if (source < 0 || source > 31 || (r->mask >> source & 1) == 0)
            ldk_host_fault(r->place,
                           "a shuffle: lane %u reads lane %d, which is not in mask 0x%08x", l,
                           source, r->mask);
        r->operands[l]->value = values[source];
    }
    ldk_host_stats.shuffles++;
}

static uint32_t combine(enum ldk_warp_kind kind, uint32_t a, uint32_t b)
{
    if (kind == LDK_WARP_ADD)
        return a + b;
    if (kind == LDK_WARP_AND)
        return a & b;
    if (kind == LDK_WARP_OR)
        return a | b;
    if (kind == LDK_WARP_XOR)
        return a ^ b;
    bool signed_numbers = kind == LDK_WARP_MIN_SIGNED || kind == LDK_WARP_MAX_SIGNED;
    bool less = signed_numbers ? (int32_t)a < (int32_t)b : a < b;
    bool minimum = kind == LDK_WARP_MIN || kind == LDK_WARP_MIN_SIGNED;
    return less == minimum ? a : b;
}

static void reduce(struct ldk_rendezvous *r)
{
    uint32_t total = 0;
    bool begun = false;
    for (uint32_t l = 0; l < 32; l++) {
        if ((r->mask >> l & 1) == 0)
            continue;
        uint32_t value = (uint32_t)r->operands[l]->value;
        if (r->kind == LDK_WARP_BALLOT)
            total |= (uint32_t)(value != 0) << l;
        else
            total = begun ? combine(r->kind, total, value) : value;
        begun = true;
    }
    for (uint32_t l = 0; l < 32; l++) {
        if (r->mask >> l & 1)
            r->operands[l]->value = total;
    }
}

/* ---- ldmatrix -------------------------------------------------------------------------------- */

/* Passes beyond the first for one matrix: eight rows of 16 bytes in eight groups of four banks. */
static uint32_t conflicts(struct ldk_rendezvous *r, uint32_t matrix)
{
    uint32_t passes[8] = {0}, most = 1;
    for (uint32_t i = 0; i < 8; i++) {
        uintptr_t at = (uintptr_t)r->operands[matrix * 8 + i]->from;
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= (uintptr_t)r->operands[matrix * 8 + j]->from == at;
        if (!seen && ++passes[at / 16 % 8] > most)
            most = passes[at / 16 % 8];
    }
    return most - 1;
}

static void deal_matrices(struct ldk_rendezvous *r, uint32_t count, bool transposed)
{
    for (uint32_t m = 0; m < count; m++) {
        ldk_host_stats.ldmatrix_conflicts += conflicts(r, m);
        struct ldk_warp_operand *const *rows = &r->operands[m * 8];
        for (uint32_t l = 0; l < 32; l++) {
            uint32_t g = l / 4, t = l % 4;
            uint32_t *out = &r->operands[l]->out[m];
            if (!transposed) {
                *out = rows[g]->row[t];
                continue;
            }
            uint32_t shift = g % 2 * 16;
            uint32_t low = rows[2 * t]->row[g / 2] >> shift & 0xffffu;
            uint32_t high = rows[2 * t + 1]->row[g / 2] >> shift & 0xffffu;
            *out = low | high << 16;
        }
    }
    ldk_host_stats.ldmatrix++;
}

/* ---- mma ------------------------------------------------------------------------------------- */

typedef float row4 __attribute__((vector_size(16))); /* wider than this gcc keeps in memory */

static inline float low_of(uint32_t pair, bool bfloat)
{
    return bfloat ? ldk_number_bits(pair << 16) : ldk_f16_to_f32((uint16_t)(pair & 0xffffu));
}

static inline float high_of(uint32_t pair, bool bfloat)
{
    return bfloat ? ldk_number_bits(pair & 0xffff0000u) : ldk_f16_to_f32((uint16_t)(pair >> 16));
}

/* a[16][k] and b[k][8] as float, from the fragments. `halves`: k / 8. */
static inline void gather(struct ldk_rendezvous *r, uint32_t halves, bool bfloat, float a[16][16],
                          float b[16][8])
{
    for (uint32_t l = 0; l < 32; l++) {
        const struct ldk_warp_operand *lane = r->operands[l];
        uint32_t g = l / 4, k = l % 4 * 2;
        for (uint32_t h = 0; h < halves; h++) {
            uint32_t upper = lane->a[2 * h], lower = lane->a[2 * h + 1], column = lane->b[h];
            a[g][8 * h + k] = low_of(upper, bfloat);
            a[g][8 * h + k + 1] = high_of(upper, bfloat);
            a[g + 8][8 * h + k] = low_of(lower, bfloat);
            a[g + 8][8 * h + k + 1] = high_of(lower, bfloat);
            b[8 * h + k][g] = low_of(column, bfloat);
            b[8 * h + k + 1][g] = high_of(column, bfloat);
        }
    }
}

static inline void multiply(float d[16][8], float a[16][16], float b[16][8], uint32_t depth)
{
    for (uint32_t m = 0; m < 16; m++) {
        row4 left, right;
        memcpy(&left, &d[m][0], sizeof left);
        memcpy(&right, &d[m][4], sizeof right);
        for (uint32_t k = 0; k < depth; k++) {
            row4 b_left, b_right;
            memcpy(&b_left, &b[k][0], sizeof b_left);
            memcpy(&b_right, &b[k][4], sizeof b_right);
            left += a[m][k] * b_left;
            right += a[m][k] * b_right;
        }
        memcpy(&d[m][0], &left, sizeof left);
        memcpy(&d[m][4], &right, sizeof right);
    }
}

static inline void mma(struct ldk_rendezvous *r, uint32_t halves, bool bfloat)
{
    float a[16][16], b[16][8], d[16][8];
    gather(r, halves, bfloat, a, b);
    for (uint32_t l = 0; l < 32; l++) {
        for (uint32_t i = 0; i < 4; i++)
            d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = r->operands[l]->d[i];
    }
    multiply(d, a, b, halves * 8);
    for (uint32_t l = 0; l < 32; l++) {
        for (uint32_t i = 0; i < 4; i++)
            r->operands[l]->d[i] = d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
    }
}

/* Half accumulators: the same chain in float32 over the 16 or 8 products, then one rounding. */
static void mma_half(struct ldk_rendezvous *r, uint32_t halves)
{
    float a[16][16], b[16][8], d[16][8];
    gather(r, halves, false, a, b);
    for (uint32_t l = 0; l < 32; l++) {
        for (uint32_t i = 0; i < 2; i++) {
            d[l / 4 + i * 8][l % 4 * 2] = low_of(r->operands[l]->d_half[i], false);
            d[l / 4 + i * 8][l % 4 * 2 + 1] = high_of(r->operands[l]->d_half[i], false);
        }
    }
    multiply(d, a, b, halves * 8);
    for (uint32_t l = 0; l < 32; l++) {
        for (uint32_t i = 0; i < 2; i++) {
            const float *pair = &d[l / 4 + i * 8][l % 4 * 2];
            r->operands[l]->d_half[i] = ldk_f32_to_f16(pair[0]) | (uint32_t)ldk_f32_to_f16(pair[1])
                                                                      << 16;
        }
    }
}

/* ---- All together ---------------------------------------------------------------------------- */

static void need_all_lanes(const struct ldk_rendezvous *r)
{
    if (r->mask != ~0u)
        ldk_host_fault(r->place, "%s needs all 32 lanes", kind_name(r->kind));
}

void ldk_warp_compute(struct ldk_rendezvous *r, uint32_t warp)
{
    (void)warp;
    if (r->kind >= LDK_WARP_LDMATRIX_1)
        need_all_lanes(r);
    switch (r->kind) {
    case LDK_WARP_SYNC:
        ldk_host_stats.syncwarps++;
        break;
    case LDK_WARP_SHUFFLE:
        shuffle(r);
        break;
    case LDK_WARP_BALLOT:
    case LDK_WARP_ADD:
    case LDK_WARP_MIN:
    case LDK_WARP_MAX:
    case LDK_WARP_MIN_SIGNED:
    case LDK_WARP_MAX_SIGNED:
    case LDK_WARP_AND:
    case LDK_WARP_OR:
    case LDK_WARP_XOR:
        reduce(r);
        break;
    case LDK_WARP_LDMATRIX_1:
    case LDK_WARP_LDMATRIX_2:
    case LDK_WARP_LDMATRIX_4:
        deal_matrices(r, 1u << (r->kind - LDK_WARP_LDMATRIX_1), false);
        break;
    case LDK_WARP_LDMATRIX_1_TRANS:
    case LDK_WARP_LDMATRIX_2_TRANS:
    case LDK_WARP_LDMATRIX_4_TRANS:
        deal_matrices(r, 1u << (r->kind - LDK_WARP_LDMATRIX_1_TRANS), true);
        break;
    case LDK_WARP_MMA_F16:
    case LDK_WARP_MMA_BF16:
        mma(r, 2, r->kind == LDK_WARP_MMA_BF16);
        ldk_host_stats.mma_16816++;
        break;
    case LDK_WARP_MMA_F16_K8:
    case LDK_WARP_MMA_BF16_K8:
        mma(r, 1, r->kind == LDK_WARP_MMA_BF16_K8);
        ldk_host_stats.mma_1688++;
        break;
    case LDK_WARP_MMA_HALF:
        mma_half(r, 2);
        ldk_host_stats.mma_16816_h++;
        break;
    case LDK_WARP_MMA_HALF_K8:
        mma_half(r, 1);
        ldk_host_stats.mma_1688_h++;
        break;
    }
}
