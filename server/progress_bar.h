/*
 * Progress for people: a bar with it/s and ETA on a terminal, one plain line now and then
 * otherwise. It only writes; what there is to say comes from the engine's progress reports.
 */
#ifndef LD_SERVER_PROGRESS_BAR_H
#define LD_SERVER_PROGRESS_BAR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Caller's storage. */
struct ld_progress_bar {
    FILE *out;
    bool terminal;
    bool open;        /* a bar stands on the current line */
    int64_t first_us; /* when the first step of this image was reported */
    int64_t line_us;  /* when the last plain line was written */
    uint32_t first_step;
    uint32_t last_image;
};

/* `out` is usually stderr; whether it is a terminal is looked up here. */
void ld_progress_bar_init(struct ld_progress_bar *bar, FILE *out);

/* `phase` is a word ("sample"); `step` of `steps` done; `image` of `images`, 0-based; `now_us` is
 * monotonic. Cheap: at most ten redraws a second, one plain line every five seconds. */
void ld_progress_bar_show(struct ld_progress_bar *bar, const char *phase, uint32_t image,
                          uint32_t images, uint32_t step, uint32_t steps, int64_t now_us);

/* Remove the bar, so that ordinary text may follow. */
void ld_progress_bar_clear(struct ld_progress_bar *bar);

#endif
