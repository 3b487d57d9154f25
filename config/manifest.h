/*
 * What a model wants: its defaults, advised sizes, presets and renamed tags. Plain defaults stand
 * in an INI file (config/models/NAME.conf), texts with punctuation in a JSON file beside it
 * (NAME.tags.json), since an INI reader cuts values at " ;". The shipped manifests are part of the
 * program; files of the same name in a folder replace them.
 *
 *     ld_manifests_load(&set, NULL, &arena, &err);
 *     const struct ld_manifest *manifest = ld_manifests_for(&set, "novelai_v2");
 */
#ifndef LD_CONFIG_MANIFEST_H
#define LD_CONFIG_MANIFEST_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

/* A default for a request field by its path ("steps"); api/resolve.c checks and applies it. */
struct ld_manifest_default {
    const char *field, *value;
};

struct ld_manifest_size {
    int32_t width, height;
    const char *note; /* "", or why it is special */
};

struct ld_manifest_preset {
    const char *name;
    const char *text;
    bool in_front; /* quality tags: before the prompt, else behind it */
};

struct ld_manifest_rename {
    const char *from, *to;
};

/* All strings NUL-terminated, in the arena given to ld_manifests_load. */
struct ld_manifest {
    const char *name; /* file name without ".conf" */
    const char *title;
    const char *models; /* comma-separated patterns over model names, '*' for any run of bytes */
    const char *prediction;                        /* "", "eps", "v" */
    const char *sampler_advice, *scheduler_advice; /* comma-separated, best first */
    const struct ld_manifest_default *defaults;
    uint32_t default_count;
    const struct ld_manifest_size *sizes;
    uint32_t size_count;
    const char *quality_default; /* what `"quality_tags": true` means; "" if there is no preset */
    const struct ld_manifest_preset *quality;
    uint32_t quality_count;
    const struct ld_manifest_preset *undesired;
    uint32_t undesired_count;
    const struct ld_manifest_preset *ratings; /* tags at the prompt's end */
    uint32_t rating_count;
    const char *year_word; /* "year" of "year 2020"; "" for a model that knows no years */
    int32_t year_from, year_to, year_reliable_to;
    const struct ld_manifest_rename *renamed;
    uint32_t renamed_count;
};

struct ld_manifests {
    const struct ld_manifest *items;
    uint32_t count;
};

/*
 * The shipped manifests, with those of `folder` (NULL or "": none) over and beside them.
 * Errors   LD_E_FORMAT (names file and line, unknown section or key with the nearest known one),
 *          LD_E_IO, LD_E_NOT_FOUND (no such folder), LD_E_NOMEM.
 */
enum ld_code ld_manifests_load(struct ld_manifests *set, const char *folder, struct ld_arena *arena,
                               struct ld_error *err) LD_MUST_USE;

/* The manifest whose patterns fit the model name, else the one called "default"; NULL only for an
 * empty set. Letter case, and a ".safetensors" at the end, do not count. */
const struct ld_manifest *ld_manifests_for(const struct ld_manifests *set, const char *model);

/* Pixels of the largest size that stands without a note ("native"); 0 without sizes. */
double ld_manifest_native_area(const struct ld_manifest *manifest);

/* Whether one of the comma-separated patterns fits the name; letter case does not count. */
bool ld_manifest_pattern_fits(const char *patterns, const char *name);

const struct ld_manifest_preset *ld_manifest_quality(const struct ld_manifest *manifest,
                                                     const char *name);
const struct ld_manifest_preset *ld_manifest_undesired(const struct ld_manifest *manifest,
                                                       const char *name);
const struct ld_manifest_preset *ld_manifest_rating(const struct ld_manifest *manifest,
                                                    const char *name);
/* The tag that replaced `tag`, or NULL. */
const char *ld_manifest_renamed(const struct ld_manifest *manifest, const char *tag);

/* One manifest from texts; what ld_manifests_load does for each file. `tags` may be empty. */
enum ld_code ld_manifest_parse(struct ld_manifest *manifest, const char *name, struct ld_span conf,
                               struct ld_span tags, struct ld_arena *arena,
                               struct ld_error *err) LD_MUST_USE;

#endif
