/*
 * Every tensor a model of this family must have, generated from its widths: the name in the
 * single-file layout (the *canonical* one used everywhere inside), the name in a diffusers folder,
 * and the shape. Adapters and other spellings are found through the same list.
 *
 *     struct ld_keymap *map;
 *     ld_keymap_create(&map, &arch, err);
 *     for (uint32_t i = 0; i < ld_keymap_count(map); i++)
 *         use(ld_keymap_at(map, i)->name);
 *
 * Source   block numbering of the original network and of the diffusers library's converter
 *          (convert_original_stable_diffusion_to_diffusers).
 */
#ifndef LD_MODEL_KEYMAP_H
#define LD_MODEL_KEYMAP_H

#include "runtime/model/weights.h"

enum ld_part {
    LD_PART_UNET,
    LD_PART_VAE_ENCODER,
    LD_PART_VAE_DECODER,
    LD_PART_TEXT,
    LD_PART_CONTROL,
    LD_PART_COUNT
};

enum ld_key_kind { LD_KEY_LINEAR, LD_KEY_CONV, LD_KEY_NORM, LD_KEY_EMBEDDING, LD_KEY_BIAS };

/* Prefixes of canonical names. */
#define LD_PREFIX_UNET    "model.diffusion_model."
#define LD_PREFIX_VAE     "first_stage_model."
#define LD_PREFIX_TEXT    "cond_stage_model.transformer."
#define LD_PREFIX_CONTROL "control_model."

struct ld_key {
    const char *name;      /* canonical */
    const char *diffusers; /* inside unet/, vae/ or text_encoder/; of a ControlNet in its file */
    enum ld_part part;
    enum ld_key_kind kind;
    int32_t rank;
    int64_t shape[4];
};

struct ld_keymap;

/* Owner    returns owned; ld_keymap_destroy. Errors LD_E_NOMEM. */
enum ld_code ld_keymap_create(struct ld_keymap **out, const struct ld_arch *arch,
                              struct ld_error *err) LD_MUST_USE;
void ld_keymap_destroy(struct ld_keymap *map);

/* Keys of the four parts of a model, or of a ControlNet (arch->has_control), sorted by canonical
 * name. */
uint32_t ld_keymap_count(const struct ld_keymap *map);
const struct ld_key *ld_keymap_at(const struct ld_keymap *map, uint32_t index);

/* Index of a canonical name, -1 if there is none. */
int32_t ld_keymap_find(const struct ld_keymap *map, const char *name);

#endif
