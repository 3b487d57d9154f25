/*
 * Proves that packing for the CUDA kernels loses nothing: every packed weight, unpacked, is the
 * checkpoint's rounded to the packed type; what is of that type moves bit for bit; padding is zero;
 * any cut into ranges gives equal bytes; the upsampling form computes what a nearest upsampling
 * followed by the kernel of 3 computes. Random shapes, parts, types and scales against loops
 * written from the layout's description.
 */
#include "cpu_reference.h"
#include "kernels/cuda/pack.h"

enum { CASES = 120 };

static enum ld_dtype host_type(enum ldk_dtype dtype)
{
    return dtype == LDK_F16 ? LD_DTYPE_F16 : dtype == LDK_BF16 ? LD_DTYPE_BF16 : LD_DTYPE_F32;
}

static float rounded(float value, enum ldk_dtype dtype)
{
    uint32_t bits = 0;
    ld_dtype_from_f32(&bits, &value, host_type(dtype), 1);
    ld_dtype_to_f32(&value, &bits, host_type(dtype), 1);
    return value;
}

/* ---- One random weight ----------------------------------------------------------------------- */

struct sample {
    struct ld_weight_desc desc;
    float *values; /* [rows][k][taps], scale applied, before rounding to the packed type */
    float *bias;   /* [rows] */
    void *raw[LD_WEIGHT_PARTS_MAX];
    float *raw_bias[LD_WEIGHT_PARTS_MAX];
    size_t row; /* k * taps */
    int32_t rows;
};

/* Up to three parts of any widths, sometimes as many as there may be. */
static void cut_parts(struct ld_weight_desc *desc, struct rng *rng)
{
    desc->part_count = rng_bits(rng) % 8 ? 1 + rng_bits(rng) % 3 : LD_WEIGHT_PARTS_MAX;
    desc->rows = 0;
    for (uint32_t p = 0; p < desc->part_count; p++) {
        desc->parts[p].rows = rng_range(rng, 1, 37);
        desc->rows += desc->parts[p].rows;
    }
}

static struct sample random_sample(struct rng *rng)
{
    static const enum ld_weight_kind kinds[] = {LD_WEIGHT_LINEAR, LD_WEIGHT_GEGLU, LD_WEIGHT_CONV};
    static const enum ld_dtype types[] = {LD_DTYPE_F16, LD_DTYPE_BF16, LD_DTYPE_F32,
                                          LD_DTYPE_F8_E4M3};
    struct sample s = {.desc = {.kind = kinds[rng_bits(rng) % 3],
                                .k = rng_range(rng, 1, 41),
                                .rows = rng_range(rng, 1, 37),
                                .kernel = 1,
                                .part_count = 1}};
    if (s.desc.kind == LD_WEIGHT_GEGLU)
        s.desc.rows *= 2;
    if (s.desc.kind == LD_WEIGHT_CONV)
        s.desc.kernel = rng_bits(rng) % 4 ? 3 : 1;
    if (s.desc.kind == LD_WEIGHT_LINEAR)
        cut_parts(&s.desc, rng);
    s.row = (size_t)s.desc.k * (size_t)(s.desc.kernel * s.desc.kernel);
    s.rows = s.desc.rows;
    s.values = random_buffer((size_t)s.rows * s.row, 1.0f, rng);
    s.bias = random_buffer((size_t)s.rows, 1.0f, rng);
    float *values = s.values;
    float *bias = s.bias;
    for (uint32_t p = 0; p < s.desc.part_count; p++) {
        enum ld_dtype type = types[rng_bits(rng) % 4];
        float scale = rng_bits(rng) % 3 == 0 ? 0.75f : 0.0f;
        size_t part_rows = (size_t)(s.desc.part_count > 1 ? s.desc.parts[p].rows : s.rows);
        size_t part_values = part_rows * s.row;
        s.raw[p] = ld_heap_calloc(part_values, sizeof(float));
        assert_non_null(s.raw[p]);
        ld_dtype_from_f32(s.raw[p], values, type, part_values);
        ld_dtype_to_f32(values, s.raw[p], type, part_values);
        for (size_t i = 0; scale != 0.0f && i < part_values; i++)
            values[i] *= scale;
        s.desc.parts[p].data = s.raw[p];
        s.desc.parts[p].dtype = type;
        s.desc.parts[p].scale = scale;
        if (rng_bits(rng) % 3 == 0)
            memset(bias, 0, part_rows * sizeof *bias);
        else
            s.desc.bias[p] = (struct ld_weight_part){.data = bias, .dtype = LD_DTYPE_F32};
        values += part_values;
        bias += part_rows;
    }
    return s;
}

