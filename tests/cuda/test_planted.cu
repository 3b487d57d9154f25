/*
 * Planted bugs: each runs in a child process, in three thread orders, and must be found by what
 * this build (plain, with one sanitizer, or nvcc's PTX on its machine) is there for; the correct
 * kernels must be accused by none. As PTX, barriers in both arms of a branch are one barrier: its
 * rule is about warps, not about places.
 *
 * Source: hostbuild.md section 4.
 */
#include "tests/cuda/child.h"
#include "tests/cuda/hostcuda.h"
#include "tests/cuda/planted_kernels.cuh"
#if defined(__CUDACC__)
extern "C" {
#include "tests/ptx/ptx.h"
}
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Who may find what ----------------------------------------------------------------------- */

enum {
    NOTHING = 1,
    VALUES = 2,    /* wrong or NaN against the reference */
    ORDERS = 4,    /* bits differ between thread orders */
    SHIM = 8,      /* kernels/host, or the machine that runs PTX, says what is wrong */
    SANITIZER = 16 /* a report, or the signal of a guard page */
};
enum { OUTPUT = VALUES | ORDERS, VALUES_STATUS = 92, ORDERS_STATUS = 93 };

enum { PLAIN, ASAN, TSAN, MSAN, PTX, BUILDS };
#if defined(__CUDACC__)
static const int build = PTX;
#elif defined(__SANITIZE_ADDRESS__)
static const int build = ASAN;
#elif defined(__SANITIZE_THREAD__)
static const int build = TSAN;
#elif defined(__clang__)
#if __has_feature(memory_sanitizer)
static const int build = MSAN;
#else
static const int build = PLAIN;
#endif
#else
static const int build = PLAIN;
#endif

struct bug {
    planted number;
    const char *name;
    int found_by[BUILDS]; /* plain, ASan + UBSan, TSan, MSan, PTX */
    const char *says;     /* part of what the shim says, or NULL */
    const char *ptx_says; /* ... and of what the PTX machine says */
    int lines;            /* bit of a build whose report must name the line: a few, for its time */
};

