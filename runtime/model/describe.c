#include "runtime/model/describe.h"

#include "runtime/base/json_find.h"
#include "runtime/model/arch.h"

#include <string.h>

static void flag(struct ld_buffer *out, const char *key, bool value)
{
    ld_buffer_format(out, ",\"%s\":%s", key, value ? "true" : "false");
}

const char *ld_file_kind_name(enum ld_file_kind kind)
{
    static const char *const names[LD_FILE_KIND_COUNT] = {
        [LD_FILE_UNKNOWN] = "unknown",
        [LD_FILE_MODEL] = "model",
        [LD_FILE_VAE] = "vae",
        [LD_FILE_TEXT_ENCODER] = "text_encoder",
        [LD_FILE_SD2] = "foreign_model",
        [LD_FILE_SDXL] = "foreign_model",
        [LD_FILE_OTHER_MODEL] = "foreign_model",
        [LD_FILE_ADAPTER] = "adapter",
        [LD_FILE_CONTROLNET] = "controlnet",
        [LD_FILE_CONTROLNET_SD2] = "foreign_controlnet",
        [LD_FILE_CONTROLNET_SDXL] = "foreign_controlnet",
        [LD_FILE_CONTROLNET_DIFFERENCE] = "foreign_controlnet",
        [LD_FILE_CONTROL_LORA] = "control_lora",
        [LD_FILE_CONTROL_LLLITE] = "control_lllite",
        [LD_FILE_T2I_ADAPTER] = "t2i_adapter",
        [LD_FILE_IP_ADAPTER] = "ip_adapter",
        [LD_FILE_EMBEDDING] = "embedding",
    };
    LD_ASSERT((unsigned)kind < LD_FILE_KIND_COUNT);
    return names[kind];
}

/* ---- Models ---------------------------------------------------------------------------------- */

static bool is_model_kind(enum ld_file_kind kind)
{
    return kind == LD_FILE_MODEL || kind == LD_FILE_VAE || kind == LD_FILE_TEXT_ENCODER;
}

void ld_describe_detection(struct ld_buffer *out, const struct ld_detection *detection)
{
    static const char *const predictions[] = {"eps", "v", "x0"};
    const struct ld_arch *arch = &detection->arch;
    ld_buffer_format(out, "\"kind\":\"%s\",\"arch\":\"%s\"", ld_file_kind_name(detection->kind),
                     ld_detection_name(detection));
    if (!is_model_kind(detection->kind))
        return;
    flag(out, "usable", detection->fault == LD_FAULT_NONE);
    if (detection->fault != LD_FAULT_NONE)
        ld_buffer_format(out, ",\"fault\":\"%s\",\"missing\":%u,\"misshaped\":%u",
                         ld_fault_name(detection->fault), detection->missing, detection->misshaped);
    ld_buffer_format(out,
                     ",\"parts\":{\"unet\":%s,\"vae_encoder\":%s,\"vae_decoder\":%s,"
                     "\"text\":%s}",
                     arch->has_unet ? "true" : "false", arch->has_vae_encoder ? "true" : "false",
                     arch->has_vae_decoder ? "true" : "false", arch->has_text ? "true" : "false");
    if (arch->has_unet) {
        ld_buffer_format(out, ",\"in_channels\":%d,\"prediction\":\"%s\"", arch->unet_in_channels,
                         predictions[arch->prediction]);
        flag(out, "zero_terminal_snr", arch->zero_terminal_snr);
        flag(out, "ema", detection->has_ema);
    }
    flag(out, "scaled_fp8", detection->scaled_fp8);
    flag(out, "test_model", arch->is_test_config);
    ld_buffer_format(out, ",\"unknown_tensors\":%u", detection->unknown);
}

static bool fact(struct ld_span detail, const char *pointer)
{
    struct ld_json_token token;
    return ld_json_find(detail, pointer, &token) && token.kind == LD_JSON_TRUE;
}

bool ld_describe_arch_of(struct ld_span detail, struct ld_arch *arch)
{
    uint64_t channels;
    memset(arch, 0, sizeof *arch);
    if (!fact(detail, "/usable") || fact(detail, "/test_model") || !fact(detail, "/parts/unet") ||
        !ld_json_find_u64(detail, "/in_channels", &channels) || channels > INT32_MAX)
        return false;
    ld_arch_set_sd15(arch);
    arch->has_unet = true;
    arch->has_text = fact(detail, "/parts/text");
    arch->has_vae_encoder = fact(detail, "/parts/vae_encoder");
    arch->has_vae_decoder = fact(detail, "/parts/vae_decoder");
    arch->unet_in_channels = (int32_t)channels;
    return true;
}

/* ---- Adapters and embeddings ----------------------------------------------------------------- */

/* A trainer's note, if the file has it. */
static void note(struct ld_buffer *out, const struct ld_adapter *adapter, const char *key,
                 const char *shown)
{
    const char *value = ld_adapter_metadata(adapter, key);
    if (!value || !value[0])
        return;
    enum { NOTE_MAX = 512 };
    const size_t length = strlen(value);
    ld_buffer_format(out, ",\"%s\":", shown);
    ld_buffer_json_span(out, ld_span_of(value, length < NOTE_MAX ? length : NOTE_MAX));
}

