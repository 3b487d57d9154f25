/* The files that a request asks for, pictures and previews: what this build writes, what a format
 * can say. */
#include "api/validate.h"
#include "runtime/image/picture_kind.h"

/* "png, jpeg and webp", as far as this build writes them. */
static void list_built(char *out, size_t size)
{
    const char *words[LD_PICTURE_KINDS];
    size_t count = 0, used = 0;
    for (int kind = 0; kind < LD_PICTURE_KINDS; kind++)
        if (ld_picture_kind_built((enum ld_picture_kind)kind))
            words[count++] = ld_picture_kind_name((enum ld_picture_kind)kind);
    for (size_t i = 0; i < count && used < size; i++) {
        const char *joint = i == 0 ? "" : i + 1 == count ? " and " : ", ";
        (void)ld_fmt(out + used, size - used, "%s%s", joint, words[i]);
        used += strlen(out + used);
    }
}

static enum ld_picture_kind kind_of(const char *word)
{
    enum ld_picture_kind kind = LD_PICTURE_PNG;
    (void)ld_picture_kind_find(word, &kind); /* a word of the table */
    return kind;
}

static void check_built(enum ld_picture_kind kind, const char *path, const char *pointer,
                        struct ld_problem *problem)
{
    char built[64];
    if (ld_picture_kind_built(kind))
        return;
    list_built(built, sizeof built);
    (void)ld_problem_add(problem, LD_E_UNSUPPORTED, pointer,
                         "%s %s: latentd was built without %s here; it writes %s", path,
                         ld_picture_kind_name(kind), ld_picture_kind_library(kind), built);
}

static void warn(const struct ld_request *request, enum ld_picture_kind kind,
                 struct ld_warnings *warnings)
{
    const bool lossy = kind != LD_PICTURE_PNG && !request->output_lossless;
    if (ld_request_has(request, "output.quality") && !lossy)
        ld_warnings_add(warnings, "output.quality has no effect on %s, which loses nothing",
                        kind == LD_PICTURE_PNG ? "png" : "lossless webp");
    if (ld_request_has(request, "output.compression") && kind != LD_PICTURE_PNG)
        ld_warnings_add(warnings, "output.compression has an effect on png only");
    if (ld_request_has(request, "output.lossless") && kind == LD_PICTURE_PNG)
        ld_warnings_add(warnings, "output.lossless has no effect on png, which loses nothing");
}

bool ld_request_check_sides(const struct ld_request *request, int64_t width, int64_t height,
                            struct ld_problem *problem)
{
    const int64_t side_max = ld_picture_kind_side_max(kind_of(request->output_format));
    if (width <= side_max && height <= side_max)
        return true;
    (void)ld_problem_add(problem, LD_E_RANGE, "/output/format",
                         "output.format %s holds sides of at most %lld pixels, not %lldx%lld",
                         request->output_format, (long long)side_max, (long long)width,
                         (long long)height);
    return false;
}

void ld_request_check_output(const struct ld_request *request, struct ld_warnings *warnings,
                             struct ld_problem *problem)
{
    const enum ld_picture_kind kind = kind_of(request->output_format);
    int64_t width, height;
    check_built(kind, "output.format", "/output/format", problem);
    check_built(kind_of(request->preview_format), "preview.format", "/preview/format", problem);
    if (request->output_lossless && kind == LD_PICTURE_JPEG)
        (void)ld_problem_add(problem, LD_E_INVALID, "/output/lossless",
                             "output.lossless: jpeg always loses something; webp and png do not");
    ld_request_final_size(request, &width, &height);
    (void)ld_request_check_sides(request, width, height, problem);
    if (warnings)
        warn(request, kind, warnings);
}
