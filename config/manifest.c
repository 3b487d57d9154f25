#include "config/manifest.h"

#include "config/embedded.h"
#include "config/ini_text.h"
#include "config/limits.h"
#include "config/nearest.h"
#include "runtime/base/fsx.h"
#include "runtime/base/json_find.h"

#include <dirent.h>
#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

enum { ITEMS_MAX = 64, MANIFESTS_MAX = 64, TAGS_BYTES_MAX = 256 * 1024 };

/* Lists grow to at most ITEMS_MAX while a manifest is read, then lie in the arena. */
struct builder {
    struct ld_manifest *manifest;
    struct ld_arena *arena;
    struct ld_manifest_default defaults[ITEMS_MAX];
    struct ld_manifest_size sizes[ITEMS_MAX];
};

static enum ld_code fail_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "out of memory");
}

static void *copy_items(struct ld_arena *arena, const void *items, uint32_t count, size_t size)
{
    void *copy = ld_arena_calloc(arena, count ? count : 1, size);
    if (copy && count)
        memcpy(copy, items, count * size);
    return copy;
}

/* ---- The INI part ---------------------------------------------------------------------------- */

static bool side_is_legal(int64_t side)
{
    return side >= LD_SIDE_MIN && side <= LD_SIDE_MAX && side % LD_SIDE_STEP == 0;
}

static enum ld_code add_sizes(struct builder *builder, const char *key, const char *value,
                              struct ld_error *err)
{
    const char *note = strcmp(key, "native") == 0 ? "" : "beyond what the model was trained on";
    if (strcmp(key, "native") != 0 && strcmp(key, "stretched") != 0)
        return LD_FAIL(err, LD_E_NOT_FOUND, "unknown key %.64s in [sizes]: native or stretched",
                       key);
    while (*value) {
        const size_t size = strcspn(value, ",");
        const struct ld_span item = ld_span_trimmed(ld_span_of(value, size));
        const uint8_t *cross = item.size ? memchr(item.data, 'x', item.size) : NULL;
        int64_t width;
        int64_t height;
        value += size + (value[size] ? 1 : 0);
        if (item.size == 0)
            continue;
        const size_t split = cross ? (size_t)(cross - item.data) : 0;
        if (!cross || !ld_parse_i64(ld_span_of(item.data, split), &width) ||
            !ld_parse_i64(ld_span_of(cross + 1, item.size - split - 1), &height) ||
            !side_is_legal(width) || !side_is_legal(height))
            return LD_FAIL(err, LD_E_FORMAT,
                           "a size is WIDTHxHEIGHT in multiples of 8 between %d and %d",
                           LD_SIDE_MIN, LD_SIDE_MAX);
        if (builder->manifest->size_count == ITEMS_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "more than %d sizes", ITEMS_MAX);
        const struct ld_manifest_size fresh = {(int32_t)width, (int32_t)height, note};
        builder->sizes[builder->manifest->size_count++] = fresh;
    }
    return LD_OK;
}

static enum ld_code set_word(struct builder *builder, const char *section, const char *key,
                             const char *value, bool continued, struct ld_error *err)
{
    const struct {
        const char *section, *key;
        const char **place;
    } words[] = {
        {"manifest", "title", &builder->manifest->title},
        {"manifest", "models", &builder->manifest->models},
        {"manifest", "prediction", &builder->manifest->prediction},
        {"advice", "samplers", &builder->manifest->sampler_advice},
        {"advice", "schedulers", &builder->manifest->scheduler_advice},
    };
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(key));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i].section, section) != 0)
            continue;
        ld_nearest_offer(&nearest, words[i].key);
        if (strcmp(words[i].key, key) != 0)
            continue;
        const char *before = continued ? *words[i].place : "";
        const size_t size = strlen(before) + strlen(value) + 3;
        char *copy = ld_arena_alloc(builder->arena, size);
        if (!copy)
            return fail_memory(err);
        (void)ld_fmt(copy, size, "%s%s%s", before, before[0] ? ", " : "", value);
        *words[i].place = copy;
        return LD_OK;
    }
    return LD_FAIL(err, LD_E_NOT_FOUND, "unknown key %.64s in [%.64s]%s", key, section,
                   ld_nearest_hint(&nearest));
}

