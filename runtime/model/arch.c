#include "runtime/model/arch.h"

#include "runtime/base/json.h"

#include <string.h>

enum { GROUPS = 32, CHANNELS_MAX = 2048, MULTIPLIER_MAX = 16, LAYERS_MAX = 64, WIDTH_MAX = 8192 };

void ld_arch_set_sd15(struct ld_arch *arch)
{
    static const int32_t multipliers[] = {1, 2, 4, 4};
    memset(arch, 0, sizeof *arch);
    arch->unet_channels = 320;
    arch->unet_levels = 4;
    arch->unet_heads = 8;
    arch->unet_context = 768;
    arch->unet_in_channels = 4;
    arch->prediction = LD_PREDICT_EPS;
    arch->beta_start = 0.00085;
    arch->beta_end = 0.012;
    arch->vae_channels = 128;
    arch->vae_levels = 4;
    memcpy(arch->unet_multipliers, multipliers, sizeof multipliers);
    memcpy(arch->vae_multipliers, multipliers, sizeof multipliers);
    arch->text_layers = 12;
    arch->text_heads = 12;
    arch->text_width = 768;
    arch->text_mlp = 3072;
    arch->text_vocabulary = 49408;
    arch->text_positions = 77;
}

/* ---- Test models ----------------------------------------------------------------------------- */

struct config_field {
    const char *part, *name;
    size_t offset; /* of an int32_t in struct ld_arch */
    int32_t max;
};

static const struct config_field fields[] = {
    {"unet", "model_channels", offsetof(struct ld_arch, unet_channels), CHANNELS_MAX},
    {"unet", "num_heads", offsetof(struct ld_arch, unet_heads), GROUPS},
    {"unet", "context_dim", offsetof(struct ld_arch, unet_context), WIDTH_MAX},
    {"vae", "ch", offsetof(struct ld_arch, vae_channels), CHANNELS_MAX},
    {"clip", "layers", offsetof(struct ld_arch, text_layers), LAYERS_MAX},
    {"clip", "heads", offsetof(struct ld_arch, text_heads), GROUPS},
    {"clip", "width", offsetof(struct ld_arch, text_width), WIDTH_MAX},
    {"clip", "intermediate", offsetof(struct ld_arch, text_mlp), 4 * WIDTH_MAX},
};

static enum ld_code read_bounded(const struct ld_json_token *token, int32_t max, int32_t *out,
                                 struct ld_error *err)
{
    int64_t value;
    if (token->kind != LD_JSON_INTEGER || !ld_parse_i64(token->text, &value) || value < 1 ||
        value > max)
        return LD_FAIL(err, LD_E_RANGE, "a width of the test model must be between 1 and %d", max);
    *out = (int32_t)value;
    return LD_OK;
}

static enum ld_code read_multipliers(struct ld_json *json, const struct ld_json_token *begin,
                                     int32_t *multipliers, int32_t *levels, struct ld_error *err)
{
    if (begin->kind != LD_JSON_ARRAY_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "the test model's multipliers must be an array");
    *levels = 0;
    for (;;) {
        struct ld_json_token item;
        enum ld_code code = ld_json_next(json, &item, err);
        if (code != LD_OK)
            return code;
        if (item.kind == LD_JSON_ARRAY_END)
            break;
        if (*levels == LD_LEVELS_MAX)
            return LD_FAIL(err, LD_E_RANGE, "the test model has more than %d levels",
                           LD_LEVELS_MAX);
        code = read_bounded(&item, MULTIPLIER_MAX, &multipliers[*levels], err);
        if (code != LD_OK)
            return code;
        ++*levels;
    }
    return *levels >= 2 ? LD_OK
                        : LD_FAIL(err, LD_E_RANGE, "the test model needs at least two levels");
}

static enum ld_code read_field(struct ld_json *json, const char *part,
                               const struct ld_json_token *key, struct ld_arch *arch,
                               struct ld_error *err)
{
    struct ld_json_token value;
    const enum ld_code code = ld_json_next(json, &value, err);
    if (code != LD_OK)
        return code;
    if (strcmp(part, "unet") == 0 && ld_json_is(key, "channel_mult"))
        return read_multipliers(json, &value, arch->unet_multipliers, &arch->unet_levels, err);
    if (strcmp(part, "vae") == 0 && ld_json_is(key, "ch_mult"))
        return read_multipliers(json, &value, arch->vae_multipliers, &arch->vae_levels, err);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(part, fields[i].part) == 0 && ld_json_is(key, fields[i].name)) {
            int32_t *field = (int32_t *)(void *)((char *)arch + fields[i].offset);
            return read_bounded(&value, fields[i].max, field, err);
        }
    }
    return ld_json_skip(json, &value, err);
}

static enum ld_code read_part(struct ld_json *json, const char *part, struct ld_arch *arch,
                              struct ld_error *err)
{
    struct ld_json_token token;
    enum ld_code code = ld_json_next(json, &token, err);
    if (code != LD_OK)
        return code;
    if (token.kind != LD_JSON_OBJECT_BEGIN)
        return LD_FAIL(err, LD_E_FORMAT, "a part of the test model must be an object");
    while (code == LD_OK) {
        code = ld_json_next(json, &token, err);
        if (code == LD_OK && token.kind == LD_JSON_OBJECT_END)
            break;
        if (code == LD_OK)
            code = read_field(json, part, &token, arch, err);
    }
    return code;
}

static enum ld_code check_widths(const struct ld_arch *arch, struct ld_error *err)
{
    if (arch->unet_channels % GROUPS != 0 || arch->vae_channels % GROUPS != 0)
        return LD_FAIL(err, LD_E_RANGE, "channels of the test model must be multiples of %d",
                       GROUPS);
    if (arch->unet_channels % arch->unet_heads != 0)
        return LD_FAIL(err, LD_E_RANGE, "the test model's heads must divide its channels");
    if (arch->text_width % arch->text_heads != 0)
        return LD_FAIL(err, LD_E_RANGE, "the test model's heads must divide its text width");
    return LD_OK;
}

enum ld_code ld_arch_set_test_config(struct ld_arch *arch, const char *text, struct ld_error *err)
{
    static const char *const parts[] = {"unet", "vae", "clip"};
    struct ld_json json;
    struct ld_json_token token;
    ld_json_init(&json, ld_span_text(text), 8, 256);
    enum ld_code code = ld_json_next(&json, &token, err);
    if (code == LD_OK && token.kind != LD_JSON_OBJECT_BEGIN)
        code = LD_FAIL(err, LD_E_FORMAT, "the test model's description must be an object");
    while (code == LD_OK) {
        code = ld_json_next(&json, &token, err);
        if (code != LD_OK || token.kind == LD_JSON_OBJECT_END)
            break;
        const char *part = NULL;
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            if (ld_json_is(&token, parts[i]))
                part = parts[i];
        }
        if (part) {
            code = read_part(&json, part, arch, err);
        } else {
            code = ld_json_next(&json, &token, err);
            if (code == LD_OK)
                code = ld_json_skip(&json, &token, err);
        }
    }
    if (code == LD_OK)
        code = ld_json_next(&json, &token, err);
    if (code == LD_OK)
        code = check_widths(arch, err);
    if (code == LD_OK)
        arch->is_test_config = true;
    return code;
}
