/*
 * Adapters: small files that change the weights of a model. LoRA, LoCon, LoHa, LoKr, GLoRA, IA3,
 * full and norm differences, each with or without DoRA, under every naming scheme in use. A variant
 * is an overlay over the base; its tensors are computed in float32 when they are asked for.
 *
 *     ld_adapter_open(&adapter, path, err);
 *     ld_weights_overlay(&variant, base, err);
 *     struct ld_adapter_options options = {.unet_strength = 0.8, .text_strength = 0.8, .pool =
 * pool}; ld_adapter_apply(adapter, variant, &options, &report, err);
 *
 * Several adapters are applied one after the other to the same overlay. Deltas commute; DoRA and
 * IA3 see what the ones before them left.
 *
 * Source   Hu et al. 2021, arXiv:2106.09685 (LoRA); Yeh et al. 2023, arXiv:2309.14859 (LoCon, LoHa,
 *          LoKr, IA3, norms); Liu et al. 2024, arXiv:2402.09353 (DoRA); Chavan et al. 2023,
 *          arXiv:2306.07967 (GLoRA).
 */
#ifndef LD_MODEL_ADAPTER_H
#define LD_MODEL_ADAPTER_H

#include "runtime/base/thread.h"
#include "runtime/model/weights.h"

enum { LD_ADAPTER_RANK_MAX = 1024, LD_ADAPTER_NAME_SIZE = 160 };

/* Which norm DoRA divides by, where programs disagree. */
enum ld_dora_norm {
    LD_DORA_MERGED, /* of the merged weight */
    LD_DORA_COMFY   /* per output: of the weight before; per input: of the merged weight */
};

/* Bits of ld_adapter_info.families. */
enum ld_adapter_family {
    LD_ADAPTER_LORA = 1,
    LD_ADAPTER_TUCKER = 2, /* LoCon, LoHa or LoKr with a core tensor */
    LD_ADAPTER_LOHA = 4,
    LD_ADAPTER_LOKR = 8,
    LD_ADAPTER_GLORA = 16,
    LD_ADAPTER_IA3 = 32,
    LD_ADAPTER_FULL = 64, /* differences of whole weights or biases, and replacements */
    LD_ADAPTER_NORM = 128,
    LD_ADAPTER_DORA = 256,
    LD_ADAPTER_OFT = 512, /* recognised and refused */
    LD_ADAPTER_FAMILY_BITS = 10
};

struct ld_adapter_info {
    uint32_t tensors, modules;
    uint32_t unknown_tensors; /* whose suffix no family has */
    uint32_t text_modules;    /* as far as their names tell */
    uint32_t families;
    int32_t rank_min, rank_max;  /* 0 where no module has a rank */
    double alpha_min, alpha_max; /* likewise */
    uint32_t embeddings;         /* bundled textual inversions */
};

struct ld_adapter;

/*
 * Read the file's names and group them; no data is touched. Works for any file, matching against a
 * model comes with ld_adapter_apply.
 * Owner    returns owned; ld_adapter_close. The bytes form borrows the bytes until close.
 * Errors   LD_E_FORMAT, LD_E_NOT_FOUND, LD_E_IO, LD_E_TOO_LARGE (rank over 1,024), LD_E_NOMEM.
 */
enum ld_code ld_adapter_open(struct ld_adapter **out, const char *path,
                             struct ld_error *err) LD_MUST_USE;
enum ld_code ld_adapter_open_fd(struct ld_adapter **out, int fd, struct ld_error *err) LD_MUST_USE;
enum ld_code ld_adapter_open_bytes(struct ld_adapter **out, struct ld_span bytes,
                                   struct ld_error *err) LD_MUST_USE;
void ld_adapter_close(struct ld_adapter *adapter);

const struct ld_adapter_info *ld_adapter_info(const struct ld_adapter *adapter);
/* __metadata__ of the file; NULL if the key is absent. */
const char *ld_adapter_metadata(const struct ld_adapter *adapter, const char *key);
/* "lora", "loha", ...; NULL past the last bit. */
const char *ld_adapter_family_name(uint32_t bit_index);

/* A bundled textual inversion: its name and [vectors, width] values, decoded into `dst` when that
 * is not NULL. False past the last one. */
struct ld_adapter_embedding {
    char name[LD_ADAPTER_NAME_SIZE];
    int32_t vectors, width;
};
bool ld_adapter_embedding_at(const struct ld_adapter *adapter, uint32_t index,
                             struct ld_adapter_embedding *out, float *dst);

struct ld_adapter_options {
    double unet_strength, text_strength;
    enum ld_dora_norm dora_norm;
    struct ld_pool *pool; /* NULL: the calling thread alone */
};

struct ld_adapter_report {
    uint32_t modules_applied;
    uint32_t tensors_applied;                   /* weights and biases of the model that changed */
    uint32_t modules_unmatched;                 /* no such module in the model, or another shape */
    char first_unmatched[LD_ADAPTER_NAME_SIZE]; /* "" if all matched */
};

/*
 * Let `overlay` (made with ld_weights_overlay) hold what the adapter makes of its tensors; they are
 * computed by ld_weights_make. Parts of the model that are absent (a UNet
 * without text encoder) leave their modules unmatched without counting as unknown. A strength of 0
 * leaves its part untouched.
 * Owner    borrows adapter and pool until the overlay is closed or no longer asked; `report` may
 *          be NULL. After an error the overlay is as it was.
 * Errors   LD_E_UNSUPPORTED (more than half of the tensors are unknown to SD1.5, or OFT),
 *          LD_E_TOO_LARGE (64 adapters), LD_E_NOMEM.
 */
enum ld_code ld_adapter_apply(const struct ld_adapter *adapter, struct ld_weights *overlay,
                              const struct ld_adapter_options *options,
                              struct ld_adapter_report *report, struct ld_error *err) LD_MUST_USE;

#endif
