#include "runtime/model/model_state.h"

#include <string.h>

/* Chunks a run encodes together. Their number does not touch a bit of any of them; eight fill the
 * cores with matrices of 616 rows. */
enum { CHUNKS_PER_RUN = 8 };

/* Ids as the operator wants them: inside the table also where a vector stands in. */
static enum ld_code check_ids(const struct ld_text_request *request, const struct ld_arch *arch,
                              struct ld_error *err)
{
    const size_t rows = (size_t)request->chunks * (size_t)arch->text_positions;
    for (size_t i = 0; i < rows; i++) {
        if (request->vectors && request->vectors[i])
            continue;
        if (request->ids[i] < 0 || request->ids[i] >= arch->text_vocabulary)
            return LD_FAIL(err, LD_E_RANGE,
                           "the prompt has token %d, but the model's vocabulary has %d",
                           (int)request->ids[i], (int)arch->text_vocabulary);
    }
    return LD_OK;
}

static enum ld_code encode_run(struct ld_model *model, struct ld_variant *variant,
                               const struct ld_text_request *request, int32_t first, int32_t chunks,
                               float *out, struct ld_error *err)
{
    const struct ld_arch *arch = ld_model_arch(model);
    const size_t skipped = (size_t)first * (size_t)arch->text_positions;
    const size_t rows = (size_t)chunks * (size_t)arch->text_positions;
    const struct ld_plan_key key = {.part = LD_PART_TEXT,
                                    .clip = {.chunks = chunks, .skip = request->skip}};
    struct ld_plan *plan;
    struct ld_graph_run run;
    enum ld_code code =
        ld_model_prepare(model, variant, &key, rows * sizeof(int32_t), &plan, &run, err);
    if (code != LD_OK)
        return code;
    int32_t *ids = (void *)plan->host;
    const float *const *vectors = request->vectors ? request->vectors + skipped : NULL;
    for (size_t i = 0; i < rows; i++)
        ids[i] = vectors && vectors[i] ? 0 : request->ids[skipped + i];
    run.in[LD_PORT_IDS] = ids;
    run.in[LD_PORT_VECTORS] = vectors;
    run.out[LD_PORT_OUT] = out + skipped * (size_t)arch->text_width;
    return ld_model_run(model, plan, &run, err);
}

enum ld_code ld_model_encode_text(struct ld_model *model, struct ld_variant *variant,
                                  const struct ld_text_request *request, float *out,
                                  struct ld_error *err)
{
    if (request->chunks < 1)
        return LD_FAIL(err, LD_E_RANGE, "a prompt has at least one chunk");
    enum ld_code code = ld_model_load(model, LD_PART_TEXT, err);
    ld_range_push(model->backend->ranges, "clip x%d", request->chunks);
    if (code == LD_OK)
        code = check_ids(request, ld_model_arch(model), err);
    for (int32_t first = 0; code == LD_OK && first < request->chunks; first += CHUNKS_PER_RUN) {
        const int32_t left = request->chunks - first;
        code = encode_run(model, variant, request, first,
                          left < CHUNKS_PER_RUN ? left : CHUNKS_PER_RUN, out, err);
    }
    ld_range_pop(model->backend->ranges);
    return code;
}