static void free_sample(struct sample *s)
{
    for (uint32_t p = 0; p < s->desc.part_count; p++)
        ld_heap_free(s->raw[p]);
    guarded_free(s->values);
    guarded_free(s->bias);
}

/* ---- Main form ------------------------------------------------------------------------------- */

/* The row that the description of struct ldk_weight puts at packed place `row`. */
static int32_t described_row(const struct sample *s, int32_t row)
{
    if (s->desc.kind != LD_WEIGHT_GEGLU)
        return row < s->rows ? row : -1;
    int32_t output = row / 16 * 8 + row % 8;
    if (output >= s->rows / 2)
        return -1;
    return row % 16 < 8 ? output : output + s->rows / 2;
}

static void check_row(const struct sample *s, const struct ldk_pack *pack, int32_t row,
                      const unsigned char *packed, float *line)
{
    int32_t from = described_row(s, row);
    assert_int_equal(ldk_pack_source_row(pack, row), from);
    size_t item = ld_dtype_size(host_type(pack->dtype));
    for (int32_t t = 0; t < pack->taps; t++) {
        for (int32_t c = 0; c < pack->k_padded; c++) {
            float got;
            ld_dtype_to_f32(&got, packed + (size_t)(t * pack->k_padded + c) * item,
                            host_type(pack->dtype), 1);
            float want = 0.0f;
            if (from >= 0 && c < pack->k)
                want = rounded(s->values[(size_t)from * s->row + (size_t)(c * pack->taps + t)],
                               pack->dtype);
            assert_memory_equal(&got, &want, sizeof got);
        }
    }
    if (from < 0)
        return;
    ldk_unpack_row(pack, packed, line);
    for (size_t i = 0; i < s->row; i++) {
        float want = rounded(s->values[(size_t)from * s->row + i], pack->dtype);
        assert_memory_equal(&line[i], &want, sizeof want);
    }
}

static void one_weight(struct rng *rng, enum ldk_dtype dtype)
{
    struct sample s = random_sample(rng);
    struct ldk_pack pack;
    ldk_pack_plan(&pack, &s.desc, dtype, false);
    assert_int_equal(pack.k_padded % 8, 0);
    assert_int_equal(pack.rows_padded % 8, 0);
    assert_true(pack.rows_padded >= s.rows && pack.rows_padded < s.rows + 16);
    float *line = guarded_alloc(pack.line);
    unsigned char *whole = ld_heap_calloc(1, pack.data_bytes);
    unsigned char *pieces = ld_heap_calloc(1, pack.data_bytes);
    float *bias = guarded_alloc((size_t)pack.rows_padded);
    assert_true(whole != NULL && pieces != NULL);
    memset(whole, 0xFF, pack.data_bytes);
    ldk_pack_rows(&pack, &s.desc, 0, pack.rows_padded, line, whole);
    for (int32_t first = 0; first < pack.rows_padded;) {
        int32_t count = rng_range(rng, 1, pack.rows_padded - first);
        ldk_pack_rows(&pack, &s.desc, first, count, line, pieces + (size_t)first * pack.row_bytes);
        first += count;
    }
    assert_memory_equal(whole, pieces, pack.data_bytes);
    ldk_pack_bias(&pack, &s.desc, bias);
    for (int32_t row = 0; row < pack.rows_padded; row++) {
        check_row(&s, &pack, row, whole + (size_t)row * pack.row_bytes, line);
        int32_t from = described_row(&s, row);
        float want = from < 0 ? 0.0f : s.bias[from];
        assert_memory_equal(&bias[row], &want, sizeof want);
    }
    assert_true(guards_intact(line, pack.line));
    assert_true(guards_intact(bias, (size_t)pack.rows_padded));
    guarded_free(line);
    guarded_free(bias);
    ld_heap_free(whole);
    ld_heap_free(pieces);
    free_sample(&s);
}

static void packing_is_a_permutation_with_zeros(void **state)
{
    (void)state;
    struct rng rng = {1};
    for (int i = 0; i < CASES; i++)
        one_weight(&rng, (enum ldk_dtype)(i % 3));
}

