#include "runtime/model/keymap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 8192, NAME_SIZE = 192, RES_BLOCKS = 2 /* of each level on the way down */ };
enum { SKIPS_MAX = 1 + LD_LEVELS_MAX * (RES_BLOCKS + 1) };

struct ld_keymap {
    struct ld_arena arena;
    struct ld_key *keys;
    uint32_t count;
};

/* A place in the network under both spellings. */
struct place {
    char name[NAME_SIZE];
    char diffusers[NAME_SIZE];
};

struct builder {
    struct ld_keymap *map;
    enum ld_part part;
    const char *prefix; /* of the canonical names of a UNet or of a ControlNet */
    bool failed;
};

/* What a module holds; rank and kernel follow from it. */
enum shape { NORM, LINEAR, LINEAR_NO_BIAS, CONV1, CONV3, EMBEDDING };

/* ---- Modules --------------------------------------------------------------------------------- */

static void add_tensor(struct builder *builder, const struct place *at, const char *suffix,
                       enum ld_key_kind kind, int32_t rank, const int64_t shape[4])
{
    struct ld_keymap *map = builder->map;
    char name[NAME_SIZE + 8];
    if (builder->failed || map->count == KEYS_MAX) {
        builder->failed = true;
        return;
    }
    struct ld_key *key = &map->keys[map->count];
    bool fits = ld_fmt(name, sizeof name, "%s.%s", at->name, suffix);
    key->name = fits ? ld_arena_strdup(&map->arena, name) : NULL;
    fits = ld_fmt(name, sizeof name, "%s.%s", at->diffusers, suffix);
    key->diffusers = fits ? ld_arena_strdup(&map->arena, name) : NULL;
    key->part = builder->part;
    key->kind = kind;
    key->rank = rank;
    memcpy(key->shape, shape, sizeof key->shape);
    builder->failed = !key->name || !key->diffusers;
    map->count++;
}

static struct place inside(struct builder *builder, const struct place *at, const char *name,
                           const char *diffusers)
{
    struct place place;
    if (!ld_fmt(place.name, sizeof place.name, "%s%s", at->name, name) ||
        !ld_fmt(place.diffusers, sizeof place.diffusers, "%s%s", at->diffusers, diffusers))
        builder->failed = true;
    return place;
}

/* Weight and bias of one module below `at`; the names start with their dot where one is needed. */
static void add_module(struct builder *builder, const struct place *at, const char *name,
                       const char *diffusers, enum shape shape, int64_t out, int64_t in)
{
    const struct place place = inside(builder, at, name, diffusers);
    const bool vector = shape == NORM;
    const bool conv = shape == CONV1 || shape == CONV3;
    const int64_t kernel = shape == CONV3 ? 3 : 1;
    const int64_t dims[4] = {out, vector ? 1 : in, conv ? kernel : 1, conv ? kernel : 1};
    const int64_t bias[4] = {out, 1, 1, 1};
    const enum ld_key_kind kind = vector               ? LD_KEY_NORM
                                  : conv               ? LD_KEY_CONV
                                  : shape == EMBEDDING ? LD_KEY_EMBEDDING
                                                       : LD_KEY_LINEAR;
    add_tensor(builder, &place, "weight", kind, vector ? 1 : conv ? 4 : 2, dims);
    if (shape != LINEAR_NO_BIAS && shape != EMBEDDING)
        add_tensor(builder, &place, "bias", LD_KEY_BIAS, 1, bias);
}

/* ---- UNet ------------------------------------------------------------------------------------ */

static void add_unet_res(struct builder *builder, const struct place *at, int64_t in, int64_t out,
                         int64_t time)
{
    add_module(builder, at, ".in_layers.0", ".norm1", NORM, in, 1);
    add_module(builder, at, ".in_layers.2", ".conv1", CONV3, out, in);
    add_module(builder, at, ".emb_layers.1", ".time_emb_proj", LINEAR, out, time);
    add_module(builder, at, ".out_layers.0", ".norm2", NORM, out, 1);
    add_module(builder, at, ".out_layers.3", ".conv2", CONV3, out, out);
    if (in != out)
        add_module(builder, at, ".skip_connection", ".conv_shortcut", CONV1, out, in);
}