/* clang-format off */
static const int S = SANITIZER, V = OUTPUT, N = NOTHING;
static const bug bugs[] = {
    {NORM_NO_BARRIER_AFTER_STORE, "no barrier after a store to shared", {V, V, S, S, SHIM}, nullptr, "lies between", 1 << TSAN | 1 << PTX},
    {NORM_NO_BARRIER_BEFORE_REUSE, "no barrier before an array is used again", {V, V, S, V | S, SHIM}, nullptr, "lies between", 0},
    {NORM_SAME_VALUE_BY_ALL, "all threads store the same value", {N, N, S, N, SHIM}, nullptr, "lies between", 0},
    {NORM_OFF_BY_ONE_STATIC, "off by one, static shared array", {V, S, V, V | S, V | SHIM}, nullptr, nullptr, 1 << ASAN},
    {NORM_UNSET_MATTERS, "unset shared memory, value matters", {V, V, V, S, V}, nullptr, nullptr, 0},
    {NORM_UNSET_IGNORED, "unset shared memory, value is ignored", {N, N, N, S, N}, nullptr, nullptr, 1 << MSAN},
    {NORM_NO_SYNCWARP, "no __syncwarp", {V, V, S, V | S, SHIM}, nullptr, "no bar.warp.sync lies between", 0},
    {NORM_BEYOND_ODD_TENSOR, "one element past a tensor of odd size", {N, S, N, N, SHIM}, nullptr, "past the end of 7224 bytes", 0},
    {NORM_ROW_MASK_FORGOTTEN, "row mask forgotten", {S, S, S, S, SHIM}, nullptr, "past the end of 7224 bytes", 0},
    {NORM_FAR_STRIDE, "far stride past the end", {S, S, S, S, SHIM}, nullptr, "past the end of 7224 bytes", 0},
    {NORM_MISALIGNED_LD, "misaligned load by ldk_ld", {SHIM, SHIM, SHIM, SHIM, SHIM}, "misaligned", "not a multiple of 8", 0},
    {NORM_MISALIGNED_CAST, "misaligned load by a cast", {N, S, N, N, SHIM}, nullptr, "not a multiple of 8", 0},
    {NORM_SAME_ELEMENT_BY_TWO_BLOCKS, "two blocks write the same element", {V, V, V, V | S, V}, nullptr, nullptr, 0},
    {GEMM_NO_BARRIER_IN_LOOP, "no barrier in the GEMM loop", {V, V | S, S, S, SHIM}, nullptr, "lies between", 0},
    {GEMM_NO_WAIT, "no wait for copies", {V | SHIM, S, V | S | SHIM, S | SHIM, SHIM}, nullptr, "a copy under way", 0},
    {GEMM_WAIT_SHORT, "wait one group short", {V, S, V | S, S, SHIM}, nullptr, "a copy under way", 0},
    {GEMM_NO_COMMIT, "no commit", {V | SHIM, S, V | S | SHIM, S | SHIM, SHIM}, nullptr, "a copy under way", 0},
    {GEMM_COPY_INTO_READ_STAGE, "copy into the stage being read", {V, S, S, S, SHIM}, nullptr, "lies between", 0},
    {GEMM_ONLY_SYNCWARP, "wait, but no barrier to the other warp", {V, V | S, S, S, SHIM}, nullptr, "no barrier lies between", 0},
    {GEMM_LDMATRIX_8_OFF, "ldmatrix row 8 bytes off", {SHIM, SHIM, SHIM, SHIM, SHIM}, "misaligned", "not a multiple of 16", 0},
    {GEMM_LDMATRIX_LOCAL, "ldmatrix of a local array", {SHIM, SHIM, SHIM, SHIM, SHIM}, "bytes of shared memory", "bytes past the end", 0},
    {GEMM_MISALIGNED_SOURCE, "misaligned source of a copy", {SHIM, SHIM, SHIM, SHIM, SHIM}, "misaligned", "not a multiple of 16", 0},
    {GEMM_OFF_BY_ONE_DYNAMIC, "off by one, dynamic shared memory", {V, S, V, S, SHIM}, nullptr, "past the end of 3840 bytes", 0},
    {GEMM_TOO_MUCH_SHARED, "more shared memory than opted in to", {SHIM, SHIM, SHIM, SHIM, SHIM}, "the launch gave 1", "the launch gave 1", 0},
    {GEMM_LEAVES_IN_FLIGHT, "leaves with copies in flight", {SHIM, SHIM, SHIM, SHIM, SHIM}, "copies in flight", "still under way when the thread ends", 0},
    {ATTENTION_NO_BARRIER_BEFORE_K, "no barrier before K's tile is refilled", {V, V | S, S, V | S, SHIM}, nullptr, "lies between", 0},
    {ATTENTION_NO_BARRIER_BEFORE_V, "no barrier before V's tile is refilled", {V, V | S, S, V | S, SHIM}, nullptr, "lies between", 0},
    {CONTROL_DIVERGENT_BARRIER, "divergent barrier", {SHIM, SHIM, SHIM, SHIM, N}, "divergent barrier", nullptr, 0},
    {CONTROL_DIVERGENT_ON_ONE_LINE, "divergent barrier on one line", {SHIM, SHIM, SHIM, SHIM, N}, "divergent barrier", nullptr, 0},
    {CONTROL_RETURN_BEFORE_BARRIER, "return before a barrier", {SHIM, SHIM, SHIM, SHIM, SHIM}, "left the kernel", "have ended", 0},
    {CONTROL_SHUFFLE_IN_BRANCH, "shuffle in a branch with a full mask", {SHIM, SHIM, SHIM, SHIM, SHIM}, "left the kernel", "have ended", 0},
    {CONTROL_SHUFFLE_FROM_OUTSIDE_MASK, "shuffle from outside the mask", {SHIM, SHIM, SHIM, SHIM, SHIM}, "not in mask", "not in member mask", 0},
    {CONTROL_LANE_OUTSIDE_OWN_MASK, "lane not in its own mask", {SHIM, SHIM, SHIM, SHIM, SHIM}, "not in its mask", "not in its own member mask", 0},
    {CONTROL_MASK_NAMES_FINISHED_LANE, "mask names a finished lane", {SHIM, SHIM, SHIM, SHIM, SHIM}, "left the kernel", "have ended", 0},
    {CONTROL_NAMED_BARRIER_WRONG_ID, "named barrier with wrong number", {SHIM, SHIM, SHIM, SHIM, SHIM}, "deadlock", "deadlock", 0},
    {CONTROL_NAMED_BARRIER_WRONG_COUNT, "named barrier with wrong count", {SHIM, SHIM, SHIM, SHIM, SHIM}, "threads, but", "but of 64 for those", 0},
    {CONTROL_LANES_AT_DIFFERENT_PLACES, "lanes meet from different places", {SHIM, SHIM, SHIM, SHIM, SHIM}, "of its mask are in", "wait for ever", 0},
};
/* clang-format on */

/* ---- The child: one bug ---------------------------------------------------------------------- */

enum { ROWS = 6, COLUMNS = 301 };

struct operands {
    const void *a, *b;
    float *y;
    int bug;
};