static enum ld_code take_entry(void *ctx, const char *section, const char *key, const char *value,
                               bool continued, struct ld_error *err)
{
    struct builder *builder = ctx;
    if (strcmp(section, "sizes") == 0)
        return add_sizes(builder, key, value, err);
    if (strcmp(section, "manifest") == 0 || strcmp(section, "advice") == 0)
        return set_word(builder, section, key, value, continued, err);
    if (strcmp(section, "defaults") != 0) {
        static const char *const sections[] = {"manifest", "defaults", "sizes", "advice"};
        struct ld_nearest nearest = ld_nearest_to(ld_span_text(section));
        for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
            ld_nearest_offer(&nearest, sections[i]);
        return LD_FAIL(err, LD_E_NOT_FOUND, "unknown section [%.64s]%s", section,
                       ld_nearest_hint(&nearest));
    }
    if (builder->manifest->default_count == ITEMS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "more than %d defaults", ITEMS_MAX);
    struct ld_manifest_default *item = &builder->defaults[builder->manifest->default_count++];
    item->field = ld_arena_strdup(builder->arena, key);
    item->value = ld_arena_strdup(builder->arena, value);
    return item->field && item->value ? LD_OK : fail_memory(err);
}

/* ---- The JSON part --------------------------------------------------------------------------- */

/* The string at LIST/INDEX/KEY; "" if there is none. */
static enum ld_code item_text(struct builder *builder, struct ld_span tags, const char *list,
                              uint32_t index, const char *key, const char **out,
                              struct ld_error *err)
{
    char pointer[96];
    char text[2048];
    *out = "";
    (void)ld_fmt(pointer, sizeof pointer, "%s/%u/%s", list, index, key);
    if (!ld_json_find_string(tags, pointer, text, sizeof text))
        return LD_OK;
    *out = ld_arena_strdup(builder->arena, text);
    return *out ? LD_OK : fail_memory(err);
}

static enum ld_code read_presets(struct builder *builder, struct ld_span tags, const char *list,
                                 const struct ld_manifest_preset **out, uint32_t *count,
                                 struct ld_error *err)
{
    struct ld_manifest_preset presets[ITEMS_MAX];
    uint32_t i = 0;
    for (; i < ITEMS_MAX; i++) {
        const char *position;
        enum ld_code code = item_text(builder, tags, list, i, "name", &presets[i].name, err);
        if (code == LD_OK)
            code = item_text(builder, tags, list, i, "text", &presets[i].text, err);
        if (code == LD_OK)
            code = item_text(builder, tags, list, i, "position", &position, err);
        if (code != LD_OK)
            return code;
        if (presets[i].name[0] == '\0')
            break;
        presets[i].in_front = strcmp(position, "end") != 0;
    }
    *out = copy_items(builder->arena, presets, i, sizeof presets[0]);
    *count = i;
    return *out ? LD_OK : fail_memory(err);
}

static enum ld_code read_renames(struct builder *builder, struct ld_span tags, struct ld_error *err)
{
    struct ld_manifest_rename renames[ITEMS_MAX];
    uint32_t i = 0;
    for (; i < ITEMS_MAX; i++) {
        enum ld_code code = item_text(builder, tags, "/renamed", i, "from", &renames[i].from, err);
        if (code == LD_OK)
            code = item_text(builder, tags, "/renamed", i, "to", &renames[i].to, err);
        if (code != LD_OK)
            return code;
        if (renames[i].from[0] == '\0')
            break;
    }
    builder->manifest->renamed = copy_items(builder->arena, renames, i, sizeof renames[0]);
    builder->manifest->renamed_count = i;
    return builder->manifest->renamed ? LD_OK : fail_memory(err);
}

static bool find_year(struct ld_span tags, const char *pointer, int32_t *out)
{
    struct ld_json_token token;
    int64_t value;
    return ld_json_find(tags, pointer, &token) && token.kind == LD_JSON_INTEGER &&
           ld_parse_i64(token.text, &value) && value >= 1900 && value <= 2100 &&
           ld_narrow_i32(value, out);
}

