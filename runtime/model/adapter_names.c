/*
 * In the kohya schemes dots became underscores, which cannot be undone by rule; so the names are
 * made from the network's modules and looked up.
 *
 * Source   the schemes are those of sd-scripts, LyCORIS, PEFT, three generations of diffusers,
 *          SimpleTuner and ComfyUI.
 */
#include "runtime/model/adapter_names.h"

#include "runtime/model/detect_kind.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 320, NAMES_PER_KEY = 14 };

/* Dots in `stem` become underscores when `flat`. */
static void add(struct ld_module_names *names, const char *prefix, const char *stem, bool flat,
                uint32_t key, bool *failed)
{
    char name[NAME_SIZE];
    if (*failed || names->count == names->capacity ||
        !ld_fmt(name, sizeof name, "%s%s", prefix, stem)) {
        *failed = true;
        return;
    }
    for (char *p = name + strlen(prefix); flat && *p; p++) {
        if (*p == '.')
            *p = '_';
    }
    struct ld_module_name *item = &names->items[names->count++];
    item->name = ld_arena_strdup(&names->arena, name);
    item->key = key;
    *failed = !item->name;
}

/* Early diffusers put the factors into an attention processor: attn1.processor.to_q, with to_out
 * for to_out.0. */
static void add_processor(struct ld_module_names *names, const char *stem, uint32_t key,
                          bool *failed)
{
    static const char *const projections[] = {"to_q", "to_k", "to_v", "to_out.0"};
    for (size_t i = 0; i < sizeof projections / sizeof projections[0]; i++) {
        if (!ld_has_suffix(stem, projections[i]))
            continue;
        char name[NAME_SIZE];
        const size_t length = strlen(stem) - strlen(projections[i]);
        if (!ld_fmt(name, sizeof name, "%.*sprocessor.%.*s", (int)length, stem,
                    (int)strcspn(projections[i], "."), projections[i])) {
            *failed = true;
            return;
        }
        add(names, "unet.", name, false, key, failed);
        add(names, "", name, false, key, failed);
    }
}

static void add_unet(struct ld_module_names *names, const char *ldm, const char *diffusers,
                     uint32_t key, bool *failed)
{
    static const char *const dotted[] = {"unet.", "", "base_model.model.",
                                         "unet.base_model.model."};
    add(names, "lora_unet_", diffusers, true, key, failed);
    add(names, "lora_unet_", ldm, true, key, failed);
    add(names, "lycoris_", diffusers, true, key, failed);
    add(names, "lycoris_", ldm, true, key, failed);
    add(names, "diffusion_model.", ldm, false, key, failed);
    add(names, LD_PREFIX_UNET, ldm, false, key, failed);
    for (size_t i = 0; i < sizeof dotted / sizeof dotted[0]; i++)
        add(names, dotted[i], diffusers, false, key, failed);
    if (strstr(diffusers, ".attn1.") || strstr(diffusers, ".attn2."))
        add_processor(names, diffusers, key, failed);
}

static void add_text(struct ld_module_names *names, const char *diffusers, uint32_t key,
                     bool *failed)
{
    static const char *const dotted[] = {
        "text_encoder.",
        "text_encoder.base_model.model.",
        "text_encoders.clip_l.transformer.",
        "clip_l.transformer.",
        LD_PREFIX_TEXT,
    };
    add(names, "lora_te_", diffusers, true, key, failed);
    add(names, "lora_te1_", diffusers, true, key, failed);
    for (size_t i = 0; i < sizeof dotted / sizeof dotted[0]; i++)
        add(names, dotted[i], diffusers, false, key, failed);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_module_name *)a)->name,
                  ((const struct ld_module_name *)b)->name);
}

/* The name without its final ".weight"; false for other tensors. */
static bool module_of(const char *name, char out[NAME_SIZE])
{
    static const char tail[] = ".weight";
    return ld_has_suffix(name, tail) &&
           ld_fmt(out, NAME_SIZE, "%.*s", (int)(strlen(name) - (sizeof tail - 1)), name);
}

enum ld_code ld_module_names_init(struct ld_module_names *names, const struct ld_keymap *map,
                                  struct ld_error *err)
{
    memset(names, 0, sizeof *names);
    ld_arena_init(&names->arena, "module names", (size_t)64 << 20);
    names->capacity = ld_keymap_count(map) * NAMES_PER_KEY;
    names->items = ld_arena_calloc(&names->arena, names->capacity, sizeof *names->items);
    bool failed = !names->items;
    for (uint32_t i = 0; i < ld_keymap_count(map) && !failed; i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        char ldm[NAME_SIZE];
        char diffusers[NAME_SIZE];
        if (!module_of(key->name, ldm) || !module_of(key->diffusers, diffusers))
            continue;
        if (key->part == LD_PART_UNET)
            add_unet(names, ldm + strlen(LD_PREFIX_UNET), diffusers, i, &failed);
        else if (key->part == LD_PART_TEXT)
            add_text(names, diffusers, i, &failed);
    }
    if (failed)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of an adapter");
    qsort(names->items, names->count, sizeof *names->items, by_name);
    return LD_OK;
}

void ld_module_names_deinit(struct ld_module_names *names)
{
    ld_arena_deinit(&names->arena);
    memset(names, 0, sizeof *names);
}

int32_t ld_module_names_find(const struct ld_module_names *names, const char *name)
{
    const struct ld_module_name wanted = {.name = name};
    const struct ld_module_name *found =
        names->count ? bsearch(&wanted, names->items, names->count, sizeof wanted, by_name) : NULL;
    return found ? (int32_t)found->key : -1;
}
