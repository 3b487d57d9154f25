#include "server/cmd_generate_run.h"

#include "runtime/base/clock.h"
#include "runtime/base/id.h"
#include "runtime/base/json_find.h"
#include "server/cmd_output.h"

#include <stdio.h>

enum { PATH_SIZE = 4096 };

/* ---- Progress -------------------------------------------------------------------------------- */

void ld_generate_on_progress(void *ctx, const struct ld_engine_progress *told)
{
    struct ld_generate_run *run = ctx;
    struct ld_engine_progress of_sweep = *told;
    const struct ld_engine_progress *progress = &of_sweep;
    if (run->pictures) {
        of_sweep.image = run->cell;
        of_sweep.images = run->cells;
        of_sweep.fraction = (run->cell + told->fraction) / run->cells;
    }
    if (run->args->json) {
        struct ld_buffer line = ld_buffer_make(4096);
        ld_buffer_format(&line,
                         "{\"event\":\"progress\",\"phase\":\"%s\",\"image\":%u,\"images\":%u,"
                         "\"step\":%u,\"steps\":%u,\"fraction\":",
                         ld_engine_phase_name(progress->phase), progress->image, progress->images,
                         progress->step, progress->steps);
        ld_buffer_json_double(&line, progress->fraction);
        ld_buffer_text(&line, "}");
        if (!line.failed)
            puts(line.data);
        ld_buffer_deinit(&line);
        fflush(stdout);
    }
    if (!run->args->quiet && progress->phase == LD_PHASE_SAMPLE)
        ld_progress_bar_show(&run->bar, "painting", progress->image, progress->images,
                             progress->step, progress->steps, ld_clock_monotonic_us());
}

/* ---- Pictures -------------------------------------------------------------------------------- */

/* "out.png" for one picture; "out-2.png" for the third of several. */
static bool output_name(const struct ld_generate_args *args, uint32_t index, bool several,
                        char *out, size_t size)
{
    if (!several)
        return ld_fmt(out, size, "%s", args->output);
    const char *slash = strrchr(args->output, '/');
    const char *dot = strrchr(slash ? slash : args->output, '.');
    const size_t stem = dot ? (size_t)(dot - args->output) : strlen(args->output);
    return ld_fmt(out, size, "%.*s-%u%s", (int)stem, args->output, index, dot ? dot : "");
}

static void tell_image(struct ld_generate_run *run, const struct ld_engine_image *image,
                       const char *path)
{
    if (run->args->json) {
        char digest[LD_SHA256_HEX_SIZE];
        struct ld_buffer line = ld_buffer_make(16 * 1024);
        ld_sha256_hex(image->file, digest);
        ld_buffer_format(&line,
                         "{\"event\":\"image\",\"index\":%u,\"seed\":%llu,\"width\":%d,"
                         "\"height\":%d,\"bytes\":%zu,\"sha256\":\"%s\",\"file\":",
                         image->index, (unsigned long long)image->seed, image->width, image->height,
                         image->file.size, digest);
        ld_buffer_json_string(&line, path);
        ld_buffer_text(&line, "}");
        if (!line.failed)
            puts(line.data);
        ld_buffer_deinit(&line);
        fflush(stdout);
    }
    if (!run->args->quiet) {
        ld_progress_bar_clear(&run->bar);
        fprintf(stderr, "%s: %dx%d, seed %llu\n", path, image->width, image->height,
                (unsigned long long)image->seed);
    }
}

void ld_generate_on_image(void *ctx, const struct ld_engine_image *told)
{
    struct ld_generate_run *run = ctx;
    struct ld_engine_image of_sweep = *told;
    const struct ld_engine_image *image = &of_sweep;
    char path[PATH_SIZE];
    if (run->code != LD_OK || image->partial)
        return;
    if (run->pictures) {
        of_sweep.index = run->cell;
        run->code = ld_sweep_keep(run->pictures, run->cell, image->file, &run->err);
    }
    if (run->replay)
        ld_buffer_bytes(&run->painted, image->file.data, image->file.size);
    if (run->code != LD_OK)
        return;
    if (!output_name(run->args, image->index, run->pictures || run->args->request.images > 1, path,
                     sizeof path))
        run->code = LD_FAIL(&run->err, LD_E_INVALID, "the output's name is too long");
    else
        run->code = ld_cmd_write_file(path, image->file, &run->err);
    if (run->code == LD_OK) {
        run->written++;
        tell_image(run, image, path);
    }
}

/* ---- The end --------------------------------------------------------------------------------- */

/* What an ended job has to say, each sentence once over all cells of a sweep, and the prompt that a
 * TIPO model has made of what was given. `warnings`: a JSON array; `request`: as it ran. */
static void tell_end(struct ld_generate_run *run, struct ld_span warnings, struct ld_span request)
{
    static char text[LD_PROMPT_EXPANSION_BYTES_MAX + 1]; /* large */
    char pointer[16];
    if (run->args->quiet || run->args->json)
        return;
    ld_progress_bar_clear(&run->bar);
    for (uint32_t i = 0; i < LD_WARNINGS_MAX; i++) {
        const uint32_t before = run->told.count;
        (void)ld_fmt(pointer, sizeof pointer, "/%u", i);
        if (!ld_json_find_string(warnings, pointer, text, sizeof text))
            break;
        ld_notes_add(&run->told, "%s", text);
        if (run->told.count > before)
            fprintf(stderr, "latentd: note: %s\n", text);
    }
    if (run->args->request.tipo.present && !ld_json_find_span(request, "/tipo", &request) &&
        ld_json_find_string(request, "/prompt", text, sizeof text))
        fprintf(stderr, "prompt: %s\n", text);
}

void ld_generate_on_end(void *ctx, struct ld_span job)
{
    struct ld_span warnings;
    struct ld_span request;
    if (!ld_json_find_span(job, "/warnings", &warnings))
        warnings = ld_span_text("[]");
    if (!ld_json_find_span(job, "/request", &request))
        request = ld_span_text("{}");
    tell_end(ctx, warnings, request);
}

void ld_generate_on_done(void *ctx, const struct ld_engine_report *report,
                         const struct ld_error *err)
{
    struct ld_generate_run *run = ctx;
    run->done = true;
    if (report && (!err || err->code == LD_OK))
        tell_end(run, ld_span_text(report->warnings_json), ld_span_text(report->resolved_json));
    if (err && err->code != LD_OK && run->code == LD_OK) {
        run->code = err->code;
        run->err = *err;
    }
    if (run->args->json && report) {
        printf("{\"event\":\"done\",\"status\":\"%s\",\"text_ms\":%.1f,\"sample_ms\":%.1f,"
               "\"decode_ms\":%.1f,\"encode_ms\":%.1f,\"unet_rows\":%llu,\"unet_rows_saved\":%llu,"
               "\"warnings\":%s,\"adapters\":%s,\"numerics\":%s,\"request\":%s}\n",
               run->code == LD_OK            ? "succeeded"
               : run->code == LD_E_CANCELLED ? "cancelled"
                                             : "failed",
               (double)report->text_us / 1e3, (double)report->sample_us / 1e3,
               (double)report->decode_us / 1e3, (double)report->encode_us / 1e3,
               (unsigned long long)report->unet_rows, (unsigned long long)report->unet_rows_saved,
               report->warnings_json, report->adapters_json, report->numerics_json,
               report->resolved_json);
        fflush(stdout);
    }
}