static enum ld_code read_years(struct builder *builder, struct ld_span tags, struct ld_error *err)
{
    struct ld_manifest *manifest = builder->manifest;
    char word[64];
    if (!ld_json_find_string(tags, "/year/word", word, sizeof word))
        return LD_OK;
    if (!find_year(tags, "/year/from", &manifest->year_from) ||
        !find_year(tags, "/year/to", &manifest->year_to) ||
        !find_year(tags, "/year/reliable_to", &manifest->year_reliable_to) ||
        manifest->year_from > manifest->year_to)
        return LD_FAIL(err, LD_E_FORMAT, "year must have from, to and reliable_to, 1900 to 2100");
    manifest->year_word = ld_arena_strdup(builder->arena, word);
    return manifest->year_word ? LD_OK : fail_memory(err);
}

static enum ld_code read_tags(struct builder *builder, struct ld_span tags, struct ld_error *err)
{
    struct ld_manifest *manifest = builder->manifest;
    struct ld_json json;
    struct ld_json_token token = {0};
    char name[64];
    if (tags.size == 0)
        tags = ld_span_text("{}");
    ld_json_init(&json, tags, 8, 4096);
    do /* find_* stop at the first answer: see first that all of it is JSON */
        if (ld_json_next(&json, &token, err) != LD_OK)
            return err ? err->code : LD_E_FORMAT;
    while (token.kind != LD_JSON_END);
    if (ld_json_find_string(tags, "/quality/default", name, sizeof name)) {
        manifest->quality_default = ld_arena_strdup(builder->arena, name);
        if (!manifest->quality_default)
            return fail_memory(err);
    }
    enum ld_code code = read_presets(builder, tags, "/quality/presets", &manifest->quality,
                                     &manifest->quality_count, err);
    if (code == LD_OK)
        code = read_presets(builder, tags, "/undesired", &manifest->undesired,
                            &manifest->undesired_count, err);
    if (code == LD_OK)
        code = read_presets(builder, tags, "/rating", &manifest->ratings, &manifest->rating_count,
                            err);
    if (code == LD_OK)
        code = read_years(builder, tags, err);
    if (code == LD_OK)
        code = read_renames(builder, tags, err);
    if (code == LD_OK && manifest->quality_default[0] &&
        !ld_manifest_quality(manifest, manifest->quality_default))
        code = LD_FAIL(err, LD_E_FORMAT, "the default quality preset does not exist");
    return code;
}

enum ld_code ld_manifest_parse(struct ld_manifest *manifest, const char *name, struct ld_span conf,
                               struct ld_span tags, struct ld_arena *arena, struct ld_error *err)
{
    struct builder builder = {.manifest = manifest, .arena = arena};
    const struct ld_manifest empty = {.title = "",
                                      .models = "",
                                      .prediction = "",
                                      .sampler_advice = "",
                                      .scheduler_advice = "",
                                      .quality_default = "",
                                      .year_word = ""};
    *manifest = empty;
    manifest->name = ld_arena_strdup(arena, name);
    if (!manifest->name)
        return fail_memory(err);
    enum ld_code code = ld_ini_parse(conf, take_entry, &builder, err);
    if (code == LD_OK)
        code = read_tags(&builder, tags, err);
    if (code != LD_OK)
        return code;
    if (strcmp(manifest->prediction, "") != 0 && strcmp(manifest->prediction, "eps") != 0 &&
        strcmp(manifest->prediction, "v") != 0)
        return LD_FAIL(err, LD_E_FORMAT, "prediction must be eps or v");
    manifest->defaults =
        copy_items(arena, builder.defaults, manifest->default_count, sizeof builder.defaults[0]);
    manifest->sizes =
        copy_items(arena, builder.sizes, manifest->size_count, sizeof builder.sizes[0]);
    return manifest->defaults && manifest->sizes ? LD_OK : fail_memory(err);
}

/* ---- Sets ------------------------------------------------------------------------------------ */

/* "novelai_v2" of "novelai_v2.conf"; false for other files. */
static bool conf_name(const char *file, char *out, size_t out_size)
{
    const size_t size = strlen(file);
    return size > 5 && strcmp(file + size - 5, ".conf") == 0 &&
           ld_fmt(out, out_size, "%.*s", (int)(size - 5), file);
}