static int run_norm(void *context)
{
    const operands *o = static_cast<operands *>(context);
    return LDK_LAUNCH(planted_norm, dim3(ROWS + 1), dim3(NORM_THREADS), 0, nullptr,
                      static_cast<const float *>(o->a), static_cast<int>(ROWS),
                      static_cast<int>(COLUMNS), o->y, o->bug);
}

static int run_gemm(void *context)
{
    const operands *o = static_cast<operands *>(context);
    const size_t bytes = o->bug == GEMM_TOO_MUCH_SHARED ? 60 * 1024 : 3 * GEMM_STAGE_CHUNKS * 16;
    return LDK_LAUNCH(planted_gemm, dim3(1), dim3(GEMM_THREADS), bytes, nullptr,
                      static_cast<const half *>(o->a), static_cast<const half *>(o->b), o->y,
                      o->bug);
}

static int run_attention(void *context)
{
    const operands *o = static_cast<operands *>(context);
    return LDK_LAUNCH(planted_attention, dim3(1), dim3(ATTENTION_THREADS), 0, nullptr,
                      static_cast<const float *>(o->a), static_cast<const float *>(o->b), o->y,
                      o->bug);
}

static int run_control(void *context)
{
    const operands *o = static_cast<operands *>(context);
    return LDK_LAUNCH(planted_control, dim3(1), dim3(CONTROL_THREADS), 0, nullptr,
                      static_cast<const float *>(o->a), o->y, o->bug);
}

/* Three orders, all of them before a verdict, so that a sanitizer may speak first. */
static int verdict(int (*run)(void *), operands *o, const double *want, size_t count)
{
    static float first[ROWS * COLUMNS], again[ROWS * COLUMNS];
    static const uint64_t orders[] = {0, 1, 77};
    bool differ = false, wrong = false;
    o->y = static_cast<float *>(hc_device(count * sizeof(float)));
    for (int i = 0; i < 3; i++) {
        hc_seed(orders[i]);
        const int code = run(o);
        if (code != 0) {
            fprintf(stderr, "the launch gave %d\n", code);
            return LDK_HOST_FAULT;
        }
        float *values = i == 0 ? first : again;
        hc_download(values, o->y, count * sizeof(float));
        differ = differ || memcmp(first, values, count * sizeof(float)) != 0;
        for (size_t j = 0; j < count; j++)
            wrong = wrong || !(fabs(static_cast<double>(values[j]) - want[j]) <=
                               1e-3 * (1.0 + fabs(want[j])));
    }
    hc_free_all();
    return wrong ? VALUES_STATUS : differ ? ORDERS_STATUS : 0;
}

static int norm_bug(int bug)
{
    static float x[ROWS * COLUMNS];
    static double want[ROWS * COLUMNS];
    hc_normal(x, ROWS * COLUMNS, 1.0f, 5);
    for (int r = 0; r < ROWS; r++) {
        double mean = 0.0, squares = 0.0;
        for (int c = 0; c < COLUMNS; c++)
            mean += static_cast<double>(x[r * COLUMNS + c]) / static_cast<double>(COLUMNS);
        for (int c = 0; c < COLUMNS; c++) {
            const double d = static_cast<double>(x[r * COLUMNS + c]) - mean;
            squares += d * d / static_cast<double>(COLUMNS);
        }
        for (int c = 0; c < COLUMNS; c++)
            want[r * COLUMNS + c] =
                (static_cast<double>(x[r * COLUMNS + c]) - mean) / sqrt(squares + 1e-5);
    }
    operands o = {hc_upload(x, sizeof x), nullptr, nullptr, bug};
    return verdict(run_norm, &o, want, ROWS * COLUMNS);
}

static int gemm_bug(int bug)
{
    float a[32 * GEMM_DEPTH], b[8 * GEMM_DEPTH];
    double want[256];
    hc_normal(a, 32 * GEMM_DEPTH, 1.0f, 6);
    hc_normal(b, 8 * GEMM_DEPTH, 1.0f, 7);
    operands o = {hc_tensor(a, 32 * GEMM_DEPTH, LDK_F16), hc_tensor(b, 8 * GEMM_DEPTH, LDK_F16),
                  nullptr, bug};
    for (int i = 0; i < 256; i++) {
        want[i] = 0.0;
        for (int k = 0; k < GEMM_DEPTH; k++)
            want[i] += static_cast<double>(a[i / 8 * GEMM_DEPTH + k]) *
                       static_cast<double>(b[i % 8 * GEMM_DEPTH + k]);
    }
    return verdict(run_gemm, &o, want, 256);
}

