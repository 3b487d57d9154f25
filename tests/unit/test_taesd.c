/*
 * Proves that a TAESD decoder from a file gives the numbers of its formula, at every CPU level and
 * on the GPU's backend (over plain memory), whichever of the four namings the file has, and that
 * what is no such decoder is refused in one sentence. The reference is plain loops in double.
 */
#include "kernels/cuda/backend.h"
#include "runtime/base/arena.h"
#include "runtime/model/safetensors_write.h"
#include "runtime/model/taesd.h"
#include "tests/cuda/fake_gpu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONVS_MAX = 40, WIDTH_MAX = 64, CELLS_MAX = 6 * 8 };

/* One convolution of the file; number -1 ends the list. */
struct conv {
    int number, part; /* layer, and 0, 2, 4 within a block or -1 */
    int rows, k;
    bool bias;
    float weight[WIDTH_MAX * WIDTH_MAX * 9], shift[WIDTH_MAX];
};
static struct conv convs[CONVS_MAX];
static int conv_count;

/* ---- Random weights -------------------------------------------------------------------------- */

static uint64_t state;
static float uniform(void)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (float)(state >> 40) / (float)(1 << 23) - 1.0F;
}

static void add_conv(int number, int part, int rows, int k, bool bias)
{
    struct conv *c = &convs[conv_count++];
    *c = (struct conv){.number = number, .part = part, .rows = rows, .k = k, .bias = bias};
    for (int i = 0; i < rows * k * 9; i++)
        c->weight[i] = uniform() * sqrtf(3.0F / (float)(9 * k));
    for (int i = 0; i < rows; i++)
        c->shift[i] = bias ? 0.3F * uniform() : 0.0F;
}

static void add_block(int number, int width)
{
    for (int part = 0; part <= 4; part += 2)
        add_conv(number, part, width, width, true);
}

static void make_weights(int width)
{
    static const int blocks[] = {3, 4, 5, 8, 9, 10, 13, 14, 15, 18};
    static const int ups[] = {7, 12, 17};
    conv_count = 0;
    state = 7;
    add_conv(1, -1, width, 4, true);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        add_block(blocks[i], width);
    for (size_t i = 0; i < sizeof ups / sizeof ups[0]; i++)
        add_conv(ups[i], -1, width, width, false);
    add_conv(19, -1, 3, width, true);
}

static const struct conv *conv_of(int number, int part)
{
    int found = 0;
    while (found < conv_count && (convs[found].number != number || convs[found].part != part))
        found++;
    assert_true(found < conv_count);
    return &convs[found];
}

/* ---- The formula ----------------------------------------------------------------------------- */

/* Planes [channels, height, width]. */
struct map {
    int channels, height, width;
    double *v;
};

static struct map map_new(int channels, int height, int width)
{
    struct map m = {channels, height, width, NULL};
    m.v = ld_heap_calloc((size_t)channels * (size_t)height * (size_t)width, sizeof(double));
    assert_non_null(m.v);
    return m;
}

static double at(const struct map *m, int c, int y, int x)
{
    const bool inside = y >= 0 && y < m->height && x >= 0 && x < m->width;
    return inside ? m->v[(c * m->height + y) * m->width + x] : 0.0;
}

/* conv(in) + plus, then ReLU if asked; `in` is freed. */
static struct map convolve(struct map in, int number, int part, const struct map *plus, bool relu)
{
    const struct conv *c = conv_of(number, part);
    struct map out = map_new(c->rows, in.height, in.width);
    assert_int_equal(c->k, in.channels);
    for (int o = 0; o < c->rows; o++)
        for (int y = 0; y < in.height; y++)
            for (int x = 0; x < in.width; x++) {
                double sum = (double)c->shift[o] + (plus ? at(plus, o, y, x) : 0.0);
                for (int k = 0; k < c->k; k++)
                    for (int t = 0; t < 9; t++)
                        sum += (double)c->weight[(o * c->k + k) * 9 + t] *
                               at(&in, k, y + t / 3 - 1, x + t % 3 - 1);
                out.v[(o * in.height + y) * in.width + x] = relu && sum < 0 ? 0 : sum;
            }
    ld_heap_free(in.v);
    return out;
}

static struct map block_of(struct map in, int number)
{
    struct map copy = map_new(in.channels, in.height, in.width);
    memcpy(copy.v, in.v, sizeof(double) * (size_t)(in.channels * in.height * in.width));
    struct map h = convolve(in, number, 0, NULL, true);
    h = convolve(h, number, 2, NULL, true);
    h = convolve(h, number, 4, &copy, true);
    ld_heap_free(copy.v);
    return h;
}