/* Modules of one transformer block; the two spellings agree inside it. */
static void add_transformer(struct builder *builder, const struct place *at, int64_t channels,
                            int64_t context)
{
    const struct {
        const char *name;
        enum shape shape;
        int64_t out, in;
    } modules[] = {
        {".norm", NORM, channels, 1},
        {".proj_in", CONV1, channels, channels},
        {".transformer_blocks.0.attn1.to_q", LINEAR_NO_BIAS, channels, channels},
        {".transformer_blocks.0.attn1.to_k", LINEAR_NO_BIAS, channels, channels},
        {".transformer_blocks.0.attn1.to_v", LINEAR_NO_BIAS, channels, channels},
        {".transformer_blocks.0.attn1.to_out.0", LINEAR, channels, channels},
        {".transformer_blocks.0.attn2.to_q", LINEAR_NO_BIAS, channels, channels},
        {".transformer_blocks.0.attn2.to_k", LINEAR_NO_BIAS, channels, context},
        {".transformer_blocks.0.attn2.to_v", LINEAR_NO_BIAS, channels, context},
        {".transformer_blocks.0.attn2.to_out.0", LINEAR, channels, channels},
        {".transformer_blocks.0.ff.net.0.proj", LINEAR, 8 * channels, channels},
        {".transformer_blocks.0.ff.net.2", LINEAR, channels, 4 * channels},
        {".transformer_blocks.0.norm1", NORM, channels, 1},
        {".transformer_blocks.0.norm2", NORM, channels, 1},
        {".transformer_blocks.0.norm3", NORM, channels, 1},
        {".proj_out", CONV1, channels, channels},
    };
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
        add_module(builder, at, modules[i].name, modules[i].name, modules[i].shape, modules[i].out,
                   modules[i].in);
}

LD_PRINTF(3, 4)
static void set_name(struct builder *builder, char out[NAME_SIZE], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(out, NAME_SIZE, format, args);
    va_end(args);
    if (length < 0 || length >= NAME_SIZE)
        builder->failed = true;
}

/* `skips` receives the channels that each input block leaves for the way up. */
static int32_t add_unet_down(struct builder *builder, const struct ld_arch *arch, int64_t *skips,
                             int64_t *channels)
{
    const int64_t time = 4 * (int64_t)arch->unet_channels;
    int32_t block = 0;
    struct place at;
    skips[block++] = *channels;
    for (int32_t level = 0; level < arch->unet_levels; level++) {
        const bool deepest = level == arch->unet_levels - 1;
        const int64_t out = (int64_t)arch->unet_channels * arch->unet_multipliers[level];
        for (int32_t i = 0; i < RES_BLOCKS; i++) {
            set_name(builder, at.name, "%sinput_blocks.%d.0", builder->prefix, block);
            set_name(builder, at.diffusers, "down_blocks.%d.resnets.%d", level, i);
            add_unet_res(builder, &at, *channels, out, time);
            if (!deepest) {
                set_name(builder, at.name, "%sinput_blocks.%d.1", builder->prefix, block);
                set_name(builder, at.diffusers, "down_blocks.%d.attentions.%d", level, i);
                add_transformer(builder, &at, out, arch->unet_context);
            }
            *channels = out;
            skips[block++] = out;
        }
        if (!deepest) {
            set_name(builder, at.name, "%sinput_blocks.%d", builder->prefix, block);
            set_name(builder, at.diffusers, "down_blocks.%d", level);
            add_module(builder, &at, ".0.op", ".downsamplers.0.conv", CONV3, out, out);
            skips[block++] = out;
        }
    }
    return block;
}

static void add_unet_up(struct builder *builder, const struct ld_arch *arch, const int64_t *skips,
                        int32_t skip_count, int64_t channels)
{
    const int64_t time = 4 * (int64_t)arch->unet_channels;
    int32_t block = 0;
    struct place at;
    for (int32_t level = arch->unet_levels - 1; level >= 0; level--) {
        const bool deepest = level == arch->unet_levels - 1;
        const int32_t up = arch->unet_levels - 1 - level;
        const int64_t out = (int64_t)arch->unet_channels * arch->unet_multipliers[level];
        for (int32_t i = 0; i <= RES_BLOCKS; i++) {
            set_name(builder, at.name, LD_PREFIX_UNET "output_blocks.%d.0", block);
            set_name(builder, at.diffusers, "up_blocks.%d.resnets.%d", up, i);
            add_unet_res(builder, &at, channels + skips[--skip_count], out, time);
            channels = out;
            if (!deepest) {
                set_name(builder, at.name, LD_PREFIX_UNET "output_blocks.%d.1", block);
                set_name(builder, at.diffusers, "up_blocks.%d.attentions.%d", up, i);
                add_transformer(builder, &at, out, arch->unet_context);
            }
            if (i == RES_BLOCKS && level > 0) {
                set_name(builder, at.name, LD_PREFIX_UNET "output_blocks.%d.%d", block,
                         deepest ? 1 : 2);
                set_name(builder, at.diffusers, "up_blocks.%d.upsamplers.0", up);
                add_module(builder, &at, ".conv", ".conv", CONV3, out, out);
            }
            block++;
        }
    }
}