static enum ld_code put_manifest(struct ld_manifest *items, uint32_t *count,
                                 const struct ld_manifest *fresh, struct ld_error *err)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (strcmp(items[i].name, fresh->name) == 0) {
            items[i] = *fresh;
            return LD_OK;
        }
    }
    if (*count == MANIFESTS_MAX)
        return LD_FAIL(err, LD_E_TOO_LARGE, "more than %d manifests", MANIFESTS_MAX);
    items[(*count)++] = *fresh;
    return LD_OK;
}

static enum ld_code load_embedded(struct ld_manifest *items, uint32_t *count,
                                  struct ld_arena *arena, struct ld_error *err)
{
    for (uint32_t i = 0; i < ld_embedded_manifests_count; i++) {
        const struct ld_embedded *file = &ld_embedded_manifests[i];
        char name[64];
        char tags_name[80];
        struct ld_span tags = ld_span_of("", 0);
        struct ld_manifest fresh;
        if (!conf_name(file->name, name, sizeof name))
            continue;
        (void)ld_fmt(tags_name, sizeof tags_name, "%s.tags.json", name);
        for (uint32_t j = 0; j < ld_embedded_manifests_count; j++)
            if (strcmp(ld_embedded_manifests[j].name, tags_name) == 0)
                tags = ld_span_of(ld_embedded_manifests[j].data, ld_embedded_manifests[j].size);
        enum ld_code code =
            ld_manifest_parse(&fresh, name, ld_span_of(file->data, file->size), tags, arena, err);
        if (code == LD_OK)
            code = put_manifest(items, count, &fresh, err);
        if (code != LD_OK)
            return code;
    }
    return LD_OK;
}

/* A file of the folder; empty if `optional` and absent. */
static enum ld_code read_file(int folder, const char *name, bool optional, struct ld_buffer *out,
                              struct ld_error *err)
{
    int fd = -1;
    enum ld_code code = ld_fsx_open_beneath(folder, name, &fd, err);
    if (code == LD_E_NOT_FOUND && optional)
        return LD_OK;
    if (code == LD_OK)
        code = ld_fsx_read_fd(fd, out, err);
    if (fd >= 0)
        (void)close(fd);
    return code;
}

static enum ld_code load_file(struct ld_manifest *items, uint32_t *count, int folder,
                              const char *file, const char *name, struct ld_arena *arena,
                              struct ld_error *err)
{
    struct ld_buffer conf = ld_buffer_make(LD_INI_FILE_BYTES_MAX);
    struct ld_buffer tags = ld_buffer_make(TAGS_BYTES_MAX);
    struct ld_manifest fresh;
    char tags_name[80];
    (void)ld_fmt(tags_name, sizeof tags_name, "%s.tags.json", name);
    enum ld_code code = read_file(folder, file, false, &conf, err);
    if (code == LD_OK)
        code = read_file(folder, tags_name, true, &tags, err);
    if (code == LD_OK)
        code = ld_manifest_parse(&fresh, name, ld_span_of(conf.data, conf.size),
                                 ld_span_of(tags.data, tags.size), arena, err);
    if (code == LD_OK)
        code = put_manifest(items, count, &fresh, err);
    if (code != LD_OK && err) {
        char detail[LD_ERROR_DETAIL_SIZE];
        (void)ld_fmt(detail, sizeof detail, "%s", err->detail);
        code = LD_FAIL(err, code, "manifest %.64s: %.400s", name, detail);
    }
    ld_buffer_deinit(&conf);
    ld_buffer_deinit(&tags);
    return code;
}

static enum ld_code load_folder(struct ld_manifest *items, uint32_t *count, const char *path,
                                struct ld_arena *arena, struct ld_error *err)
{
    int folder = -1;
    DIR *listing = NULL;
    enum ld_code code = ld_fsx_open_dir(path, &folder, err);
    if (code != LD_OK)
        return code;
    const int copy = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    listing = copy >= 0 ? fdopendir(copy) : NULL;
    if (!listing) {
        code = LD_FAIL(err, LD_E_IO, "the folder of manifests cannot be listed");
        if (copy >= 0)
            (void)close(copy);
        goto done;
    }
    for (const struct dirent *entry = readdir(listing); entry && code == LD_OK;
         entry = readdir(listing)) {
        char name[64];
        if (conf_name(entry->d_name, name, sizeof name))
            code = load_file(items, count, folder, entry->d_name, name, arena, err);
    }
done:
    if (listing)
        (void)closedir(listing);
    (void)close(folder);
    return code;
}