static int attention_bug(int bug)
{
    enum { COUNT = ATTENTION_TILES * ATTENTION_THREADS * 4 };
    int32_t integers[2 * COUNT];
    float k[COUNT], v[COUNT];
    hc_integers(integers, 2 * COUNT, 1, 9, 8);
    for (int i = 0; i < COUNT; i++) {
        k[i] = static_cast<float>(integers[i]);
        v[i] = static_cast<float>(integers[COUNT + i]);
    }
    double total = 0.0, want[ATTENTION_THREADS];
    for (int t = 0; t < ATTENTION_TILES; t++) {
        double score = 0.0, values = 0.0;
        for (int i = 0; i < ATTENTION_THREADS; i++) {
            score += static_cast<double>(k[(t * ATTENTION_THREADS + i) * 4]);
            values += static_cast<double>(v[(t * ATTENTION_THREADS + i) * 4 + 1]);
        }
        total += score * values;
    }
    for (int i = 0; i < ATTENTION_THREADS; i++)
        want[i] = total;
    operands o = {hc_upload(k, sizeof k), hc_upload(v, sizeof v), nullptr, bug};
    return verdict(run_attention, &o, want, ATTENTION_THREADS);
}

static int control_bug(int bug)
{
    float x[CONTROL_THREADS];
    double want[CONTROL_THREADS];
    hc_normal(x, CONTROL_THREADS, 1.0f, 9);
    for (int i = 0; i < CONTROL_THREADS; i++)
        want[i] = static_cast<double>(x[i]) + static_cast<double>(x[i ^ 32]);
    operands o = {hc_upload(x, sizeof x), nullptr, nullptr, bug};
    return verdict(run_control, &o, want, CONTROL_THREADS);
}

static int child(int bug)
{
    if (bug == CORRECT) {
        int (*const all[])(int) = {norm_bug, gemm_bug, attention_bug, control_bug};
        for (int i = 0; i < 4; i++) {
            const int status = all[i](CORRECT);
            if (status != 0)
                return status;
        }
        return 0;
    }
    if (bug < GEMM_NO_BARRIER_IN_LOOP)
        return norm_bug(bug);
    if (bug < ATTENTION_NO_BARRIER_BEFORE_K)
        return gemm_bug(bug);
    return bug < CONTROL_DIVERGENT_BARRIER ? attention_bug(bug) : control_bug(bug);
}

/* ---- The judge ------------------------------------------------------------------------------- */

static int finder(int status)
{
    switch (status) {
    case 0:
        return NOTHING;
    case VALUES_STATUS:
        return VALUES;
    case ORDERS_STATUS:
        return ORDERS;
    case LDK_HOST_FAULT:
        return SHIM;
    case HC_SANITIZER_STATUS:
    case 128 + 7:  /* SIGBUS */
    case 128 + 11: /* SIGSEGV */
        return SANITIZER;
    default:
        return 0;
    }
}

static const char *finder_name(int finder)
{
    switch (finder) {
    case NOTHING:
        return "nothing";
    case VALUES:
        return "values";
    case ORDERS:
        return "orders";
    case SHIM:
        return "shim";
    case SANITIZER:
        return "sanitizer";
    default:
        return "?";
    }
}

static void judge(const bug &b)
{
    static char said[65536];
    char number[16];
    snprintf(number, sizeof number, "%d", static_cast<int>(b.number));
    hc_case("%s", b.name);
    const int status = hc_child(number, said, sizeof said, 200, b.lines >> build & 1);
    const int who = finder(status);
    printf("%-45s %s\n", b.name, finder_name(who));
    bool ok = (who & b.found_by[build]) != 0;
    hc_expect(ok, "status %d: %.2000s", status, said);
    const char *says = build == PTX ? b.ptx_says : b.says;
    if (ok && who == SHIM && says)
        hc_expect(strstr(said, says), "the sentence has no '%s': %.500s", says, said);
    if (ok && who == SHIM && b.number != GEMM_TOO_MUCH_SHARED)
        hc_expect(strstr(said, "planted_"), "the kernel is not named: %.500s", said);
    /* Without its symbolizer MemorySanitizer knows no line at all, not even this file's. */
    const bool knows = build != MSAN || strstr(said, "test_planted.cu:");
    if (ok && (b.lines >> build & 1) && knows)
        hc_expect(strstr(said, "planted_kernels.cuh:"), "the report names no line: %.2000s", said);
}

int main(int count, char **arguments)
{
#if defined(__CUDACC__)
    ptx_options()->races = true;
#endif
    if (count == 2)
        return child(atoi(arguments[1]));
    static const bug correct = {CORRECT, "the correct kernels", {N, N, N, N, N}, nullptr, nullptr,
                                0};
    judge(correct);
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++)
        judge(bugs[i]);
    hc_case("the list");
    hc_expect(sizeof bugs / sizeof bugs[0] == PLANTED_COUNT - 1, "every bug is in the list");
    return hc_report();
}
