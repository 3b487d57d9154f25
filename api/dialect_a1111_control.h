/*
 * The units of A1111's ControlNet extension, as Forge has them too, as the field `control`.
 *
 *     ld_a1111_translate_units(t, tree, args, "/alwayson_scripts/controlnet/args");
 *
 * A unit is an object; one that is not enabled is passed over. Its preprocessor ("module") must be
 * one that needs no network; its model is told with a hash behind it, as /controlnet/model_list
 * does. There a preprocessor works at processor_res and its map is enlarged; here it works at the
 * size of the picture, which the extension calls pixel perfect.
 *
 * Source: Mikubill/sd-webui-controlnet, wiki "API" and internal_controlnet/args.py (fields, usual
 * values, old names), scripts/enums.py, scripts/preprocessor (names and sliders).
 */
#ifndef LD_API_DIALECT_A1111_CONTROL_H
#define LD_API_DIALECT_A1111_CONTROL_H

#include "api/dialect.h"
#include "runtime/image/infotext_control.h"

/* `units`: an array of them; `pointer`: its place in the body. Complains with that place. */
void ld_a1111_translate_units(struct ld_translation *t, const struct ld_json_tree *tree,
                              const struct ld_json_node *units, const char *pointer);

/* Is this the script's title among alwayson_scripts? */
bool ld_a1111_is_control(struct ld_span title);

/* A preprocessor by A1111's name. */
struct ld_a1111_module {
    enum ld_hint_kind kind; /* whose name ld_infotext_module tells: "scribble_xdog" */
    const char *preprocess; /* native: "scribble" */
    const char *type;       /* of /controlnet/control_types: "Scribble" */
    struct ld_a1111_slider {
        const char *name; /* NULL: there is none */
        double usual, min, max, step;
    } sliders[2]; /* threshold_a and threshold_b */
};

/* By number, NULL behind the last; "none" is the first. */
const struct ld_a1111_module *ld_a1111_module_at(uint32_t index);

#endif
