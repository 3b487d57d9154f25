#include "runtime/model/detect.h"

#include "runtime/model/alias.h"
#include "runtime/model/arch.h"
#include "runtime/model/detect_kind.h"

#include <string.h>

/* Unknown names are listed first and must leave room for the faults. */
enum { REPORT_MAX = 512 * 1024, UNKNOWN_LINES_MAX = 256, NAME_SIZE = 256 };

/* ---- Architecture ---------------------------------------------------------------------------- */

static bool same_shape(const struct ld_inventory_item *item, const struct ld_key *key)
{
    /* A 1x1 convolution may be stored as the matrix it is. */
    const bool as_matrix =
        key->rank == 4 && item->rank == 2 && key->shape[2] == 1 && key->shape[3] == 1;
    if (item->rank != (uint32_t)key->rank && !as_matrix)
        return false;
    for (uint32_t i = 0; i < item->rank; i++) {
        if (item->shape[i] != (uint64_t)key->shape[i])
            return false;
    }
    return true;
}

/* Only these modules are stored either way; any other 1x1 convolution must have rank 4. */
static bool may_be_matrix(const struct ld_key *key)
{
    return strstr(key->name, ".proj_in.") || strstr(key->name, ".proj_out.") ||
           strstr(key->name, ".attn_1.");
}

static bool shape_fits(const struct ld_inventory_item *item, const struct ld_key *key)
{
    return same_shape(item, key) && (item->rank == (uint32_t)key->rank || may_be_matrix(key));
}

static void set_prediction(struct ld_detection *out, const struct ld_inventory *inventory,
                           const struct ld_detect_options *options)
{
    const char *said = inventory->prediction_type;
    struct ld_arch *arch = &out->arch;
    if (options && options->prediction >= 0)
        arch->prediction = (enum ld_prediction)options->prediction;
    else if (ld_inventory_find(inventory, "v_pred") >= 0 ||
             (said && (strcmp(said, "v") == 0 || strcmp(said, "v_prediction") == 0)))
        arch->prediction = LD_PREDICT_V;
    arch->zero_terminal_snr = ld_inventory_find(inventory, "ztsnr") >= 0;
}

/* Rows of the token table, whatever its prefix; 0 without one. */
static int32_t token_rows(const struct ld_inventory *inventory)
{
    enum { ROWS_MAX = 1 << 20 };
    for (uint32_t i = 0; i < inventory->count; i++) {
        const struct ld_inventory_item *item = &inventory->items[i];
        if (ld_has_suffix(item->name, "embeddings.token_embedding.weight") && item->rank == 2 &&
            item->shape[0] <= ROWS_MAX)
            return (int32_t)item->shape[0];
    }
    return 0;
}

/* Widths: SD1.5's, or a test model's; what varies within the family comes from shapes. */
static enum ld_code set_arch(struct ld_detection *out, const struct ld_inventory *inventory,
                             const struct ld_probe *probe, struct ld_error *err)
{
    if (inventory->test_config) {
        const enum ld_code code = ld_arch_set_test_config(&out->arch, inventory->test_config, err);
        if (code != LD_OK)
            return code;
        const int32_t rows = token_rows(inventory);
        if (rows > 0)
            out->arch.text_vocabulary = rows;
    }
    if (out->arch.has_control)
        out->arch.unet_in_channels = 4; /* it sees the latent alone */
    else if (probe->conv_in >= 0 && inventory->items[probe->conv_in].rank == 4) {
        const uint64_t channels = inventory->items[probe->conv_in].shape[1];
        if (channels != 4 && channels != 8 && channels != 9)
            out->fault = LD_FAULT_UNSUPPORTED;
        else
            out->arch.unet_in_channels = (int32_t)channels;
    }
    return LD_OK;
}

/* ---- Binding --------------------------------------------------------------------------------- */

struct binder {
    struct ld_detection *out;
    const struct ld_inventory *inventory;
    struct ld_binding *plain, *ema; /* one of them becomes the result */
    bool plain_unet, ema_unet;
    bool has_part[LD_PART_COUNT];
};

/* One line of the report. Names come from a file: bytes that drive a terminal are replaced. */
static void line(struct ld_detection *out, const char *what, const char *name)
{
    ld_buffer_format(&out->report, "%s: ", what);
    for (const char *p = name; *p; p++)
        ld_buffer_byte(&out->report, (unsigned char)*p < 0x20 || *p == 0x7F ? '?' : *p);
    ld_buffer_byte(&out->report, '\n');
}

