#include "runtime/model/alias.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 320, ALIASES_PER_KEY = 10 };

static void add(struct ld_aliases *aliases, const char *before, const char *middle,
                const char *after, uint32_t key, bool ema, bool *failed)
{
    char name[NAME_SIZE];
    if (*failed || aliases->count == aliases->capacity ||
        !ld_fmt(name, sizeof name, "%s%s%s", before, middle, after)) {
        *failed = true;
        return;
    }
    struct ld_alias *alias = &aliases->items[aliases->count++];
    alias->name = ld_arena_strdup(&aliases->arena, name);
    alias->key = key;
    alias->ema = ema;
    *failed = !alias->name;
}

/* ---- UNet ------------------------------------------------------------------------------------ */

/* model_ema.<name from "diffusion_model" on, every dot removed> */
static void add_ema(struct ld_aliases *aliases, const char *name, uint32_t key, bool *failed)
{
    char squeezed[NAME_SIZE];
    size_t size = 0;
    for (const char *p = name + strlen("model."); *p && size + 1 < sizeof squeezed; p++) {
        if (*p != '.')
            squeezed[size++] = *p;
    }
    squeezed[size] = 0;
    add(aliases, "model_ema.", squeezed, "", key, true, failed);
}

static void add_unet(struct ld_aliases *aliases, const struct ld_key *key, uint32_t index,
                     bool *failed)
{
    static const char *const prefixes[] = {LD_PREFIX_UNET, "diffusion_model.", ""};
    const char *rest = key->name + strlen(LD_PREFIX_UNET);
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        add(aliases, prefixes[i], rest, "", index, false, failed);
    add(aliases, "", key->diffusers, "", index, false, failed);
    add_ema(aliases, key->name, index, failed);
}

/* ---- ControlNet ------------------------------------------------------------------------------ */

static void add_control(struct ld_aliases *aliases, const struct ld_key *key, uint32_t index,
                        bool *failed)
{
    add(aliases, "", key->name, "", index, false, failed);
    add(aliases, "", key->name + strlen(LD_PREFIX_CONTROL), "", index, false, failed);
    add(aliases, "", key->diffusers, "", index, false, failed);
}

/* ---- VAE ------------------------------------------------------------------------------------- */

struct attention_names {
    const char *canonical, *newer, *older; /* diffusers renamed its attention modules once */
};

static const struct attention_names attention_names[] = {
    {".attn_1.q.", ".to_q.", ".query."},
    {".attn_1.k.", ".to_k.", ".key."},
    {".attn_1.v.", ".to_v.", ".value."},
    {".attn_1.proj_out.", ".to_out.0.", ".proj_attn."},
};

/* The attention's projections under the other names, in both layouts. */
static void add_attention(struct ld_aliases *aliases, const struct ld_key *key, uint32_t index,
                          const struct attention_names *names, bool *failed)
{
    const char *stem = strstr(key->name, names->canonical);
    const char *tail = stem + strlen(names->canonical);
    const char *prefixes[] = {key->name, key->name + strlen(LD_PREFIX_VAE)};
    for (size_t i = 0; i < 2; i++) {
        char before[NAME_SIZE];
        const size_t length = (size_t)(stem - prefixes[i]) + strlen(".attn_1");
        if (length >= sizeof before) {
            *failed = true;
            return;
        }
        memcpy(before, prefixes[i], length);
        before[length] = 0;
        add(aliases, before, names->newer, tail, index, false, failed);
        add(aliases, before, names->older, tail, index, false, failed);
    }
    char before[NAME_SIZE];
    const char *newer = strstr(key->diffusers, names->newer);
    const size_t length = newer ? (size_t)(newer - key->diffusers) : sizeof before;
    if (length >= sizeof before) {
        *failed = true;
        return;
    }
    memcpy(before, key->diffusers, length);
    before[length] = 0;
    add(aliases, before, names->older, tail, index, false, failed);
}

static void add_vae(struct ld_aliases *aliases, const struct ld_key *key, uint32_t index,
                    bool *failed)
{
    add(aliases, "", key->name, "", index, false, failed);
    add(aliases, "", key->name + strlen(LD_PREFIX_VAE), "", index, false, failed);
    add(aliases, "", key->diffusers, "", index, false, failed);
    for (size_t i = 0; i < sizeof attention_names / sizeof attention_names[0]; i++) {
        if (strstr(key->name, attention_names[i].canonical))
            add_attention(aliases, key, index, &attention_names[i], failed);
    }
}

/* ---- Text encoder ---------------------------------------------------------------------------- */

static void add_text(struct ld_aliases *aliases, const struct ld_key *key, uint32_t index,
                     bool *failed)
{
    static const char *const prefixes[] = {LD_PREFIX_TEXT, "text_encoders.clip_l.transformer.",
                                           "clip_l.transformer."};
    const char *rest = key->diffusers + strlen("text_model.");
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        add(aliases, prefixes[i], "text_model.", rest, index, false, failed);
        add(aliases, prefixes[i], rest, "", index, false, failed);
    }
    add(aliases, "", key->diffusers, "", index, false, failed);
}

/* ---- The list -------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_alias *)a)->name, ((const struct ld_alias *)b)->name);
}

enum ld_code ld_aliases_init(struct ld_aliases *aliases, const struct ld_keymap *map,
                             struct ld_error *err)
{
    const uint32_t keys = ld_keymap_count(map);
    memset(aliases, 0, sizeof *aliases);
    ld_arena_init(&aliases->arena, "aliases", (size_t)32 << 20);
    aliases->capacity = keys * ALIASES_PER_KEY;
    aliases->items = ld_arena_calloc(&aliases->arena, aliases->capacity, sizeof *aliases->items);
    bool failed = !aliases->items;
    for (uint32_t i = 0; i < keys && !failed; i++) {
        const struct ld_key *key = ld_keymap_at(map, i);
        if (key->part == LD_PART_UNET)
            add_unet(aliases, key, i, &failed);
        else if (key->part == LD_PART_TEXT)
            add_text(aliases, key, i, &failed);
        else if (key->part == LD_PART_CONTROL)
            add_control(aliases, key, i, &failed);
        else
            add_vae(aliases, key, i, &failed);
    }
    if (failed)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
    qsort(aliases->items, aliases->count, sizeof *aliases->items, by_name);
    return LD_OK;
}

void ld_aliases_deinit(struct ld_aliases *aliases)
{
    ld_arena_deinit(&aliases->arena);
    memset(aliases, 0, sizeof *aliases);
}

const struct ld_alias *ld_aliases_find(const struct ld_aliases *aliases, const char *name)
{
    const struct ld_alias wanted = {.name = name};
    return aliases->count ? bsearch(&wanted, aliases->items, aliases->count, sizeof wanted, by_name)
                          : NULL;
}
