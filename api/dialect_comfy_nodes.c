#include "api/dialect_comfy_nodes.h"

/* clang-format off */
#define INT(name, by_default, least, most) \
    "\"" name "\":[\"INT\",{\"default\":" by_default ",\"min\":" least ",\"max\":" most "}]"
#define FLOAT(name, by_default, least, most) \
    "\"" name "\":[\"FLOAT\",{\"default\":" by_default ",\"min\":" least ",\"max\":" most ",\"step\":0.01}]"
#define PERCENT(name, by_default) \
    "\"" name "\":[\"FLOAT\",{\"default\":" by_default ",\"min\":0.0,\"max\":1.0,\"step\":0.001}]"
#define BOOLEAN(name, by_default) "\"" name "\":[\"BOOLEAN\",{\"default\":" by_default "}]"
#define LINK(name, type) "\"" name "\":[\"" type "\",{}]"
#define LIST(name, list) "\"" name "\":[" list ",{}]"
#define TEXT(name) "\"" name "\":[\"STRING\",{\"multiline\":true,\"dynamicPrompts\":true}]"
#define REQUIRED(...) "{\"required\":{" __VA_ARGS__ "}}"
#define WITH_OPTIONAL(required, optional) "{\"required\":{" required "},\"optional\":{" optional "}}"
#define AND ","
#define FILTERS "[\"nearest-exact\",\"bilinear\",\"area\",\"bicubic\",\"bislerp\"]"
#define PIXEL_FILTERS "[\"nearest-exact\",\"bilinear\",\"area\",\"bicubic\",\"lanczos\"]"
#define CROPS "[\"disabled\"]"
#define PICTURE_CROPS "[\"disabled\",\"center\"]"
#define SEED "\"seed\":[\"INT\",{\"default\":0,\"min\":0,\"max\":18446744073709551615,\"control_after_generate\":true}]"

/* Names, inputs, defaults and bounds: ComfyUI nodes.py and comfy_extras, where the bounds here are
 * latentd's own if those are narrower. */
