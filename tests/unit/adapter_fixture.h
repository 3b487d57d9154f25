/*
 * Adapter files made for tests, and what a merge with the smallest model must give: factors are
 * listed, written, merged, and every weight is compared with a formula in double precision.
 */
#ifndef LD_TESTS_ADAPTER_FIXTURE_H
#define LD_TESTS_ADAPTER_FIXTURE_H

#include "runtime/model/adapter.h"
#include "tests/unit/model_fixture.h"

#define UNET    "model.diffusion_model."
#define LINEAR  UNET "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"    /* [32, 32] */
#define WIDE    UNET "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight" /* [256, 32] */
#define CONV    UNET "input_blocks.1.0.in_layers.2.weight" /* [32, 32, 3, 3] */
#define CONV_IN UNET "input_blocks.0.0.weight"             /* [32, 4, 3, 3] */
#define NORM    UNET "out.0.weight"                        /* [32] */
#define TEXT                                                                                       \
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight" /* [64, 32] */

#define M_LINEAR  "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
#define M_WIDE    "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj"
#define M_CONV    "lora_unet_input_blocks_1_0_in_layers_2"
#define M_CONV_IN "lora_unet_conv_in"
#define M_NORM    "lora_unet_conv_norm_out"
#define M_TEXT    "lora_te_text_model_encoder_layers_0_mlp_fc1"

enum { C = 32, R = 3, K = 9 };

extern struct fixture adapter_file; /* of the running test */
extern char adapter_folder[256];
extern struct ld_weights *adapter_base; /* the model, in float32 */

/* Of all tests of a program. */
int open_adapter_base(void **state);
int close_adapter_base(void **state);

/* ---- Files and factors ----------------------------------------------------------------------- */

void start(void);
/* A factor in float32, so that the formulas start from the same numbers. */
void factor(const char *name, uint32_t rank, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void alpha(const char *name, const float *number); /* which stays */
double value(const char *name, size_t index);
double before(const char *name, size_t index); /* W before merging */

struct ld_adapter *open_file(void);
struct ld_weights *merge_into(const struct ld_weights *below,
                              const struct ld_adapter_options *options);
struct ld_weights *merge(double strength);

/* LoRA in every naming and for every kind of weight; DoRA of the wide layer. */
extern const float two[1];
void add_lora(void);
void add_dora(uint32_t rank, uint64_t a, uint64_t b);

/* ---- Formulas -------------------------------------------------------------------------------- */

/* W' as a function of output row, input column and kernel tap. */
typedef double (*formula)(size_t o, size_t i, size_t k);

void assert_near(double got, double expected);
void assert_weight(const struct ld_weights *overlay, const char *name, size_t in, size_t kernel,
                   formula expected);
size_t conv_index(size_t o, size_t i, size_t k);
/* Element [o, j] of up x down. */
double low_rank(const char *up, const char *down, size_t rank, size_t columns, size_t o, size_t j);

#endif
