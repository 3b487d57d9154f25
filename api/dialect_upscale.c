#include "api/dialect_upscale.h"

#include "config/limits.h"

#include <strings.h>

/* ---- A1111 ----------------------------------------------------------------------------------- */

static const struct {
    const char *label, *upscaler;
} filters[] = {
    {"None", NULL},
    {"Lanczos", "pixel-lanczos"},
    {"Nearest", "pixel-nearest-exact"},
    {"Bicubic", "pixel-bicubic"},
    {"Bilinear", "pixel-bilinear"},
    {"Area", "pixel-area"},
};
enum { FILTER_COUNT = sizeof filters / sizeof filters[0] };

const char *ld_a1111_upscaler_at(uint32_t index)
{
    return index < FILTER_COUNT ? filters[index].label : NULL;
}

static const struct ld_dialect_row extra_rows[] = {
    {"image", LD_DIALECT_READ, NULL},
    {"resize_mode", LD_DIALECT_READ, NULL},
    {"upscaling_resize", LD_DIALECT_READ, NULL},
    {"upscaling_resize_w", LD_DIALECT_READ, NULL},
    {"upscaling_resize_h", LD_DIALECT_READ, NULL},
    {"upscaling_crop", LD_DIALECT_READ, NULL},
    {"upscaler_1", LD_DIALECT_READ, NULL},
    {"upscaler_2", LD_DIALECT_READ, NULL},
    {"extras_upscaler_2_visibility", LD_DIALECT_READ, NULL},
    {"gfpgan_visibility", LD_DIALECT_LACKED, "face restoration"},
    {"codeformer_visibility", LD_DIALECT_LACKED, "face restoration"},
    {"codeformer_weight", LD_DIALECT_IGNORE, NULL}, /* without the visibility it says nothing */
    {"upscale_first", LD_DIALECT_IGNORE, NULL},     /* before or after faces are restored */
    {"show_extras_results", LD_DIALECT_IGNORE, NULL},
    {NULL, LD_DIALECT_READ, NULL},
};

/* The filter, or NULL: the picture as it is, also after a refusal. */
static const char *find_filter(struct ld_translation *t, const char *key, const char *name)
{
    char pointer[48];
    for (int i = 0; i < FILTER_COUNT; i++)
        if (strcasecmp(name, filters[i].label) == 0)
            return filters[i].upscaler;
    if (ld_fmt(pointer, sizeof pointer, "/%s", key))
        ld_translation_refuse(t, pointer,
                              "%s: there is no upscaler %.64s here; /sdapi/v1/upscalers lists them",
                              key, name);
    return NULL;
}

static void put_second(struct ld_translation *t, const struct ld_json_tree *tree)
{
    const struct ld_json_node *root = ld_json_root(tree);
    const char *second = ld_body_text(t, tree, root, "upscaler_2", "None");
    if (find_filter(t, "upscaler_2", *second ? second : "None") &&
        ld_body_number(t, tree, root, "extras_upscaler_2_visibility", 0) > 0)
        ld_translation_refuse(t, "/extras_upscaler_2_visibility",
                              "extras_upscaler_2_visibility: latentd does not mix two upscalers");
}

static void put_size(struct ld_translation *t, const struct ld_json_tree *tree)
{
    const struct ld_json_node *root = ld_json_root(tree);
    const int64_t mode = ld_body_whole(t, tree, root, "resize_mode", 0);
    if (mode == 0) {
        ld_recipe_put_double(&t->fields, "upscale.scale",
                             ld_body_number(t, tree, root, "upscaling_resize", 2));
    } else if (mode == 1) {
        const bool crop = ld_body_flag(t, tree, root, "upscaling_crop", true);
        ld_recipe_put_integer(&t->fields, "upscale.width",
                              ld_body_whole(t, tree, root, "upscaling_resize_w", 512));
        ld_recipe_put_integer(&t->fields, "upscale.height",
                              ld_body_whole(t, tree, root, "upscaling_resize_h", 512));
        ld_recipe_put_string(&t->fields, "upscale.resize", crop ? "crop" : "cover");
    } else {
        ld_translation_refuse(t, "/resize_mode", "resize_mode must be 0 or 1");
    }
}

static void put_image(struct ld_translation *t, const struct ld_json_tree *tree)
{
    const struct ld_json_node *image = ld_lenient_member(tree, ld_json_root(tree), "image");
    if (image)
        ld_translate_picture(t, image, "/image", "upscale.image");
    else
        ld_translation_refuse(t, "/image", "image is required");
}

void ld_a1111_translate_extra(struct ld_translation *t, const struct ld_json_tree *tree,
                              const struct ld_a1111_options *options)
{
    const struct ld_json_node *root = ld_json_root(tree);
    const char *first = ld_body_text(t, tree, root, "upscaler_1", "None");
    const char *filter = find_filter(t, "upscaler_1", *first ? first : "None");
    ld_translate_rows(t, tree, root, extra_rows);
    ld_a1111_put_file(t, options);
    put_image(t, tree);
    put_second(t, tree);
    if (filter) {
        ld_recipe_put_string(&t->fields, "upscale.upscaler", filter);
        put_size(t, tree);
    } else {
        ld_recipe_put_integer(&t->fields, "upscale.scale", 1);
    }
}

/* ---- NovelAI --------------------------------------------------------------------------------- */

static const struct ld_dialect_row novelai_rows[] = {
    {"image", LD_DIALECT_READ, NULL},  {"width", LD_DIALECT_READ, NULL},
    {"height", LD_DIALECT_READ, NULL}, {"scale", LD_DIALECT_READ, NULL},
    {NULL, LD_DIALECT_READ, NULL},
};

void ld_novelai_translate_upscale(struct ld_translation *t, const struct ld_json_tree *tree,
                                  struct ld_novelai_upscale *said)
{
    const struct ld_json_node *root = ld_json_root(tree);
    const int64_t scale = ld_body_whole(t, tree, root, "scale", 4);
    ld_translate_rows(t, tree, root, novelai_rows);
    said->width = ld_body_whole(t, tree, root, "width", 0);
    said->height = ld_body_whole(t, tree, root, "height", 0);
    put_image(t, tree);
    if (scale == 2 || scale == 4)
        ld_recipe_put_integer(&t->fields, "upscale.scale", scale);
    else
        ld_translation_refuse(t, "/scale", "scale must be 2 or 4");
}
