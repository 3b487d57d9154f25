/*
 * The ControlNet extension's units in A1111's bodies, as the field `control`; and which of its
 * preprocessors there are here.
 *
 *     ld_a1111_translate_control(t, &tree, root); // after what says init and hires
 *
 * A unit is an object in the `args` of the script "ControlNet", or of the older `controlnet_units`.
 * One that is switched off, or empty, is passed over; one that does not say is on. Whatever a unit
 * says that cannot be done is refused by its place.
 *
 * Source: the members, their defaults and aliases, and the preprocessors with their sliders are
 * those of Mikubill's sd-webui-controlnet (internal_controlnet/args.py, scripts/enums.py,
 * scripts/preprocessor) and of Forge's lib_controlnet/external_code.py.
 */
#ifndef LD_API_DIALECT_A1111_CONTROL_H
#define LD_API_DIALECT_A1111_CONTROL_H

#include "api/dialect.h"

/* A number of a preprocessor. */
struct ld_a1111_slider {
    const char *label; /* NULL: there is none */
    double least, most, step, usual;
};

struct ld_a1111_module {
    const char *name;
    const char *label;                /* what its menu shows, another name of it */
    const char *preprocess;           /* ours */
    struct ld_a1111_slider slider[2]; /* threshold_a, threshold_b */
};

/* Those that are the same here, "none" first. */
const struct ld_a1111_module *ld_a1111_modules(uint32_t *count);

/* Is a script of this title the extension? */
bool ld_a1111_is_control(struct ld_span title);

/* Put the units of a body (`root`) as `control`. `init` and `hires` have been put before. */
void ld_a1111_translate_control(struct ld_translation *t, const struct ld_json_tree *tree,
                                const struct ld_json_node *root);

#endif