/* Timestep, first convolution, way down and middle: what a ControlNet copies. Returns the channels
 * of the middle. */
static int64_t add_encoder(struct builder *builder, const struct ld_arch *arch, int64_t in_channels,
                           int64_t *skips, int32_t *skip_count)
{
    const struct place root = inside(builder, &(struct place){"", ""}, builder->prefix, "");
    const int64_t base = arch->unet_channels;
    int64_t channels = base;
    add_module(builder, &root, "time_embed.0", "time_embedding.linear_1", LINEAR, 4 * base, base);
    add_module(builder, &root, "time_embed.2", "time_embedding.linear_2", LINEAR, 4 * base,
               4 * base);
    add_module(builder, &root, "input_blocks.0.0", "conv_in", CONV3, base, in_channels);
    *skip_count = add_unet_down(builder, arch, skips, &channels);
    const struct place first = inside(builder, &root, "middle_block.0", "mid_block.resnets.0");
    const struct place attention =
        inside(builder, &root, "middle_block.1", "mid_block.attentions.0");
    const struct place second = inside(builder, &root, "middle_block.2", "mid_block.resnets.1");
    add_unet_res(builder, &first, channels, channels, 4 * base);
    add_transformer(builder, &attention, channels, arch->unet_context);
    add_unet_res(builder, &second, channels, channels, 4 * base);
    return channels;
}

static void add_unet(struct builder *builder, const struct ld_arch *arch)
{
    const struct place root = {LD_PREFIX_UNET, ""};
    const int64_t base = arch->unet_channels;
    int64_t skips[SKIPS_MAX];
    int32_t skip_count = 0;
    builder->part = LD_PART_UNET;
    builder->prefix = LD_PREFIX_UNET;
    const int64_t channels = add_encoder(builder, arch, arch->unet_in_channels, skips, &skip_count);
    add_unet_up(builder, arch, skips, skip_count, channels);
    add_module(builder, &root, "out.0", "conv_norm_out", NORM, base, 1);
    add_module(builder, &root, "out.2", "conv_out", CONV3, 4, base);
}

/* ---- ControlNet ------------------------------------------------------------------------------ */

/* model.md 5.6: eight convolutions from the hint to the first map, a SiLU between each two. */
static void add_hint(struct builder *builder, const struct place *root, int64_t base)
{
    static const int32_t widths[] = {3, 16, 16, 32, 32, 96, 96, 256};
    enum { COUNT = sizeof widths / sizeof widths[0] };
    for (int32_t i = 0; i < COUNT; i++) {
        char name[NAME_SIZE];
        char diffusers[NAME_SIZE];
        set_name(builder, name, "input_hint_block.%d", 2 * i);
        if (i == 0)
            set_name(builder, diffusers, "controlnet_cond_embedding.conv_in");
        else if (i == COUNT - 1)
            set_name(builder, diffusers, "controlnet_cond_embedding.conv_out");
        else
            set_name(builder, diffusers, "controlnet_cond_embedding.blocks.%d", i - 1);
        add_module(builder, root, name, diffusers, CONV3, i == COUNT - 1 ? base : widths[i + 1],
                   widths[i]);
    }
}

static void add_control(struct builder *builder, const struct ld_arch *arch)
{
    const struct place root = {LD_PREFIX_CONTROL, ""};
    int64_t skips[SKIPS_MAX];
    int32_t skip_count = 0;
    builder->part = LD_PART_CONTROL;
    builder->prefix = LD_PREFIX_CONTROL;
    const int64_t channels = add_encoder(builder, arch, 4, skips, &skip_count);
    add_hint(builder, &root, arch->unet_channels);
    for (int32_t i = 0; i < skip_count; i++) {
        char name[NAME_SIZE];
        char diffusers[NAME_SIZE];
        set_name(builder, name, "zero_convs.%d.0", i);
        set_name(builder, diffusers, "controlnet_down_blocks.%d", i);
        add_module(builder, &root, name, diffusers, CONV1, skips[i], skips[i]);
    }
    add_module(builder, &root, "middle_block_out.0", "controlnet_mid_block", CONV1, channels,
               channels);
}