static struct map doubled(struct map in)
{
    struct map out = map_new(in.channels, 2 * in.height, 2 * in.width);
    for (int c = 0; c < in.channels; c++)
        for (int y = 0; y < out.height; y++)
            for (int x = 0; x < out.width; x++)
                out.v[(c * out.height + y) * out.width + x] = at(&in, c, y / 2, x / 2);
    ld_heap_free(in.v);
    return out;
}

static struct map reference(const double *latent, int height, int width)
{
    struct map h = map_new(4, height, width);
    for (int i = 0; i < 4 * height * width; i++)
        h.v[i] = 3.0 * tanh(latent[i] / 3.0);
    h = convolve(h, 1, -1, NULL, true);
    int number = 3;
    for (int level = 0; level < 3; level++) {
        for (int i = 0; i < 3; i++)
            h = block_of(h, number++);
        number++;
        h = convolve(doubled(h), number++, -1, NULL, false);
    }
    return convolve(block_of(h, 18), 19, -1, NULL, false);
}

/* ---- The file -------------------------------------------------------------------------------- */

struct file {
    struct ld_st_item items[2 * CONVS_MAX];
    char names[2 * CONVS_MAX][64];
    const float *data[2 * CONVS_MAX];
    uint32_t count;
};

static void add_item(struct file *f, const char *prefix, int shift, const struct conv *c, bool bias)
{
    char part[16] = "";
    if (c->part >= 0)
        (void)ld_fmt(part, sizeof part, ".conv.%d", c->part);
    (void)ld_fmt(f->names[f->count], sizeof f->names[0], "%s%d%s.%s", prefix, c->number + shift,
                 part, bias ? "bias" : "weight");
    struct ld_st_item *item = &f->items[f->count];
    *item = (struct ld_st_item){.name = f->names[f->count], .dtype = LD_DTYPE_F32, .rank = 1};
    item->shape[0] = (uint64_t)c->rows;
    if (!bias) {
        item->rank = 4;
        item->shape[1] = (uint64_t)c->k;
        item->shape[2] = item->shape[3] = 3;
    }
    f->data[f->count++] = bias ? c->shift : c->weight;
}

static enum ld_code fill(void *ctx, uint32_t index, void *dst, size_t bytes, struct ld_error *err)
{
    (void)err;
    memcpy(dst, ((const struct file *)ctx)->data[index], bytes);
    return LD_OK;
}