static void bind_items(struct binder *binder, const struct ld_aliases *aliases)
{
    struct ld_detection *out = binder->out;
    for (uint32_t i = 0; i < binder->inventory->count; i++) {
        const char *name = binder->inventory->items[i].name;
        const struct ld_alias *alias = ld_aliases_find(aliases, name);
        if (!alias) {
            if (!ld_is_ignorable(name)) {
                if (out->unknown++ < UNKNOWN_LINES_MAX)
                    line(out, "unknown", name);
            }
            continue;
        }
        struct ld_binding *binding = (alias->ema ? binder->ema : binder->plain) + alias->key;
        if (binding->item >= 0) {
            line(out, "second spelling of a tensor", name);
            out->fault = LD_FAULT_AMBIGUOUS;
            continue;
        }
        binding->item = (int32_t)i;
        const enum ld_part part = ld_keymap_at(out->map, alias->key)->part;
        if (alias->ema)
            binder->ema_unet = true;
        else if (part == LD_PART_UNET)
            binder->plain_unet = true;
        binder->has_part[part] = true;
    }
}

/* The item that scales an fp8 weight: <module>.scale_weight, one element. */
static int32_t find_scale(const struct ld_inventory *inventory, const char *weight)
{
    static const char tail[] = ".weight";
    char name[NAME_SIZE];
    if (!ld_has_suffix(weight, tail) || !ld_fmt(name, sizeof name, "%.*s.scale_weight",
                                                (int)(strlen(weight) - strlen(tail)), weight))
        return -1;
    return ld_inventory_find(inventory, name);
}

static bool is_scalar(const struct ld_inventory_item *item)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < item->rank; i++) {
        if (item->shape[i] != 1)
            count = 0;
    }
    return count == 1 && ld_dtype_is_float(item->dtype);
}

/* Compare one bound key; faults keep their first kind, the report gets every line. */
static void check_key(struct ld_detection *out, const struct ld_inventory *inventory,
                      uint32_t index)
{
    const struct ld_key *key = ld_keymap_at(out->map, index);
    struct ld_binding *binding = &out->bindings[index];
    enum ld_fault fault = LD_FAULT_NONE;
    if (binding->item < 0) {
        line(out, "missing", key->name);
        out->missing++;
        fault = LD_FAULT_MISSING;
    } else if (!shape_fits(&inventory->items[binding->item], key)) {
        line(out, "wrong shape", key->name);
        out->misshaped++;
        fault = LD_FAULT_SHAPE;
    } else if (!ld_dtype_is_float(inventory->items[binding->item].dtype)) {
        line(out, "not a floating-point type", key->name);
        fault = LD_FAULT_DTYPE;
    } else {
        binding->scale_item = find_scale(inventory, inventory->items[binding->item].name);
        if (binding->scale_item >= 0 && !is_scalar(&inventory->items[binding->scale_item])) {
            line(out, "scale is not one number", key->name);
            fault = LD_FAULT_SHAPE;
        }
    }
    if (fault != LD_FAULT_NONE && (out->fault == LD_FAULT_NONE || fault < out->fault))
        out->fault = fault;
}

/* Choose between the plain and the averaged UNet. */
static void choose_ema(struct binder *binder, const struct ld_detect_options *options)
{
    struct ld_detection *out = binder->out;
    out->has_ema = binder->ema_unet;
    out->uses_ema = binder->ema_unet && ((options && options->use_ema) || !binder->plain_unet);
    for (uint32_t i = 0; i < ld_keymap_count(out->map); i++) {
        const bool unet = ld_keymap_at(out->map, i)->part == LD_PART_UNET;
        out->bindings[i] = unet && out->uses_ema ? binder->ema[i] : binder->plain[i];
    }
}

static void check_all(struct binder *binder)
{
    struct ld_detection *out = binder->out;
    /* A decoder may come alone, an encoder may not: nothing here could use it. */
    if (binder->has_part[LD_PART_VAE_ENCODER])
        binder->has_part[LD_PART_VAE_DECODER] = true;
    binder->has_part[LD_PART_CONTROL] = out->kind == LD_FILE_CONTROLNET;
    for (uint32_t i = 0; i < ld_keymap_count(out->map); i++) {
        if (binder->has_part[ld_keymap_at(out->map, i)->part])
            check_key(out, binder->inventory, i);
    }
    out->arch.has_unet = binder->has_part[LD_PART_UNET];
    out->arch.has_vae_encoder = binder->has_part[LD_PART_VAE_ENCODER];
    out->arch.has_vae_decoder = binder->has_part[LD_PART_VAE_DECODER];
    out->arch.has_text = binder->has_part[LD_PART_TEXT];
    out->arch.has_control = binder->has_part[LD_PART_CONTROL];
}

static void set_kind(struct ld_detection *out)
{
    if (out->kind == LD_FILE_CONTROLNET)
        return;
    if (out->arch.has_unet)
        out->kind = LD_FILE_MODEL;
    else if (out->arch.has_vae_decoder)
        out->kind = LD_FILE_VAE;
    else if (out->arch.has_text)
        out->kind = LD_FILE_TEXT_ENCODER;
    else
        out->fault = LD_FAULT_NOT_A_CHECKPOINT;
    if (!out->arch.has_unet)
        out->arch.unet_in_channels = 0;
}