/* ---- VAE ------------------------------------------------------------------------------------- */

static void add_vae_res(struct builder *builder, const struct place *at, int64_t in, int64_t out)
{
    add_module(builder, at, ".norm1", ".norm1", NORM, in, 1);
    add_module(builder, at, ".conv1", ".conv1", CONV3, out, in);
    add_module(builder, at, ".norm2", ".norm2", NORM, out, 1);
    add_module(builder, at, ".conv2", ".conv2", CONV3, out, out);
    if (in != out)
        add_module(builder, at, ".nin_shortcut", ".conv_shortcut", CONV1, out, in);
}

static void add_vae_middle(struct builder *builder, const struct place *coder, int64_t channels)
{
    const struct place first = inside(builder, coder, ".mid.block_1", ".mid_block.resnets.0");
    const struct place attention = inside(builder, coder, ".mid.attn_1", ".mid_block.attentions.0");
    const struct place second = inside(builder, coder, ".mid.block_2", ".mid_block.resnets.1");
    add_vae_res(builder, &first, channels, channels);
    add_module(builder, &attention, ".norm", ".group_norm", NORM, channels, 1);
    add_module(builder, &attention, ".q", ".to_q", CONV1, channels, channels);
    add_module(builder, &attention, ".k", ".to_k", CONV1, channels, channels);
    add_module(builder, &attention, ".v", ".to_v", CONV1, channels, channels);
    add_module(builder, &attention, ".proj_out", ".to_out.0", CONV1, channels, channels);
    add_vae_res(builder, &second, channels, channels);
}

static void add_vae_encoder(struct builder *builder, const struct ld_arch *arch)
{
    const struct place root = {LD_PREFIX_VAE, ""};
    const struct place coder = {LD_PREFIX_VAE "encoder", "encoder"};
    int64_t channels = arch->vae_channels;
    struct place at;
    builder->part = LD_PART_VAE_ENCODER;
    add_module(builder, &coder, ".conv_in", ".conv_in", CONV3, channels, 3);
    for (int32_t level = 0; level < arch->vae_levels; level++) {
        const int64_t out = (int64_t)arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t i = 0; i < RES_BLOCKS; i++) {
            set_name(builder, at.name, "%s.down.%d.block.%d", coder.name, level, i);
            set_name(builder, at.diffusers, "encoder.down_blocks.%d.resnets.%d", level, i);
            add_vae_res(builder, &at, channels, out);
            channels = out;
        }
        if (level < arch->vae_levels - 1) {
            set_name(builder, at.name, "%s.down.%d", coder.name, level);
            set_name(builder, at.diffusers, "encoder.down_blocks.%d", level);
            add_module(builder, &at, ".downsample.conv", ".downsamplers.0.conv", CONV3, out, out);
        }
    }
    add_vae_middle(builder, &coder, channels);
    add_module(builder, &coder, ".norm_out", ".conv_norm_out", NORM, channels, 1);
    add_module(builder, &coder, ".conv_out", ".conv_out", CONV3, 8, channels);
    add_module(builder, &root, "quant_conv", "quant_conv", CONV1, 8, 8);
}

static void add_vae_decoder(struct builder *builder, const struct ld_arch *arch)
{
    const struct place root = {LD_PREFIX_VAE, ""};
    const struct place coder = {LD_PREFIX_VAE "decoder", "decoder"};
    const int32_t last = arch->vae_levels - 1;
    int64_t channels = (int64_t)arch->vae_channels * arch->vae_multipliers[last];
    struct place at;
    builder->part = LD_PART_VAE_DECODER;
    add_module(builder, &root, "post_quant_conv", "post_quant_conv", CONV1, 4, 4);
    add_module(builder, &coder, ".conv_in", ".conv_in", CONV3, channels, 4);
    add_vae_middle(builder, &coder, channels);
    for (int32_t level = last; level >= 0; level--) {
        const int64_t out = (int64_t)arch->vae_channels * arch->vae_multipliers[level];
        for (int32_t i = 0; i <= RES_BLOCKS; i++) {
            set_name(builder, at.name, "%s.up.%d.block.%d", coder.name, level, i);
            set_name(builder, at.diffusers, "decoder.up_blocks.%d.resnets.%d", last - level, i);
            add_vae_res(builder, &at, channels, out);
            channels = out;
        }
        if (level > 0) {
            set_name(builder, at.name, "%s.up.%d", coder.name, level);
            set_name(builder, at.diffusers, "decoder.up_blocks.%d", last - level);
            add_module(builder, &at, ".upsample.conv", ".upsamplers.0.conv", CONV3, out, out);
        }
    }
    add_module(builder, &coder, ".norm_out", ".conv_norm_out", NORM, channels, 1);
    add_module(builder, &coder, ".conv_out", ".conv_out", CONV3, 3, channels);
}