const struct ld_comfy_node ld_comfy_nodes[] = {
    {"CheckpointLoaderSimple", "Load Checkpoint", "loaders",
     REQUIRED(LIST("ckpt_name", "$models")), "MODEL,CLIP,VAE", false},
    {"UNETLoader", "Load Diffusion Model", "advanced/loaders",
     REQUIRED(LIST("unet_name", "[]") AND LIST("weight_dtype", "[\"default\"]")), "MODEL", false},
    {"VAELoader", "Load VAE", "loaders", REQUIRED(LIST("vae_name", "$vaes")), "VAE", false},
    {"LoraLoader", "Load LoRA", "loaders",
     REQUIRED(LINK("model", "MODEL") AND LINK("clip", "CLIP") AND LIST("lora_name", "$loras") AND
              FLOAT("strength_model", "1.0", "-4.0", "4.0") AND FLOAT("strength_clip", "1.0", "-4.0", "4.0")),
     "MODEL,CLIP", false},
    {"LoraLoaderModelOnly", "LoraLoaderModelOnly", "loaders",
     REQUIRED(LINK("model", "MODEL") AND LIST("lora_name", "$loras") AND
              FLOAT("strength_model", "1.0", "-4.0", "4.0")), "MODEL", false},
    {"CLIPTextEncode", "CLIP Text Encode (Prompt)", "conditioning",
     REQUIRED(TEXT("text") AND LINK("clip", "CLIP")), "CONDITIONING", false},
    {"CLIPSetLastLayer", "CLIP Set Last Layer", "conditioning",
     REQUIRED(LINK("clip", "CLIP") AND INT("stop_at_clip_layer", "-1", "-12", "-1")), "CLIP", false},
    {"ConditioningZeroOut", "ConditioningZeroOut", "advanced/conditioning",
     REQUIRED(LINK("conditioning", "CONDITIONING")), "CONDITIONING", false},
    {"EmptyLatentImage", "Empty Latent Image", "latent",
     REQUIRED(INT("width", "512", "64", "4096") AND INT("height", "512", "64", "4096") AND
              INT("batch_size", "1", "1", "16")), "LATENT", false},
    {"LoadImage", "Load Image", "image", REQUIRED("\"image\":[$images,{\"image_upload\":true}]"), "IMAGE,MASK", false},
    {"LoadImageMask", "Load Image (as Mask)", "mask",
     REQUIRED("\"image\":[$images,{\"image_upload\":true}]" AND LIST("channel", "[\"alpha\",\"red\",\"green\",\"blue\"]")),
     "MASK", false},
    {"InvertMask", "InvertMask", "mask", REQUIRED(LINK("mask", "MASK")), "MASK", false},
    {"VAEEncode", "VAE Encode", "latent", REQUIRED(LINK("pixels", "IMAGE") AND LINK("vae", "VAE")), "LATENT", false},
    {"SetLatentNoiseMask", "Set Latent Noise Mask", "latent/inpaint",
     REQUIRED(LINK("samples", "LATENT") AND LINK("mask", "MASK")), "LATENT", false},
    {"VAEDecode", "VAE Decode", "latent", REQUIRED(LINK("samples", "LATENT") AND LINK("vae", "VAE")), "IMAGE", false},
    {"LatentUpscale", "Upscale Latent", "latent",
     REQUIRED(LINK("samples", "LATENT") AND LIST("upscale_method", FILTERS) AND INT("width", "512", "64", "4096") AND
              INT("height", "512", "64", "4096") AND LIST("crop", CROPS)), "LATENT", false},
    {"LatentUpscaleBy", "Upscale Latent By", "latent",
     REQUIRED(LINK("samples", "LATENT") AND LIST("upscale_method", FILTERS) AND FLOAT("scale_by", "1.5", "1.0", "4.0")),
     "LATENT", false},
    {"ImageScale", "Upscale Image", "image/upscaling",
     REQUIRED(LINK("image", "IMAGE") AND LIST("upscale_method", PIXEL_FILTERS) AND INT("width", "512", "64", "4096") AND
              INT("height", "512", "64", "4096") AND LIST("crop", PICTURE_CROPS)), "IMAGE", false},
    {"ImageScaleBy", "Upscale Image By", "image/upscaling",
     REQUIRED(LINK("image", "IMAGE") AND LIST("upscale_method", PIXEL_FILTERS) AND
              FLOAT("scale_by", "1.0", "1.0", "4.0")), "IMAGE", false},
    {"KSampler", "KSampler", "sampling",
     REQUIRED(LINK("model", "MODEL") AND SEED AND INT("steps", "20", "1", "150") AND FLOAT("cfg", "8.0", "0.0", "30.0") AND
              LIST("sampler_name", "$samplers") AND LIST("scheduler", "$schedulers") AND LINK("positive", "CONDITIONING") AND
              LINK("negative", "CONDITIONING") AND LINK("latent_image", "LATENT") AND
              FLOAT("denoise", "1.0", "0.0", "1.0")), "LATENT", false},
    {"PatchModelAddDownscale", "PatchModelAddDownscale (Kohya Deep Shrink)", "model_patches/unet",
     REQUIRED(LINK("model", "MODEL") AND INT("block_number", "3", "1", "11") AND
              FLOAT("downscale_factor", "2.0", "1.0", "9.0") AND FLOAT("start_percent", "0.0", "0.0", "1.0") AND
              FLOAT("end_percent", "0.35", "0.0", "1.0") AND BOOLEAN("downscale_after_skip", "true") AND
              LIST("downscale_method", "[\"bicubic\",\"nearest-exact\",\"bilinear\",\"area\",\"bislerp\"]") AND
              LIST("upscale_method", "[\"bicubic\",\"nearest-exact\",\"bilinear\",\"area\",\"bislerp\"]")), "MODEL", false},
    {"RescaleCFG", "RescaleCFG", "advanced/model",
     REQUIRED(LINK("model", "MODEL") AND FLOAT("multiplier", "0.7", "0.0", "1.0")), "MODEL", false},
    {"PerturbedAttentionGuidance", "PerturbedAttentionGuidance", "model_patches/unet",
     REQUIRED(LINK("model", "MODEL") AND FLOAT("scale", "3.0", "0.0", "20.0")), "MODEL", false},
    {"SelfAttentionGuidance", "Self-Attention Guidance", "_for_testing",
     REQUIRED(LINK("model", "MODEL") AND FLOAT("scale", "0.5", "-2.0", "5.0") AND
              FLOAT("blur_sigma", "2.0", "0.0", "10.0")), "MODEL", false},
    {"FreeU", "FreeU", "model_patches/unet",
     REQUIRED(LINK("model", "MODEL") AND FLOAT("b1", "1.1", "0.0", "10.0") AND FLOAT("b2", "1.2", "0.0", "10.0") AND
              FLOAT("s1", "0.9", "0.0", "10.0") AND FLOAT("s2", "0.2", "0.0", "10.0")), "MODEL", false},
    {"FreeU_V2", "FreeU_V2", "model_patches/unet",
     REQUIRED(LINK("model", "MODEL") AND FLOAT("b1", "1.3", "0.0", "10.0") AND FLOAT("b2", "1.4", "0.0", "10.0") AND
              FLOAT("s1", "0.9", "0.0", "10.0") AND FLOAT("s2", "0.2", "0.0", "10.0")), "MODEL", false},
    {"ControlNetLoader", "Load ControlNet Model", "loaders", REQUIRED(LIST("control_net_name", "$controlnets")),
     "CONTROL_NET", false},
    {"ControlNetApplyAdvanced", "Apply ControlNet", "conditioning/controlnet",
     WITH_OPTIONAL(LINK("positive", "CONDITIONING") AND LINK("negative", "CONDITIONING") AND LINK("control_net", "CONTROL_NET") AND
                   LINK("image", "IMAGE") AND FLOAT("strength", "1.0", "0.0", "2.0") AND PERCENT("start_percent", "0.0") AND
                   PERCENT("end_percent", "1.0"), LINK("vae", "VAE")), "CONDITIONING,CONDITIONING", false},
    {"ControlNetApply", "Apply ControlNet (OLD)", "conditioning/controlnet",
     REQUIRED(LINK("conditioning", "CONDITIONING") AND LINK("control_net", "CONTROL_NET") AND LINK("image", "IMAGE") AND
              FLOAT("strength", "1.0", "0.0", "2.0")), "CONDITIONING", false},
    {"ControlNetApplySD3", "Apply Controlnet with VAE", "conditioning/controlnet",
     REQUIRED(LINK("positive", "CONDITIONING") AND LINK("negative", "CONDITIONING") AND LINK("control_net", "CONTROL_NET") AND
              LINK("vae", "VAE") AND LINK("image", "IMAGE") AND FLOAT("strength", "1.0", "0.0", "2.0") AND
              PERCENT("start_percent", "0.0") AND PERCENT("end_percent", "1.0")), "CONDITIONING,CONDITIONING", false},
    {"Canny", "Canny", "image/preprocessors",
     REQUIRED(LINK("image", "IMAGE") AND FLOAT("low_threshold", "0.4", "0.01", "0.99") AND
              FLOAT("high_threshold", "0.8", "0.01", "0.99")), "IMAGE", false},
    {"ImageInvert", "Invert Image", "image", REQUIRED(LINK("image", "IMAGE")), "IMAGE", false},
    {"SaveImage", "Save Image", "image",
     REQUIRED(LINK("images", "IMAGE") AND "\"filename_prefix\":[\"STRING\",{\"default\":\"latentd\"}]"), "", true},
    {"PreviewImage", "Preview Image", "image", REQUIRED(LINK("images", "IMAGE")), "", true},
    {"SaveImageWebsocket", "SaveImageWebsocket", "api/image", REQUIRED(LINK("images", "IMAGE")), "", true},
    {NULL, NULL, NULL, NULL, NULL, false},
};
/* clang-format on */