enum ld_code ld_manifests_load(struct ld_manifests *set, const char *folder, struct ld_arena *arena,
                               struct ld_error *err)
{
    memset(set, 0, sizeof *set);
    struct ld_manifest *items = ld_arena_calloc(arena, MANIFESTS_MAX, sizeof *items);
    uint32_t count = 0;
    if (!items)
        return fail_memory(err);
    enum ld_code code = load_embedded(items, &count, arena, err);
    if (code == LD_OK && folder && folder[0])
        code = load_folder(items, &count, folder, arena, err);
    if (code != LD_OK)
        return code;
    set->items = items;
    set->count = count;
    return LD_OK;
}

/* ---- Finding --------------------------------------------------------------------------------- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

/* '*' stands for any run of bytes; the classic two-pointer match, linear but for stars. */
static bool matches(struct ld_span pattern, struct ld_span text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX;
    size_t mark = 0;
    while (t < text.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star = p++;
            mark = t;
        } else if (p < pattern.size && lower(pattern.data[p]) == lower(text.data[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}

static bool any_matches(const char *patterns, struct ld_span name)
{
    for (const char *rest = patterns; *rest;) {
        const size_t size = strcspn(rest, ",");
        const struct ld_span pattern = ld_span_trimmed(ld_span_of(rest, size));
        if (pattern.size > 0 && matches(pattern, name))
            return true;
        rest += size + (rest[size] ? 1 : 0);
    }
    return false;
}

bool ld_manifest_pattern_fits(const char *patterns, const char *name)
{
    return any_matches(patterns, ld_span_text(name));
}

const struct ld_manifest *ld_manifests_for(const struct ld_manifests *set, const char *model)
{
    static const char ending[] = ".safetensors";
    struct ld_span name = ld_span_text(model);
    const struct ld_manifest *fallback = set->count ? &set->items[0] : NULL;
    const char *slash = strrchr(model, '/');
    if (slash)
        name = ld_span_text(slash + 1);
    if (name.size >= sizeof ending - 1 &&
        strcasecmp((const char *)name.data + name.size - (sizeof ending - 1), ending) == 0)
        name.size -= sizeof ending - 1;
    for (uint32_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i].name, "default") == 0)
            fallback = &set->items[i];
        else if (any_matches(set->items[i].models, name))
            return &set->items[i];
    }
    return fallback;
}

static const struct ld_manifest_preset *find_preset(const struct ld_manifest_preset *presets,
                                                    uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

double ld_manifest_native_area(const struct ld_manifest *manifest)
{
    double area = 0;
    for (uint32_t i = 0; i < manifest->size_count; i++) {
        const struct ld_manifest_size *size = &manifest->sizes[i];
        const double pixels = (double)size->width * (double)size->height;
        if (size->note[0] == '\0' && pixels > area)
            area = pixels;
    }
    return area;
}

const struct ld_manifest_preset *ld_manifest_quality(const struct ld_manifest *manifest,
                                                     const char *name)
{
    return find_preset(manifest->quality, manifest->quality_count, name);
}

const struct ld_manifest_preset *ld_manifest_undesired(const struct ld_manifest *manifest,
                                                       const char *name)
{
    return find_preset(manifest->undesired, manifest->undesired_count, name);
}

const struct ld_manifest_preset *ld_manifest_rating(const struct ld_manifest *manifest,
                                                    const char *name)
{
    return find_preset(manifest->ratings, manifest->rating_count, name);
}

const char *ld_manifest_renamed(const struct ld_manifest *manifest, const char *tag)
{
    for (uint32_t i = 0; i < manifest->renamed_count; i++)
        if (strcasecmp(manifest->renamed[i].from, tag) == 0)
            return manifest->renamed[i].to;
    return NULL;
}