/* A pattern of 16 bits that is the packed type's already is nobody's number: NaNs keep their
 * payload, zeros their sign. */
static void bits_of_the_packed_type_move_as_they_are(void **state)
{
    (void)state;
    enum { ROWS = 9, K_MAX = 45, TAPS = 9 };
    static uint16_t source[ROWS * K_MAX * TAPS];
    static uint16_t packed[16 * 48 * TAPS];
    struct rng rng = {3};
    for (int i = 0; i < CASES; i++) {
        const bool bf16 = i % 2 == 0;
        struct ld_weight_desc desc = {.kind = LD_WEIGHT_CONV,
                                      .rows = ROWS,
                                      .k = rng_range(&rng, 1, K_MAX),
                                      .kernel = i % 3 ? 3 : 1,
                                      .part_count = 1};
        desc.parts[0] = (struct ld_weight_part){.data = source,
                                                .dtype = bf16 ? LD_DTYPE_BF16 : LD_DTYPE_F16,
                                                .scale = i % 5 ? 1.0f : 0.0f};
        for (size_t e = 0; e < sizeof source / sizeof source[0]; e++)
            source[e] = (uint16_t)rng_bits(&rng);
        struct ldk_pack pack;
        ldk_pack_plan(&pack, &desc, bf16 ? LDK_BF16 : LDK_F16, false);
        float *line = guarded_alloc(pack.line);
        assert_true(pack.data_bytes <= sizeof packed);
        ldk_pack_rows(&pack, &desc, 0, pack.rows_padded, line, packed);
        for (int32_t row = 0; row < ROWS; row++)
            for (int32_t t = 0; t < pack.taps; t++)
                for (int32_t c = 0; c < pack.k; c++)
                    assert_int_equal(packed[(row * pack.taps + t) * pack.k_padded + c],
                                     source[(row * pack.k + c) * pack.taps + t]);
        guarded_free(line);
    }
}

/* ---- The upsampling form --------------------------------------------------------------------- */

/* One output of upsampling x (h by w, one channel) by two and convolving with the 3x3 kernel. */
static double upsampled(const float *x, int32_t h, int32_t w, const float *kernel, int32_t oy,
                        int32_t ox)
{
    double sum = 0.0;
    for (int32_t tap = 0; tap < 9; tap++) {
        int32_t y = oy + tap / 3 - 1;
        int32_t z = ox + tap % 3 - 1;
        if (y >= 0 && z >= 0 && y < 2 * h && z < 2 * w)
            sum += (double)kernel[tap] * (double)x[y / 2 * w + z / 2];
    }
    return sum;
}

/* The same from the packed phases: 2x2 taps at stored rows i - 1 + parity, i + parity. */
static double by_phase(const float *x, int32_t h, int32_t w, const float *phases, size_t stride,
                       int32_t oy, int32_t ox)
{
    double sum = 0.0;
    const float *kernel = phases + (size_t)(oy % 2 * 2 + ox % 2) * stride;
    for (int32_t tap = 0; tap < 4; tap++) {
        int32_t y = oy / 2 - 1 + oy % 2 + tap / 2;
        int32_t z = ox / 2 - 1 + ox % 2 + tap % 2;
        if (y >= 0 && z >= 0 && y < h && z < w)
            sum += (double)kernel[tap * 8] * (double)x[y * w + z];
    }
    return sum;
}

static void phases_equal_the_upsampled_convolution(void **state)
{
    (void)state;
    enum { H = 4, W = 5, ROWS = 3 };
    struct rng rng = {2};
    struct test_weight w = make_weight(LD_WEIGHT_CONV, ROWS, 1, 3, LD_DTYPE_F32, false, &rng);
    struct ldk_pack pack;
    ldk_pack_plan(&pack, &w.desc, LDK_F32, true);
    float *line = guarded_alloc(pack.line);
    size_t count = pack.phase_bytes / sizeof(float);
    float *phases = guarded_alloc(count);
    ldk_pack_phase_rows(&pack, &w.desc, 0, 4 * pack.rows_padded, line, phases);
    float *x = random_buffer((size_t)(H * W), 1.0f, &rng);
    size_t row_floats = pack.phase_row_bytes / sizeof(float);
    for (int32_t row = 0; row < ROWS; row++)
        for (int32_t oy = 0; oy < 2 * H; oy++)
            for (int32_t ox = 0; ox < 2 * W; ox++) {
                double want = upsampled(x, H, W, w.values + row * 9, oy, ox);
                double got = by_phase(x, H, W, phases + (size_t)row * row_floats,
                                      (size_t)pack.rows_padded * row_floats, oy, ox);
                assert_true(fabs(got - want) <= 1e-5);
            }
    assert_true(guards_intact(phases, count) && guards_intact(line, pack.line));
    guarded_free(line);
    guarded_free(phases);
    guarded_free(x);
    free_weight(&w);
}

