#include "tests/tools/demo_weights.h"

#include "tests/tools/genweights.h"

#include <math.h>
#include <string.h>

/* 64 channels throughout: two to a normalisation group, which the pairs need; an evaluation at
 * 256x256 takes well under a second and the file 13 MB. Depths and head count are SD1.5's. */
const char *const LD_DEMO_CONFIG =
    "{\"unet\": {\"model_channels\": 64, \"channel_mult\": [1, 1, 1, 1], \"num_heads\": 8, "
    "\"context_dim\": 64}, \"vae\": {\"ch\": 64, \"ch_mult\": [1, 1, 1, 1]}, "
    "\"clip\": {\"layers\": 4, \"heads\": 4, \"width\": 64, \"intermediate\": 256}}";

enum { WIDTH = 64, LATENT = 4, PICTURE = 3, CARRIERS = 2 * LATENT };
/* Decoder blocks from here on work at full size, where features would show as grain: they only hand
 * on what comes from below. */
enum { SMOOTH_BLOCK = 9 };

/* How much the random channels change what the carriers say, and each other. */
static const double RESIDUAL_GAIN = 0.4;
static const double OUTPUT_GAIN = 0.2;
static const double CONTEXT_GAIN = 4;
/* Slightly too much, so that the last steps leave no grain. */
static const double NOISE_GAIN = 1.1;

/* Latent to colour: rows red, green, blue. Any well-conditioned choice does. */
static const double COLOURS[PICTURE][LATENT] = {
    {0.30, 0.30, -0.15, 0.10}, {0.30, -0.10, 0.25, 0.15}, {0.30, -0.20, -0.10, -0.30}};

/* ---- Names ----------------------------------------------------------------------------------- */

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static bool ends(const char *name, const char *tail)
{
    const size_t length = strlen(name);
    const size_t size = strlen(tail);
    return length >= size && strcmp(name + length - size, tail) == 0;
}

/* Number of the decoder block, -1 for other tensors. */
static int decoder_block(const char *name)
{
    const char *at = strstr(name, "output_blocks.");
    if (!at)
        return -1;
    at += strlen("output_blocks.");
    int block = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        block = 10 * block + (*at - '0');
    return block;
}

/* ---- One value ------------------------------------------------------------------------------- */

struct place {
    int64_t out, in, y, x; /* indices in [out, in, ky, kx] */
};

static double pair_sign(int64_t carrier)
{
    return carrier % 2 ? -1 : 1;
}

static bool is_centre(const struct ld_key *key, const struct place *at)
{
    return key->rank < 4 || key->shape[2] == 1 || (at->y == 1 && at->x == 1);
}

/* 1 2 1 in both directions over 16: a low-pass of gain one. */
static double smoothing(const struct place *at)
{
    return (at->y == 1 ? 2 : 1) * (at->x == 1 ? 2 : 1) / 16.0;
}

/* The mix of two decoder sources for a carrier: `deep` of what comes from below, `skip` of the
 * skip. The last block takes the low-pass off, block 3 and 6 let some detail in. */
static void mix_of(int block, double *deep, double *skip)
{
    *deep = block == 11 ? -1 : block == 3 ? 0.8 : block == 6 ? 0.9 : 1;
    *skip = block == 11 ? 1 : 1 - *deep;
}

/* Weights whose rows write carriers: false if the rule of the tensor does not say anything. */
static bool carrier_row(const struct ld_key *key, const struct place *at, double *value)
{
    const char *name = key->name;
    *value = 0;
    if (ends(name, "input_blocks.0.0.weight") || ends(name, "decoder.conv_in.weight") ||
        ends(name, "encoder.conv_in.weight")) {
        *value = is_centre(key, at) && at->in == at->out / 2 ? pair_sign(at->out) : 0;
    } else if (ends(name, ".op.weight") || ends(name, "sample.conv.weight") ||
               (has(name, "output_blocks") && ends(name, ".conv.weight"))) {
        *value = at->in == at->out ? smoothing(at) : 0;
    } else if (ends(name, "skip_connection.weight")) {
        double deep;
        double skip;
        mix_of(decoder_block(name), &deep, &skip);
        *value = at->in == at->out ? deep : at->in == at->out + WIDTH ? skip : 0;
    }
    return true;
}