/* ---- Text encoder ---------------------------------------------------------------------------- */

static void add_text(struct builder *builder, const struct ld_arch *arch)
{
    const struct place root = {LD_PREFIX_TEXT "text_model", "text_model"};
    const int64_t width = arch->text_width;
    const struct {
        const char *name;
        enum shape shape;
        int64_t out, in;
    } modules[] = {
        {".layer_norm1", NORM, width, 1},
        {".self_attn.q_proj", LINEAR, width, width},
        {".self_attn.k_proj", LINEAR, width, width},
        {".self_attn.v_proj", LINEAR, width, width},
        {".self_attn.out_proj", LINEAR, width, width},
        {".layer_norm2", NORM, width, 1},
        {".mlp.fc1", LINEAR, arch->text_mlp, width},
        {".mlp.fc2", LINEAR, width, arch->text_mlp},
    };
    builder->part = LD_PART_TEXT;
    add_module(builder, &root, ".embeddings.token_embedding", ".embeddings.token_embedding",
               EMBEDDING, arch->text_vocabulary, width);
    add_module(builder, &root, ".embeddings.position_embedding", ".embeddings.position_embedding",
               EMBEDDING, arch->text_positions, width);
    for (int32_t layer = 0; layer < arch->text_layers; layer++) {
        struct place at;
        set_name(builder, at.name, "%s.encoder.layers.%d", root.name, layer);
        set_name(builder, at.diffusers, "%s.encoder.layers.%d", root.diffusers, layer);
        for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
            add_module(builder, &at, modules[i].name, modules[i].name, modules[i].shape,
                       modules[i].out, modules[i].in);
    }
    add_module(builder, &root, ".final_layer_norm", ".final_layer_norm", NORM, width, 1);
}

/* ---- The map --------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_key *)a)->name, ((const struct ld_key *)b)->name);
}

enum ld_code ld_keymap_create(struct ld_keymap **out, const struct ld_arch *arch,
                              struct ld_error *err)
{
    LD_ASSERT(arch->unet_levels >= 1 && arch->unet_levels <= LD_LEVELS_MAX);
    LD_ASSERT(arch->vae_levels >= 1 && arch->vae_levels <= LD_LEVELS_MAX);
    *out = NULL;
    struct ld_keymap *map = ld_heap_alloc(sizeof *map);
    if (!map)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
    ld_arena_init(&map->arena, "key map", (size_t)8 << 20);
    map->keys = ld_arena_calloc(&map->arena, KEYS_MAX, sizeof *map->keys);
    struct builder builder = {.map = map, .failed = !map->keys};
    if (!builder.failed && arch->has_control) {
        add_control(&builder, arch);
    } else if (!builder.failed) {
        add_unet(&builder, arch);
        add_vae_encoder(&builder, arch);
        add_vae_decoder(&builder, arch);
        add_text(&builder, arch);
    }
    if (builder.failed) {
        ld_keymap_destroy(map);
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
    }
    qsort(map->keys, map->count, sizeof *map->keys, by_name);
    *out = map;
    return LD_OK;
}

void ld_keymap_destroy(struct ld_keymap *map)
{
    if (!map)
        return;
    ld_arena_deinit(&map->arena);
    ld_heap_free(map);
}

uint32_t ld_keymap_count(const struct ld_keymap *map)
{
    return map->count;
}

const struct ld_key *ld_keymap_at(const struct ld_keymap *map, uint32_t index)
{
    LD_ASSERT(index < map->count);
    return &map->keys[index];
}

static int has_name(const void *name, const void *key)
{
    return strcmp(name, ((const struct ld_key *)key)->name);
}

int32_t ld_keymap_find(const struct ld_keymap *map, const char *name)
{
    const struct ld_key *found = bsearch(name, map->keys, map->count, sizeof *map->keys, has_name);
    return found ? (int32_t)(found - map->keys) : -1;
}