/* Which of the two stored pixels from i - 1 + parity on lies behind a tap of output 2 i + parity:
 * the tap reads pixel 2 i + parity + tap - 1 of the upsampled map. */
static int32_t stored(int32_t parity, int32_t tap)
{
    return (parity + tap + 1) / 2 - parity;
}

/* One number of the form, added as the header says: in float32, in tap order, rounded once. */
static float phase_value(const struct sample *s, int32_t row, int32_t phase, int32_t place,
                         int32_t c, enum ldk_dtype dtype)
{
    float sum = 0.0f;
    for (int32_t tap = 0; tap < 9; tap++)
        if (2 * stored(phase / 2, tap / 3) + stored(phase % 2, tap % 3) == place)
            sum += s->values[(size_t)row * s->row + (size_t)(c * 9 + tap)];
    return rounded(sum, dtype);
}

static void phases_are_sums_in_tap_order_to_the_bit(void **state)
{
    (void)state;
    struct rng rng = {4};
    for (int i = 0, found = 0; found < CASES / 2; i++) {
        assert_true(i < 100 * CASES);
        struct sample s = random_sample(&rng);
        struct ldk_pack pack;
        const enum ldk_dtype dtype = (enum ldk_dtype)(i % 3);
        if (s.desc.kernel != 3) {
            free_sample(&s);
            continue;
        }
        found++;
        ldk_pack_plan(&pack, &s.desc, dtype, true);
        float *line = guarded_alloc(pack.line);
        unsigned char *phases = ld_heap_calloc(1, pack.phase_bytes);
        assert_non_null(phases);
        memset(phases, 0xFF, pack.phase_bytes);
        ldk_pack_phase_rows(&pack, &s.desc, 0, 4 * pack.rows_padded, line, phases);
        const size_t item = ld_dtype_size(host_type(dtype));
        for (int32_t row = 0; row < 4 * pack.rows_padded; row++)
            for (int32_t e = 0; e < 4 * pack.k_padded; e++) {
                const int32_t from = row % pack.rows_padded;
                const int32_t c = e % pack.k_padded;
                float got;
                ld_dtype_to_f32(&got,
                                phases + (size_t)row * pack.phase_row_bytes + (size_t)e * item,
                                host_type(dtype), 1);
                const float want =
                    from < s.rows && c < pack.k
                        ? phase_value(&s, from, row / pack.rows_padded, e / pack.k_padded, c, dtype)
                        : 0.0f;
                assert_memory_equal(&got, &want, sizeof got);
            }
        assert_true(guards_intact(line, pack.line));
        guarded_free(line);
        ld_heap_free(phases);
        free_sample(&s);
    }
}

static void the_view_carries_the_shape(void **state)
{
    (void)state;
    struct ld_weight_desc desc = {
        .kind = LD_WEIGHT_GEGLU, .rows = 20, .k = 12, .kernel = 1, .part_count = 1};
    struct ldk_pack pack;
    ldk_pack_plan(&pack, &desc, LDK_BF16, false);
    const float bias[1] = {0};
    struct ldk_weight w = ldk_pack_weight(&pack, bias, bias, bias);
    assert_true(w.data == bias && w.bias == bias && w.phase == NULL && w.geglu);
    assert_int_equal(w.rows, 20);
    assert_int_equal(w.rows_padded, 32);
    assert_int_equal(w.k_padded, 16);
    assert_int_equal(w.dtype, LDK_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_is_a_permutation_with_zeros),
        cmocka_unit_test(bits_of_the_packed_type_move_as_they_are),
        cmocka_unit_test(phases_equal_the_upsampled_convolution),
        cmocka_unit_test(phases_are_sums_in_tap_order_to_the_bit),
        cmocka_unit_test(the_view_carries_the_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
