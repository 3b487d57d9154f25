#include "runtime/model/model_need.h"

#include "runtime/model/model_state.h"

#include <string.h>

/* Of a latent: 64 to 4096 pixels, the least and the most that a request may ask for. */
enum { SIDE_MIN = 8, SIDE_MAX = 512 };

/* The steps, as sides of square latents. */
static const int32_t sides[] = {SIDE_MIN, 16,  24,  32,  48,  64,  80,  96,  112,     128,
                                144,      160, 192, 224, 256, 320, 384, 448, SIDE_MAX};
static const size_t side_count = sizeof sides / sizeof sides[0];
_Static_assert(sizeof sides / sizeof sides[0] <= LD_NEED_STEPS_MAX, "every side is a step");

/* ---- Weights --------------------------------------------------------------------------------- */

struct weighed {
    uint64_t text, unet, decoder;
    uint64_t ring; /* that streamed ones pass through */
};

/* What of it stays on the device, and the ring where it is streamed. */
static uint64_t slot_bytes(struct ld_backend *backend, const struct ld_weight_slot *slot,
                           bool streamed, uint64_t *ring)
{
    struct ld_weight_desc desc = ld_weight_slot_desc(slot);
    desc.streamed = streamed;
    const uint64_t wanted = streamed && backend->ops->ring_plan_bytes
                                ? backend->ops->ring_plan_bytes(backend, &desc)
                                : 0;
    *ring = wanted > *ring ? wanted : *ring;
    return backend->ops->weight_plan_bytes(backend, &desc);
}

/* As they stand packed; a backend that cannot tell keeps at least the values. */
static enum ld_code weigh(uint64_t *bytes, uint64_t *ring, const struct ld_arch *arch,
                          struct ld_backend *backend, enum ld_part part, bool streamed,
                          struct ld_error *err)
{
    struct ld_weight_layout layout;
    ld_weight_layout_init(&layout);
    const enum ld_code code = ld_plan_list_slots(&layout, arch, backend->act_dtype, part, err);
    *bytes = 0;
    if (code == LD_OK && !backend->ops->weight_plan_bytes)
        *bytes = ld_weight_layout_values(&layout) * sizeof(uint16_t);
    for (uint32_t i = 0; code == LD_OK && backend->ops->weight_plan_bytes && i < layout.count; i++)
        *bytes += slot_bytes(backend, &layout.slots[i], streamed, ring);
    ld_weight_layout_deinit(&layout);
    return code;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

static int32_t at_most(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* What one run takes beside its weights. */
static enum ld_code price(uint64_t *bytes, const struct ld_arch *arch, struct ld_backend *backend,
                          const struct ld_plan_key *key, struct ld_error *err)
{
    struct ld_weight_layout layout;
    struct ld_graph graph;
    ld_weight_layout_init(&layout);
    ld_graph_init(&graph, backend->act_dtype, &layout);
    ld_plan_build(&graph, arch, key);
    const enum ld_code code = ld_graph_finish(&graph, err);
    if (code == LD_OK)
        *bytes =
            (uint64_t)graph.scratch_bytes + graph.persistent_bytes +
            (backend->ops->workspace_bytes ? ld_graph_workspace_bytes(&graph, backend->ops) : 0);
    ld_graph_deinit(&graph);
    ld_weight_layout_deinit(&layout);
    return code;
}

static enum ld_code price_unet(uint64_t *bytes, const struct ld_arch *arch,
                               struct ld_backend *backend, int32_t side, struct ld_error *err)
{
    enum { CHUNK = 77 };
    const struct ld_plan_key key = {.part = LD_PART_UNET, .unet = {1, side, side, CHUNK}};
    return price(bytes, arch, backend, &key, err);
}

/*
 * A picture larger than a tile may be decoded as tiles, and a narrow one has narrow tiles: of all
 * shapes that have so many positions, the one whose tile is smallest. In one piece or in strips,
 * whichever takes less.
 */

static enum ld_code price_decoder(uint64_t *bytes, const struct ld_arch *arch,
                                  struct ld_backend *backend, int32_t positions,
                                  struct ld_error *err)
{
    const int32_t narrowest = (positions + SIDE_MAX - 1) / SIDE_MAX;
    const int32_t height = at_most(narrowest > SIDE_MIN ? narrowest : SIDE_MIN, LD_VAE_TILE_SIDE);
    const int32_t width = at_most(positions / height, LD_VAE_TILE_SIDE);
    struct ld_plan_key key = {.part = LD_PART_VAE_DECODER,
                              .vae = {.batch = 1, .height = height, .width = width}};
    uint64_t strips = 0;
    enum ld_code code = price(bytes, arch, backend, &key, err);
    key.vae.form = LD_VAE_FORM_STRIPS;
    if (code == LD_OK)
        code = price(&strips, arch, backend, &key, err);
    *bytes = strips < *bytes ? strips : *bytes;
    return code;
}

/* ---- The table ------------------------------------------------------------------------------- */

static enum ld_code weigh_parts(struct weighed *weighed, const struct ld_arch *arch,
                                struct ld_backend *backend, bool streamed, struct ld_error *err)
{
    uint64_t *ring = &weighed->ring;
    enum ld_code code = weigh(&weighed->unet, ring, arch, backend, LD_PART_UNET, streamed, err);
    if (code == LD_OK && arch->has_text)
        code = weigh(&weighed->text, ring, arch, backend, LD_PART_TEXT, streamed, err);
    if (code == LD_OK && arch->has_vae_decoder)
        code = weigh(&weighed->decoder, ring, arch, backend, LD_PART_VAE_DECODER, streamed, err);
    return code;
}

/* A plan's peak may fall a little where the size grows, and another shape of the same area may take
 * less: a step counts no more than any above it. */
static void level(struct ld_need *need)
{
    for (uint32_t i = need->count; i-- > 1;)
        if (need->steps[i - 1].bytes > need->steps[i].bytes)
            need->steps[i - 1].bytes = need->steps[i].bytes;
}

uint64_t ld_need_of(const struct ld_need *need, uint32_t positions)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < need->count && need->steps[i].positions <= positions; i++)
        bytes = need->steps[i].bytes;
    return bytes;
}

enum ld_code ld_need_plan(struct ld_need *need, const struct ld_arch *arch,
                          struct ld_backend *backend, bool streamed, struct ld_error *err)
{
    struct weighed weighed = {0};
    memset(need, 0, sizeof *need);
    if (!arch->has_unet)
        return LD_FAIL(err, LD_E_NOT_FOUND, "the model has no UNet");
    enum ld_code code = weigh_parts(&weighed, arch, backend, streamed, err);
    for (size_t i = 0; code == LD_OK && i < side_count; i++) {
        uint64_t pass = 0;
        uint64_t decode = 0;
        code = price_unet(&pass, arch, backend, sides[i], err);
        if (code == LD_OK && arch->has_vae_decoder)
            code = price_decoder(&decode, arch, backend, sides[i] * sides[i], err);
        decode += weighed.decoder;
        need->steps[need->count++] = (struct ld_need_step){
            .positions = (uint32_t)(sides[i] * sides[i]),
            .bytes = weighed.ring + weighed.text + weighed.unet + (pass > decode ? pass : decode) +
                     backend->library_bytes,
        };
    }
    level(need);
    return code;
}
