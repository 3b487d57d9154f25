#include "runtime/numerics.h"

#include <string.h>

static const char *precision_of(const struct ld_backend *backend)
{
    const enum ld_dtype dtype = backend->act_dtype;
    return dtype == LD_DTYPE_F16 ? "fp16" : dtype == LD_DTYPE_BF16 ? "bf16" : "fp32";
}

/* The chip or the CPU's level: what stands before the first comma ("AVX-512, 2 threads"). */
static void write_device(struct ld_buffer *out, const struct ld_backend *backend)
{
    char device[sizeof backend->description];
    (void)ld_fmt(device, sizeof device, "%s", backend->description);
    device[strcspn(device, ",")] = '\0';
    ld_buffer_json_string(out, device);
}

enum ld_code ld_numerics_write(struct ld_buffer *out, struct ld_model *unet, struct ld_model *vae,
                               const struct ld_numerics_sizes *sizes, struct ld_error *err)
{
    const struct ld_backend *backend = ld_model_backend(unet);
    const bool twice = sizes->second_height > 0;
    const int32_t height = twice ? sizes->second_height : sizes->height;
    const int32_t width = twice ? sizes->second_width : sizes->width;
    uint64_t first = 0;
    uint64_t second = 0;
    uint64_t decoder = 0;
    enum ld_code code =
        ld_model_signature(unet, LD_PART_UNET, sizes->height, sizes->width, &first, err);
    if (code == LD_OK && twice)
        code = ld_model_signature(unet, LD_PART_UNET, height, width, &second, err);
    if (code == LD_OK)
        code = ld_model_signature(vae, LD_PART_VAE_DECODER, height, width, &decoder, err);
    if (code != LD_OK)
        return code;
    ld_buffer_format(out, "{\"backend\":\"%s\",\"device\":", backend->name);
    write_device(out, backend);
    ld_buffer_format(out, ",\"precision\":\"%s\"", precision_of(backend));
    if (ld_model_backend(vae)->act_dtype != backend->act_dtype)
        ld_buffer_format(out, ",\"vae_precision\":\"%s\"", precision_of(ld_model_backend(vae)));
    if (backend->ops->signature)
        ld_buffer_format(out, ",\"unet\":\"%016llx\",\"vae\":\"%016llx\"",
                         (unsigned long long)(first ^ second << 1 ^ second >> 63),
                         (unsigned long long)decoder);
    ld_buffer_byte(out, '}');
    return LD_OK;
}
