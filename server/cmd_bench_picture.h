/*
 * Pictures to measure with, and the model they share: random token ids through the text encoder,
 * the guided steps of a sampler, the decoder. The weights may be random too, so a picture means
 * nothing; the work is that of any other.
 *
 *     ld_bench_painter_open(&painter, options, &err);
 *     ld_bench_picture_create(&picture, &painter, &err);
 *     ld_bench_picture_encode(&picture, seed, &err);
 *     ld_bench_picture_begin(&picture, seed, &err);
 *     while (ld_bench_picture_rows(&picture, rows)) {      // two: positive, negative
 *         ld_model_unet(...);                              // alone, or with other pictures' rows
 *         ld_bench_picture_accept(&picture, &err);
 *     }
 *     ld_bench_picture_decode(&picture, rgb, &err);
 */
#ifndef LD_SERVER_CMD_BENCH_PICTURE_H
#define LD_SERVER_CMD_BENCH_PICTURE_H

#include "runtime/base/arena.h"
#include "runtime/model/model.h"
#include "runtime/sample/sampler.h"
#include "runtime/sample/schedule.h"
#include "server/cmd_bench.h"

enum { LD_BENCH_PICTURE_ROWS = 2 };

struct ld_bench_painter {
    const struct ld_bench_options *options;
    struct ld_backend *backend;
    struct ld_model *model;
    int32_t height, width;  /* of the latent */
    size_t latent, context; /* floats of one latent, of one prompt's context */
};

/*
 * Opens a backend and the model of `options`, all parts loaded but the encoder. Close it in any
 * case. Errors   LD_E_INVALID (no --model), LD_E_UNSUPPORTED (an inpainting model), those of
 * opening and loading.
 */
enum ld_code ld_bench_painter_open(struct ld_bench_painter *painter,
                                   const struct ld_bench_options *options,
                                   struct ld_error *err) LD_MUST_USE;
void ld_bench_painter_close(struct ld_bench_painter *painter);

struct ld_bench_picture {
    struct ld_bench_painter *painter;
    struct ld_arena arena; /* the sampler's */
    struct ld_sampler *sampler;
    struct ld_sampler_eval eval;
    struct ld_wrapping wrap; /* of the evaluation whose rows are out */
    float *contexts;         /* positive, negative */
    float *x, *eps;          /* [latent], [2][latent] */
    double *walk, *denoised; /* [latent] each */
};

/* Memory for one picture. Destroy it in any case. Errors   LD_E_NOMEM. */
enum ld_code ld_bench_picture_create(struct ld_bench_picture *picture,
                                     struct ld_bench_painter *painter,
                                     struct ld_error *err) LD_MUST_USE;
void ld_bench_picture_destroy(struct ld_bench_picture *picture);

/* Both prompts, other words for another seed. Errors   of ld_model_encode_text. */
enum ld_code ld_bench_picture_encode(struct ld_bench_picture *picture, uint64_t seed,
                                     struct ld_error *err) LD_MUST_USE;

/* Noise of the seed, and the sampler at its first evaluation. Errors   LD_E_NOMEM. */
enum ld_code ld_bench_picture_begin(struct ld_bench_picture *picture, uint64_t seed,
                                    struct ld_error *err) LD_MUST_USE;

/* The rows of the next evaluation; false when the picture is painted. They point into it. */
bool ld_bench_picture_rows(struct ld_bench_picture *picture,
                           struct ld_unet_row rows[LD_BENCH_PICTURE_ROWS]);

/* The guided estimate of the rows' answers goes to the sampler. Errors   of ld_sampler_accept. */
enum ld_code ld_bench_picture_accept(struct ld_bench_picture *picture,
                                     struct ld_error *err) LD_MUST_USE;

/* `rgb` [3, 8h, 8w]. Errors   of ld_model_decode. */
enum ld_code ld_bench_picture_decode(const struct ld_bench_picture *picture, float *rgb,
                                     struct ld_error *err) LD_MUST_USE;

#endif
