#include "runtime/model/unet_freeu.h"

#include "runtime/sample/guidance_freeu.h"

struct ld_unet_freeu *ld_unet_freeu_create(struct ld_arena *arena, enum ld_freeu_version version,
                                           float backbone, float skip, int32_t height,
                                           int32_t width)
{
    struct ld_unet_freeu *freeu = ld_arena_alloc(arena, sizeof *freeu);
    if (!freeu)
        return NULL;
    freeu->version = version;
    freeu->backbone = backbone;
    freeu->skip = skip;
    freeu->plane = ld_arena_calloc(arena, (size_t)height * (size_t)width, sizeof(float));
    freeu->lines = ld_arena_calloc(arena, 2 * ((size_t)height + (size_t)width), sizeof(double));
    return freeu->plane && freeu->lines ? freeu : NULL;
}

/* One image of planes as the map that the formulas take. */
static struct ld_feature_map map_of(float *planes, int32_t image, int32_t channels, int32_t height,
                                    int32_t width)
{
    const size_t plane = (size_t)height * (size_t)width;
    return (struct ld_feature_map){
        .data = planes + (size_t)image * (size_t)channels * plane,
        .channels = channels,
        .height = height,
        .width = width,
        .channel_stride = plane,
        .pixel_stride = 1,
    };
}

void ld_unet_freeu_backbone(const void *ctx, float *planes, int32_t batch, int32_t channels,
                            int32_t height, int32_t width)
{
    const struct ld_unet_freeu *freeu = ctx;
    for (int32_t image = 0; image < batch; image++) {
        const struct ld_feature_map map = map_of(planes, image, channels, height, width);
        ld_freeu_backbone(&map, freeu->backbone, freeu->version == LD_FREEU_V2, freeu->plane);
    }
}

void ld_unet_freeu_skip(const void *ctx, float *planes, int32_t batch, int32_t channels,
                        int32_t height, int32_t width)
{
    const struct ld_unet_freeu *freeu = ctx;
    for (int32_t image = 0; image < batch; image++) {
        const struct ld_feature_map map = map_of(planes, image, channels, height, width);
        ld_freeu_skip(&map, freeu->skip, freeu->lines);
    }
}