void ld_describe_adapter(struct ld_buffer *out, const struct ld_adapter *adapter)
{
    const struct ld_adapter_info *info = ld_adapter_info(adapter);
    bool first = true;
    ld_buffer_text(out, "\"families\":[");
    for (uint32_t bit = 0; ld_adapter_family_name(bit); bit++) {
        if (!(info->families >> bit & 1))
            continue;
        ld_buffer_format(out, "%s\"%s\"", first ? "" : ",", ld_adapter_family_name(bit));
        first = false;
    }
    ld_buffer_format(out, "],\"modules\":%u,\"text_modules\":%u,\"unknown_tensors\":%u",
                     info->modules, info->text_modules, info->unknown_tensors);
    if (info->rank_max > 0)
        ld_buffer_format(out, ",\"rank\":{\"min\":%d,\"max\":%d}", info->rank_min, info->rank_max);
    if (info->alpha_max > 0) {
        ld_buffer_text(out, ",\"alpha\":{\"min\":");
        ld_buffer_json_double(out, info->alpha_min);
        ld_buffer_text(out, ",\"max\":");
        ld_buffer_json_double(out, info->alpha_max);
        ld_buffer_text(out, "}");
    }
    if (info->embeddings > 0)
        ld_buffer_format(out, ",\"bundled_embeddings\":%u", info->embeddings);
    note(out, adapter, "ss_output_name", "output_name");
    note(out, adapter, "ss_sd_model_name", "base_model");
    note(out, adapter, "ss_base_model_version", "base_version");
    note(out, adapter, "modelspec.title", "title");
    note(out, adapter, "modelspec.trigger_phrase", "trigger_words");
}

void ld_describe_embedding(struct ld_buffer *out, const struct ld_embedding *embedding)
{
    ld_buffer_format(out, "\"kind\":\"embedding\",\"vectors\":%d,\"width\":%d,\"form\":\"%s\"",
                     embedding->vectors, embedding->width, embedding->form);
    if (embedding->name[0]) {
        ld_buffer_text(out, ",\"own_name\":");
        ld_buffer_json_string(out, embedding->name);
    }
    if (embedding->step >= 0)
        ld_buffer_format(out, ",\"step\":%lld", (long long)embedding->step);
}

/* ---- Containers ------------------------------------------------------------------------------ */

void ld_describe_tensors(struct ld_buffer *out, const struct ld_safetensors *file)
{
    uint64_t tensors[LD_DTYPE_COUNT] = {0};
    uint64_t parameters[LD_DTYPE_COUNT] = {0};
    uint64_t total = 0;
    bool first = true;
    for (uint32_t i = 0; i < ld_safetensors_count(file); i++) {
        const struct ld_st_tensor *tensor = ld_safetensors_at(file, i);
        tensors[tensor->dtype]++;
        parameters[tensor->dtype] += ld_st_elements(tensor);
        total += ld_st_elements(tensor);
    }
    ld_buffer_format(out, "\"tensors\":%u,\"parameters\":%llu,\"dtypes\":{",
                     ld_safetensors_count(file), (unsigned long long)total);
    for (int dtype = 0; dtype < LD_DTYPE_COUNT; dtype++) {
        if (tensors[dtype] == 0)
            continue;
        ld_buffer_format(out, "%s\"%s\":{\"tensors\":%llu,\"parameters\":%llu}", first ? "" : ",",
                         ld_dtype_name((enum ld_dtype)dtype), (unsigned long long)tensors[dtype],
                         (unsigned long long)parameters[dtype]);
        first = false;
    }
    ld_buffer_text(out, "}");
}

/* The value with its end cut off, never inside a character. */
static void write_cut(struct ld_buffer *out, const char *value, size_t value_max)
{
    struct ld_buffer cut = ld_buffer_make(value_max + 8);
    while (value_max > 0 && ((unsigned char)value[value_max] & 0xC0) == 0x80)
        value_max--;
    ld_buffer_bytes(&cut, value, value_max);
    ld_buffer_text(&cut, "...");
    ld_buffer_json_string(out, cut.failed ? "..." : cut.data);
    ld_buffer_deinit(&cut);
}

void ld_describe_metadata(struct ld_buffer *out, const struct ld_safetensors *file,
                          size_t value_max)
{
    ld_buffer_text(out, "\"metadata\":{");
    for (uint32_t i = 0; i < ld_safetensors_metadata_count(file); i++) {
        const char *key;
        const char *value;
        ld_safetensors_metadata_at(file, i, &key, &value);
        if (i > 0)
            ld_buffer_byte(out, ',');
        ld_buffer_json_string(out, key);
        ld_buffer_byte(out, ':');
        if (strlen(value) > value_max)
            write_cut(out, value, value_max);
        else
            ld_buffer_json_string(out, value);
    }
    ld_buffer_text(out, "}");
}