/* `left_out`: a layer that is missing, or -1. */
static int write_file(const char *prefix, int shift, int left_out, char path[64])
{
    static struct file f;
    struct ld_error err = {0};
    f.count = 0;
    for (int i = 0; i < conv_count; i++) {
        if (convs[i].number == left_out)
            continue;
        add_item(&f, prefix, shift, &convs[i], false);
        if (convs[i].bias)
            add_item(&f, prefix, shift, &convs[i], true);
    }
    const struct ld_st_write write = {.items = f.items, .count = f.count, .fill = fill, .ctx = &f};
    const int fd = memfd_create("taesd", MFD_CLOEXEC);
    assert_true(fd >= 0);
    if (ld_safetensors_write(fd, &write, &err) != LD_OK)
        fail_msg("%s", err.detail);
    (void)ld_fmt(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static double latent[4 * CELLS_MAX];
static float picture[3 * 64 * CELLS_MAX];

static void fill_latent(void)
{
    state = 11;
    for (size_t i = 0; i < sizeof latent / sizeof latent[0]; i++)
        latent[i] = 5.0 * (double)uniform(); /* beyond 3, where the clamp bends */
}

/* |ours - formula| / |formula|, Euclidean. */
static double distance(struct ld_taesd *taesd, int height, int width)
{
    struct ld_error err = {0};
    if (ld_taesd_decode(taesd, latent, height, width, NULL, picture, &err) != LD_OK)
        fail_msg("%s", err.detail);
    struct map want = reference(latent, height, width);
    double off = 0;
    double all = 0;
    assert_int_equal(want.channels, 3);
    for (int i = 0; i < 3 * want.height * want.width; i++) {
        off += pow((double)picture[i] - want.v[i], 2);
        all += pow(want.v[i], 2);
    }
    ld_heap_free(want.v);
    assert_true(all > 0);
    return sqrt(off / all);
}

/* Two sizes, so that the second plan follows the first, and the first again. */
static double worst(struct ld_backend *backend, const char *path)
{
    struct ld_error err = {0};
    struct ld_taesd *taesd = NULL;
    if (ld_taesd_open(&taesd, backend, path, &err) != LD_OK)
        fail_msg("%s", err.detail);
    double off = distance(taesd, 3, 5);
    off = fmax(off, distance(taesd, 2, 1));
    (void)ld_taesd_trim(taesd);
    off = fmax(off, distance(taesd, 3, 5));
    assert_true(ld_taesd_trim(taesd));
    assert_false(ld_taesd_trim(taesd)); /* there is nothing left to give */
    ld_taesd_destroy(taesd);
    return off;
}

static void the_decoder_gives_the_formulas_numbers(void **unused)
{
    (void)unused;
    char path[64];
    fill_latent();
    static const int widths[] = {8, WIDTH_MAX};
    for (size_t w = 0; w < 2; w++) {
        make_weights(widths[w]);
        const int fd = write_file("", 0, -1, path);
        for (int level = LD_CPU_GENERIC; level < LD_CPU_LEVELS; level++) {
            struct ld_backend *backend = NULL;
            if (ld_cpu_backend_create(&backend, 2, (enum ld_cpu_level)level, NULL) != LD_OK)
                continue; /* not on this machine */
            const double off = worst(backend, path);
            print_message("width %d, %s: off by %.1e\n", widths[w], backend->description, off);
            assert_true(off < 5e-6);
            backend->ops->destroy(backend);
        }
        close(fd);
    }
}

static void the_gpu_backend_gives_them_too(void **unused)
{
    (void)unused;
    char path[64];
    fake_gpu_reset();
    fill_latent();
    make_weights(16);
    const int fd = write_file("", 0, -1, path);
    static const enum ld_dtype types[] = {LD_DTYPE_F16, LD_DTYPE_BF16};
    static const double bounds[] = {4e-3, 3e-2}; /* 11 and 8 bits through 36 layers */
    for (int i = 0; i < 2; i++) {
        struct ld_error err = {0};
        struct ld_backend *backend = NULL;
        const struct ld_cuda_options options = {.dtype = types[i], .threads = 2};
        if (ld_cuda_backend_create(&backend, &options, &err) != LD_OK)
            fail_msg("%s", err.detail);
        const double off = worst(backend, path);
        print_message("%s over plain memory: off by %.1e\n", ld_dtype_name(types[i]), off);
        assert_true(off < bounds[i]);
        backend->ops->destroy(backend);
    }
    close(fd);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void every_naming_is_the_same_decoder(void **unused)
{
    (void)unused;
    static const struct {
        const char *prefix;
        int shift;
    } namings[] = {{"", 0}, {"decoder.", 0}, {"taesd_decoder.", 0}, {"decoder.layers.", -1}};
    struct ld_backend *backend = NULL;
    assert_int_equal(ld_cpu_backend_create(&backend, 1, LD_CPU_AUTO, NULL), LD_OK);
    fill_latent();
    make_weights(8);
    for (size_t i = 0; i < sizeof namings / sizeof namings[0]; i++) {
        char path[64];
        const int fd = write_file(namings[i].prefix, namings[i].shift, -1, path);
        assert_true(worst(backend, path) < 5e-6);
        close(fd);
    }
    backend->ops->destroy(backend);
}

static void refused(struct ld_backend *backend, const char *path, enum ld_code code,
                    const char *words)
{
    struct ld_error err = {0};
    struct ld_taesd *taesd = NULL;
    assert_int_equal(ld_taesd_open(&taesd, backend, path, &err), code);
    assert_null(taesd);
    assert_non_null(strstr(err.detail, words));
    assert_null(strchr(err.detail, '\n'));
}

static void what_is_no_decoder_is_refused_in_a_sentence(void **unused)
{
    (void)unused;
    char path[64];
    struct ld_backend *backend = NULL;
    assert_int_equal(ld_cpu_backend_create(&backend, 1, LD_CPU_AUTO, NULL), LD_OK);
    make_weights(8);
    int fd = write_file("", 0, 17, path);
    refused(backend, path, LD_E_UNSUPPORTED, "lacks the tensor 17.weight");
    close(fd);
    fd = write_file("encoder.", 0, -1, path);
    refused(backend, path, LD_E_UNSUPPORTED, "no TAESD decoder");
    close(fd);
    fd = write_file("", 0, -1, path);
    const off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(ftruncate(fd, size - 4), 0);
    refused(backend, path, LD_E_FORMAT, "");
    assert_int_equal(ftruncate(fd, 5), 0);
    refused(backend, path, LD_E_FORMAT, "");
    close(fd);
    convs[5].rows = 7;
    fd = write_file("", 0, -1, path);
    refused(backend, path, LD_E_SHAPE, "has not the shape of a TAESD decoder's");
    close(fd);
    refused(backend, "/nonexistent/taesd.safetensors", LD_E_NOT_FOUND, "");
    backend->ops->destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_decoder_gives_the_formulas_numbers),
        cmocka_unit_test(the_gpu_backend_gives_them_too),
        cmocka_unit_test(every_naming_is_the_same_decoder),
        cmocka_unit_test(what_is_no_decoder_is_refused_in_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