const struct ld_comfy_node *ld_comfy_node_find(struct ld_span class_type)
{
    for (const struct ld_comfy_node *node = ld_comfy_nodes; node->class_type; node++)
        if (ld_span_is(class_type, node->class_type))
            return node;
    return NULL;
}

/* The fragment with every $NAME replaced by its list. */
static void expand(const char *fragment, const struct ld_comfy_lists *lists, struct ld_buffer *out)
{
    const struct {
        const char *name, *list;
    } places[] = {{"$models", lists->models},
                  {"$vaes", lists->vaes},
                  {"$loras", lists->loras},
                  {"$samplers", lists->samplers},
                  {"$schedulers", lists->schedulers},
                  {"$images", lists->images},
                  {"$controlnets", lists->controlnets}};
    while (*fragment) {
        const size_t size = strcspn(fragment, "$");
        ld_buffer_bytes(out, fragment, size);
        fragment += size;
        for (size_t i = 0; i < sizeof places / sizeof places[0] && *fragment; i++) {
            const size_t name = strlen(places[i].name);
            if (strncmp(fragment, places[i].name, name) == 0) {
                ld_buffer_text(out, places[i].list ? places[i].list : "[]");
                fragment += name;
                break;
            }
        }
    }
}

bool ld_comfy_node_inputs(const struct ld_comfy_node *node, const struct ld_comfy_lists *lists,
                          struct ld_arena *arena, struct ld_json_tree *tree)
{
    struct ld_buffer text = ld_buffer_make(LD_COMFY_LIST_BYTES_MAX);
    struct ld_error err;
    expand(node->input, lists, &text);
    char *kept = text.failed ? NULL : ld_arena_strndup(arena, text.data, text.size);
    const bool done = kept && ld_json_scan_wide(tree, ld_span_of(kept, text.size), LD_JSON_DEPTH,
                                                LD_JSON_GRAPH_VALUES, arena, &err) == LD_OK;
    ld_buffer_deinit(&text);
    return done;
}