static enum ld_code bind_all(struct ld_detection *out, const struct ld_inventory *inventory,
                             const struct ld_detect_options *options, struct ld_error *err)
{
    struct ld_aliases aliases = {0};
    struct binder binder = {.out = out, .inventory = inventory};
    enum ld_code code = ld_keymap_create(&out->map, &out->arch, err);
    if (code == LD_OK)
        code = ld_aliases_init(&aliases, out->map, err);
    if (code == LD_OK) {
        const uint32_t count = ld_keymap_count(out->map);
        out->bindings = ld_heap_calloc(count, sizeof *out->bindings);
        binder.plain = ld_heap_calloc(count, sizeof *binder.plain);
        binder.ema = ld_heap_calloc(count, sizeof *binder.ema);
        if (!out->bindings || !binder.plain || !binder.ema)
            code = LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
        for (uint32_t i = 0; code == LD_OK && i < count; i++)
            binder.plain[i] = binder.ema[i] = (struct ld_binding){-1, -1};
    }
    if (code == LD_OK) {
        bind_items(&binder, &aliases);
        choose_ema(&binder, options);
        check_all(&binder);
        set_kind(out);
    }
    ld_heap_free(binder.plain);
    ld_heap_free(binder.ema);
    ld_aliases_deinit(&aliases);
    return code;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static bool has_marker(const struct ld_inventory *inventory)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        if (ld_has_suffix(inventory->items[i].name, "scaled_fp8"))
            return true;
    }
    return false;
}

/* Without the layers that read a hint it is a piece of a ControlNet, and nothing to load. */
static bool reads_hints(const struct ld_inventory *inventory)
{
    for (uint32_t i = 0; i < inventory->count; i++) {
        if (strstr(inventory->items[i].name, "input_hint_block.") ||
            ld_has_prefix(inventory->items[i].name, "controlnet_cond_embedding."))
            return true;
    }
    return false;
}

enum ld_code ld_detect(struct ld_detection *out, const struct ld_inventory *inventory,
                       const struct ld_detect_options *options, struct ld_error *err)
{
    memset(out, 0, sizeof *out);
    out->report = ld_buffer_make(REPORT_MAX);
    ld_arch_set_sd15(&out->arch);
    const struct ld_probe probe = ld_probe_unet(inventory);
    out->kind = ld_detect_kind(inventory, &probe);
    if (out->kind == LD_FILE_CONTROLNET && reads_hints(inventory)) {
        out->arch.has_control = true; /* the names to look for are its own */
    } else if (out->kind != LD_FILE_UNKNOWN) {
        const bool model = out->kind == LD_FILE_SD2 || out->kind == LD_FILE_SDXL ||
                           out->kind == LD_FILE_OTHER_MODEL;
        out->fault = model ? LD_FAULT_UNSUPPORTED : LD_FAULT_NOT_A_CHECKPOINT;
        return LD_OK;
    }
    const enum ld_code code = set_arch(out, inventory, &probe, err);
    if (code != LD_OK || out->fault != LD_FAULT_NONE)
        return code;
    out->scaled_fp8 = has_marker(inventory);
    set_prediction(out, inventory, options);
    return bind_all(out, inventory, options, err);
}

void ld_detection_deinit(struct ld_detection *detection)
{
    ld_keymap_destroy(detection->map);
    ld_heap_free(detection->bindings);
    ld_buffer_deinit(&detection->report);
    memset(detection, 0, sizeof *detection);
}

/* ---- Words ----------------------------------------------------------------------------------- */

const char *ld_detection_name(const struct ld_detection *detection)
{
    static const char *const names[LD_FILE_KIND_COUNT] = {
        [LD_FILE_UNKNOWN] = "unknown",
        [LD_FILE_MODEL] = "sd15",
        [LD_FILE_VAE] = "vae",
        [LD_FILE_TEXT_ENCODER] = "text-encoder",
        [LD_FILE_SD2] = "sd2",
        [LD_FILE_SDXL] = "sdxl",
        [LD_FILE_OTHER_MODEL] = "other",
        [LD_FILE_ADAPTER] = "adapter",
        [LD_FILE_CONTROLNET] = "controlnet",
        [LD_FILE_CONTROLNET_SD2] = "controlnet-sd2",
        [LD_FILE_CONTROLNET_SDXL] = "controlnet-sdxl",
        [LD_FILE_CONTROLNET_DIFFERENCE] = "controlnet-difference",
        [LD_FILE_CONTROL_LORA] = "control-lora",
        [LD_FILE_CONTROL_LLLITE] = "control-lllite",
        [LD_FILE_T2I_ADAPTER] = "t2i-adapter",
        [LD_FILE_IP_ADAPTER] = "ip-adapter",
        [LD_FILE_EMBEDDING] = "embedding",
    };
    if (detection->kind == LD_FILE_MODEL && detection->arch.unet_in_channels == 9)
        return "sd15-inpaint";
    if (detection->kind == LD_FILE_MODEL && detection->arch.unet_in_channels == 8)
        return "sd15-ip2p";
    return names[detection->kind];
}

