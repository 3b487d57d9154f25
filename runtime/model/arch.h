/*
 * The numbers that shape a model: SD1.5's own, and those of small test models, which a file must
 * declare in its metadata.
 */
#ifndef LD_MODEL_ARCH_H
#define LD_MODEL_ARCH_H

#include "runtime/model/weights.h"

/* Key of __metadata__ that declares other widths than SD1.5's. */
#define LD_TEST_CONFIG_KEY "latentd.test_config"

/* Key under which such a file carries the merges of its own vocabulary, as text. */
#define LD_VOCABULARY_KEY "latentd.bpe_merges"

/* SD1.5's widths and schedule, 4 input channels, eps; no part present yet. */
void ld_arch_set_sd15(struct ld_arch *arch);

/*
 * Replace the widths by those of a test model:
 * {"unet": {"model_channels", "channel_mult", "num_heads", "context_dim"},
 *  "vae": {"ch", "ch_mult"}, "clip": {"layers", "heads", "width", "intermediate"}}
 * Each part may be absent. Widths must be multiples of 32 (the normalisation groups) and of the
 * head count.
 * Errors   LD_E_FORMAT, LD_E_RANGE, LD_E_TOO_LARGE.
 */
enum ld_code ld_arch_set_test_config(struct ld_arch *arch, const char *json,
                                     struct ld_error *err) LD_MUST_USE;

#endif