/* ---- /object_info ---------------------------------------------------------------------------- */

static void write_words(const char *list, struct ld_buffer *out)
{
    const char *comma = "";
    ld_buffer_byte(out, '[');
    for (const char *at = list; *at;) {
        const size_t size = strcspn(at, ",");
        ld_buffer_text(out, comma);
        ld_buffer_json_span(out, ld_span_of(at, size));
        comma = ",";
        at += size + (at[size] == ',');
    }
    ld_buffer_byte(out, ']');
}

static void write_order(const struct ld_json_tree *tree, struct ld_buffer *out)
{
    const char *next = "{";
    for (const struct ld_json_node *group = ld_json_first(tree, ld_json_root(tree)); group;
         group = ld_json_after(tree, group)) {
        const char *comma = "";
        ld_buffer_text(out, next);
        ld_buffer_json_span(out, group->key);
        ld_buffer_text(out, ":[");
        for (const struct ld_json_node *input = ld_json_first(tree, group); input;
             input = ld_json_after(tree, input)) {
            ld_buffer_text(out, comma);
            ld_buffer_json_span(out, input->key);
            comma = ",";
        }
        ld_buffer_byte(out, ']');
        next = ",";
    }
    ld_buffer_byte(out, '}');
}

static bool write_node(const struct ld_comfy_node *node, const struct ld_comfy_lists *lists,
                       struct ld_arena *arena, struct ld_buffer *out)
{
    struct ld_json_tree tree;
    const char *comma = "";
    if (!ld_comfy_node_inputs(node, lists, arena, &tree))
        return false;
    ld_buffer_json_string(out, node->class_type);
    ld_buffer_text(out, ":{\"input\":");
    ld_buffer_bytes(out, tree.input.data, tree.input.size);
    ld_buffer_text(out, ",\"input_order\":");
    write_order(&tree, out);
    ld_buffer_text(out, ",\"output\":");
    write_words(node->output, out);
    ld_buffer_text(out, ",\"output_is_list\":[");
    for (const char *at = node->output; *at;) {
        ld_buffer_text(out, comma);
        ld_buffer_text(out, "false");
        comma = ",";
        at += strcspn(at, ",");
        at += *at == ',';
    }
    ld_buffer_text(out, "],\"output_name\":");
    write_words(node->output, out);
    ld_buffer_text(out, ",\"name\":");
    ld_buffer_json_string(out, node->class_type);
    ld_buffer_text(out, ",\"display_name\":");
    ld_buffer_json_string(out, node->title);
    ld_buffer_text(out, ",\"description\":\"\",\"python_module\":\"nodes\",\"category\":");
    ld_buffer_json_string(out, node->category);
    ld_buffer_format(out, ",\"output_node\":%s,\"deprecated\":false,\"experimental\":false}",
                     node->is_output ? "true" : "false");
    return true;
}

bool ld_comfy_write_object_info(const struct ld_comfy_lists *lists, const char *class_type,
                                struct ld_arena *arena, struct ld_buffer *out)
{
    const char *comma = "";
    bool found = false;
    ld_buffer_byte(out, '{');
    for (const struct ld_comfy_node *node = ld_comfy_nodes; node->class_type; node++) {
        if (*class_type && strcmp(class_type, node->class_type) != 0)
            continue;
        ld_buffer_text(out, comma);
        found = write_node(node, lists, arena, out);
        comma = ",";
    }
    ld_buffer_byte(out, '}');
    return found;
}