const char *ld_file_kind_words(enum ld_file_kind kind)
{
    static const char *const words[LD_FILE_KIND_COUNT] = {
        [LD_FILE_MODEL] = "a checkpoint",
        [LD_FILE_VAE] = "a VAE",
        [LD_FILE_TEXT_ENCODER] = "a text encoder",
        [LD_FILE_SD2] = "a checkpoint of SD2",
        [LD_FILE_SDXL] = "a checkpoint of SDXL",
        [LD_FILE_OTHER_MODEL] = "a checkpoint of another family",
        [LD_FILE_ADAPTER] = "an adapter",
        [LD_FILE_CONTROLNET] = "a ControlNet",
        [LD_FILE_CONTROLNET_SD2] = "a ControlNet for SD2",
        [LD_FILE_CONTROLNET_SDXL] = "a ControlNet for SDXL",
        [LD_FILE_CONTROLNET_DIFFERENCE] = "the difference of a ControlNet to a model",
        [LD_FILE_CONTROL_LORA] = "a Control-LoRA",
        [LD_FILE_CONTROL_LLLITE] = "a ControlLLLite",
        [LD_FILE_T2I_ADAPTER] = "a T2I adapter",
        [LD_FILE_IP_ADAPTER] = "an IP-Adapter",
        [LD_FILE_EMBEDDING] = "an embedding",
    };
    LD_ASSERT((unsigned)kind < LD_FILE_KIND_COUNT);
    return words[kind];
}

const char *ld_fault_name(enum ld_fault fault)
{
    static const char *const names[LD_FAULT_COUNT] = {
        [LD_FAULT_NONE] = "none",
        [LD_FAULT_NOT_A_CHECKPOINT] = "not_a_checkpoint",
        [LD_FAULT_UNSUPPORTED] = "unsupported_architecture",
        [LD_FAULT_MISSING] = "missing_tensor",
        [LD_FAULT_SHAPE] = "shape_mismatch",
        [LD_FAULT_DTYPE] = "dtype",
        [LD_FAULT_AMBIGUOUS] = "ambiguous",
    };
    LD_ASSERT((unsigned)fault < LD_FAULT_COUNT);
    return names[fault];
}

/* The first lines of the report that tell of faults, as one phrase. */
static void first_faults(const struct ld_detection *detection, char *out, size_t out_size)
{
    size_t used = 0;
    const char *text = detection->report.data ? detection->report.data : "";
    out[0] = 0;
    for (unsigned shown = 0; *text && shown < 3;) {
        const char *end = strchr(text, '\n');
        if (!end)
            break;
        const size_t length = (size_t)(end - text);
        if (!ld_has_prefix(text, "unknown") && used + length + 3 < out_size) {
            if (shown > 0)
                out[used++] = ',', out[used++] = ' ';
            memcpy(out + used, text, length);
            used += length;
            out[used] = 0;
            shown++;
        }
        text = end + 1;
    }
}

enum ld_code ld_detection_error(const struct ld_detection *detection, struct ld_error *err)
{
    char faults[360];
    switch (detection->fault) {
    case LD_FAULT_NONE:
    case LD_FAULT_COUNT:
        return LD_OK;
    case LD_FAULT_NOT_A_CHECKPOINT:
        return LD_FAIL(err, LD_E_UNSUPPORTED, "the file is not a checkpoint%s%s",
                       detection->kind == LD_FILE_UNKNOWN ? "" : " but of the kind: ",
                       detection->kind == LD_FILE_UNKNOWN ? "" : ld_detection_name(detection));
    case LD_FAULT_UNSUPPORTED:
        return LD_FAIL(err, LD_E_UNSUPPORTED,
                       "the file holds a model of an architecture that is not supported (%s); only "
                       "SD1.5 is",
                       ld_detection_name(detection));
    case LD_FAULT_MISSING:
    case LD_FAULT_SHAPE:
    case LD_FAULT_DTYPE:
    case LD_FAULT_AMBIGUOUS:
        break;
    }
    first_faults(detection, faults, sizeof faults);
    return LD_FAIL(err, LD_E_FORMAT, "the %s is not complete: %u missing, %u mis-shaped; %s",
                   detection->arch.has_control ? "ControlNet" : "model", detection->missing,
                   detection->misshaped, faults);
}