/* The convolutions and maps that end a network; true if `name` is one of them. */
static bool final_map(const struct ld_key *key, const struct place *at, double random,
                      double *value)
{
    const char *name = key->name;
    const int64_t source = at->in / 2;
    const bool carrier = is_centre(key, at) && at->in < CARRIERS;
    if (ends(name, "diffusion_model.out.2.weight")) {
        *value = at->in >= CARRIERS ? OUTPUT_GAIN * random : 0;
        if (carrier && source == at->out)
            *value = NOISE_GAIN * pair_sign(at->in);
    } else if (ends(name, "decoder.conv_out.weight")) {
        *value = at->in >= CARRIERS ? 0.02 * random : 0;
        if (carrier)
            *value = COLOURS[at->out][source] * pair_sign(at->in);
    } else if (ends(name, "encoder.conv_out.weight")) {
        *value = 0;
        if (carrier && source < PICTURE && at->out < LATENT)
            *value = COLOURS[source][at->out] * 4 * pair_sign(at->in);
    } else if (ends(name, "post_quant_conv.weight") || ends(name, ".quant_conv.weight")) {
        *value = at->in == at->out ? 1 : 0;
    } else {
        return false;
    }
    return true;
}

/* Rows of random channels that only hand on: upsampling, and the decoder's last level. */
static bool smooth_row(const struct ld_key *key, const struct place *at, double *value)
{
    const char *name = key->name;
    const int block = decoder_block(name);
    *value = 0;
    if (block >= 0 && ends(name, ".conv.weight"))
        *value = at->in == at->out ? smoothing(at) : 0;
    else if (block >= SMOOTH_BLOCK && ends(name, "skip_connection.weight"))
        *value = at->in == at->out ? 1 : 0;
    else
        return block >= SMOOTH_BLOCK && (has(name, "out_layers.3.") || has(name, "proj_out."));
    return true;
}

/* Maps back onto the residual stream: rows of carriers stay zero, the others are kept small. */
static bool writes_residual(const char *name)
{
    return has(name, "out_layers.3.") || has(name, "proj_out.") || has(name, ".conv2.");
}

static double matrix_value(const struct ld_key *key, const struct place *at, double random)
{
    double value;
    const char *name = key->name;
    const bool picture_side = !has(name, "cond_stage_model");
    if (final_map(key, at, random, &value))
        return value;
    const bool carries = ends(name, "input_blocks.0.0.weight") || has(name, ".op.") ||
                         has(name, "sample.conv") || has(name, "conv_in.") ||
                         (has(name, "output_blocks") && has(name, ".conv.")) ||
                         has(name, "skip_connection");
    if (picture_side && at->out < CARRIERS && (carries || writes_residual(name)) &&
        carrier_row(key, at, &value))
        return value;
    if (at->out >= CARRIERS && smooth_row(key, at, &value))
        return value;
    if (ends(name, "attn2.to_out.0.weight"))
        return CONTEXT_GAIN * random;
    if (writes_residual(name))
        return RESIDUAL_GAIN * random;
    return random;
}

static double vector_value(const struct ld_key *key, int64_t index, double uniform)
{
    const char *name = key->name;
    if (ends(name, ".weight"))
        return 1; /* norms: unit gain keeps the carriers' scale known */
    if (ends(name, ".quant_conv.bias"))
        return index < LATENT ? 0 : -20; /* the logarithm of a variance of nothing */
    if (ends(name, "decoder.conv_out.bias"))
        return 0.1; /* a little above middle grey */
    if (has(name, "cond_stage_model"))
        return 0.1 * uniform;
    const bool touches_carrier = index < CARRIERS || has(name, "quant_conv") ||
                                 has(name, "conv_out") || has(name, "diffusion_model.out.2");
    const int block = decoder_block(name);
    const bool hands_on = block >= SMOOTH_BLOCK || (block >= 0 && ends(name, ".conv.bias"));
    return touches_carrier || hands_on ? 0 : 0.1 * uniform;
}

/* ---- A stretch ------------------------------------------------------------------------------- */

static double scale_of(const struct ld_key *key)
{
    double fan_in = 1;
    for (int32_t d = 1; d < key->rank; d++)
        fan_in *= (double)key->shape[d];
    if (ends(key->name, "token_embedding.weight"))
        return 1;
    if (ends(key->name, "position_embedding.weight"))
        return 0.2;
    return sqrt(3 / fan_in);
}

void ld_demo_weights_fill(const void *ctx, const struct ld_key *key, size_t first, size_t count,
                          uint16_t *out)
{
    (void)ctx;
    const uint64_t hash = ld_genweights_hash(key->name);
    const double scale = scale_of(key);
    const int64_t kernel = key->rank == 4 ? key->shape[2] : 1;
    const int64_t inputs = key->rank >= 2 ? key->shape[1] : 1;
    for (size_t i = 0; i < count; i++) {
        const int64_t index = (int64_t)(first + i);
        const double uniform = ld_genweights_uniform(hash, (uint64_t)index);
        const int64_t column = index / (kernel * kernel);
        const struct place at = {.out = column / inputs,
                                 .in = column % inputs,
                                 .y = index / kernel % kernel,
                                 .x = index % kernel};
        out[i] = ld_genweights_f16(key->rank >= 2 ? matrix_value(key, &at, scale * uniform)
                                                  : vector_value(key, index, uniform));
    }
}
