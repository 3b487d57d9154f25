/*
 * How a convolution or linear layer is cut into chunks, tiles and tasks. Pure integer arithmetic:
 * nothing here reads an activation or a weight, and nothing depends on who else is in the batch
 * except which tiles are worked on together.
 *
 * A *chunk* is the part of the input that is packed at once: strips of consecutive output rows of
 * one or more images. A strip stores its input rows as a plane of `row_pixels` columns, so that the
 * input of output (r, c) under tap (ky, kx) is at pixel (r * row_pixels + c) + tap offset. With
 * padding one zero column ends each row and serves as the left border of the next. A stride of 2
 * stores four planes, one for each parity of row and column, and is then like a stride of 1.
 */
#ifndef LD_KERNELS_CPU_GEMM_PLAN_H
#define LD_KERNELS_CPU_GEMM_PLAN_H

#include "kernels/cpu/micro.h"

struct ld_gemm_geometry {
    int32_t images;
    int32_t in_h, in_w;   /* stored map */
    int32_t up_h, up_w;   /* 0: no upsampling */
    int32_t src_h, src_w; /* after upsampling */
    int32_t out_h, out_w;
    int32_t kernel, stride, pad;
    bool flat; /* kernel 1, no upsampling: rows are pixels, images do not matter */
    int32_t row_pixels;
    int32_t phases;     /* 1, or 4 with stride 2 */
    int32_t extra_rows; /* stored rows of a plane beyond the strip's output rows */
};

struct ld_gemm_geometry ld_gemm_geometry_conv(const struct ld_conv2d *op);
struct ld_gemm_geometry ld_gemm_geometry_rows(int32_t rows);

/* Strips [first_strip, first_strip + strips) of the whole job; a strip is `strip_rows` output rows
 * of one image (the last of an image may be shorter). */
struct ld_gemm_cut {
    int32_t strip_rows;
    int32_t strips_per_image;
    int32_t strips_total;
    int32_t strips_per_chunk;
    int32_t plane_rows;   /* stored rows of one phase of one strip */
    int64_t strip_pixels; /* all phases and the zero pixel after them */
    int64_t chunk_pixels; /* with room for the last tile's overrun */
    int32_t strip_tiles;  /* at most, in one strip */
    bool tile_each_row;   /* tiles start at row starts; else they run on through the plane */
};

/* `pixel_bytes`: all k-blocks and terms of one pixel. False if a single row of output does not fit
 * `budget` bytes. */
bool ld_gemm_cut_of(struct ld_gemm_cut *cut, const struct ld_gemm_geometry *g, size_t pixel_bytes,
                    size_t budget, int32_t sub);

/* Where one strip lies: image and its output rows [row, row + rows). */
struct ld_gemm_strip {
    int32_t image, row, rows;
};

struct ld_gemm_strip ld_gemm_strip_of(const struct ld_gemm_geometry *g,
                                      const struct ld_gemm_cut *cut, int32_t strip);

/*
 * Tiles of one strip: `start[i]` pixel of the first row of tile i within the strip, `row[i * sub +
 * r]` the output row (over the whole output) of tile row r, -1 where it falls on padding. Returns
 * the number of tiles.
 */
int32_t ld_gemm_strip_tiles(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                            struct ld_gemm_strip strip, int32_t sub, int32_t *start, int32_t *row);

/* Pixels from the tile's own pixel to its input under tap t = ky * kernel + kx. */
int64_t ld_gemm_tap_pixels(const struct ld_gemm_geometry *g, const struct ld_gemm_cut *cut,
                           int32_t tap);

/* How a chunk of tiles by panels becomes tasks. */
struct ld_gemm_tasks {
    int32_t tiles_per_task, panels_per_task;
    int32_t tile_tasks, panel_tasks;
};

struct ld_gemm_tasks ld_gemm_tasks_of(int32_t tiles, int32_t panels, int32_t sub, int32_t nr,
                                      uint32_t threads);

#endif
