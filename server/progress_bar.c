#include "server/progress_bar.h"

#include "runtime/base/bytes.h"

#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 28, REDRAW_US = 100 * 1000, PLAIN_US = 5 * 1000 * 1000 };

void ld_progress_bar_init(struct ld_progress_bar *bar, FILE *out)
{
    memset(bar, 0, sizeof *bar);
    bar->out = out;
    bar->terminal = isatty(fileno(out)) == 1;
}

void ld_progress_bar_clear(struct ld_progress_bar *bar)
{
    if (bar->open)
        fputs("\r\033[K", bar->out);
    bar->open = false;
    fflush(bar->out);
}

/* "0:05", "1:02:03" */
static void format_duration(char *out, size_t size, double seconds)
{
    const unsigned long whole = seconds < 0 ? 0 : (unsigned long)(seconds + 0.5);
    if (whole >= 3600)
        (void)ld_fmt(out, size, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
    else
        (void)ld_fmt(out, size, "%lu:%02lu", whole / 60, whole % 60);
}

/* A rate people can compare: iterations a second, or seconds an iteration when slower than one. */
static void format_rate(char *out, size_t size, uint32_t steps, double seconds)
{
    if (steps == 0 || seconds <= 0)
        (void)ld_fmt(out, size, "-");
    else if ((double)steps >= seconds)
        (void)ld_fmt(out, size, "%.2f it/s", (double)steps / seconds);
    else
        (void)ld_fmt(out, size, "%.2f s/it", seconds / (double)steps);
}

void ld_progress_bar_show(struct ld_progress_bar *bar, const char *phase, uint32_t image,
                          uint32_t images, uint32_t step, uint32_t steps, int64_t now_us)
{
    if (bar->first_us == 0 || image != bar->last_image || step < bar->first_step) {
        bar->first_us = now_us;
        bar->first_step = step;
        bar->last_image = image;
    }
    const bool last = step == steps;
    const int64_t pause = bar->terminal ? REDRAW_US : PLAIN_US;
    if (bar->line_us != 0 && now_us - bar->line_us < pause && !last)
        return;
    bar->line_us = now_us;

    char rate[32];
    char eta[32];
    char count[32] = "";
    const double elapsed = (double)(now_us - bar->first_us) / 1e6;
    const uint32_t done = step - bar->first_step;
    format_rate(rate, sizeof rate, done, elapsed);
    if (done > 0)
        format_duration(eta, sizeof eta, elapsed / (double)done * (double)(steps - step));
    else
        (void)ld_fmt(eta, sizeof eta, "-");
    if (images > 1)
        (void)ld_fmt(count, sizeof count, " %u/%u", image + 1, images);
    if (!bar->terminal) {
        fprintf(bar->out, "%s%s: step %u of %u, %s, %s left\n", phase, count, step, steps, rate,
                eta);
        fflush(bar->out);
        return;
    }
    char cells[BAR_CELLS + 1];
    const uint32_t full = steps ? step * BAR_CELLS / steps : 0;
    for (uint32_t i = 0; i < BAR_CELLS; i++)
        cells[i] = i < full ? '#' : '.';
    cells[BAR_CELLS] = '\0';
    fprintf(bar->out, "\r%s%s [%s] %u/%u  %s  ETA %s\033[K", phase, count, cells, step, steps, rate,
            eta);
    fflush(bar->out);
    bar->open = true;
}
