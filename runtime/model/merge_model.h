/*
 * Merging whole models into a new file, one tensor in memory at a time.
 *
 *     struct ld_merge_request request = {.recipe = &recipe, .a = a, .b = b,
 *                                        .dtype = LD_DTYPE_F16};
 *     ld_merge_write(fd, &request, err);
 */
#ifndef LD_MODEL_MERGE_MODEL_H
#define LD_MODEL_MERGE_MODEL_H

#include "runtime/model/merge.h"
#include "runtime/model/weights.h"

/* Where a part comes from that is exchanged rather than merged. */
enum ld_merge_part { LD_MERGE_PART_MERGED, LD_MERGE_PART_A, LD_MERGE_PART_B };

struct ld_merge_request {
    const struct ld_merge_recipe *recipe;
    struct ld_weights *a, *b, *c; /* c NULL where the operation needs two */
    enum ld_merge_part vae, text;
    enum ld_dtype dtype; /* of the new file; LD_DTYPE_OTHER keeps that of A (or of the only side) */
};

/*
 * Write the merged model as safetensors at the descriptor's position. Each tensor is computed in
 * float32 and rounded once. A tensor that one side lacks is copied from the other. Where the first
 * convolution of one model has more input channels (inpainting), the 4 common ones are merged and
 * the others stay. Metadata tells the recipe and the digests of the parents.
 * Errors   LD_E_SHAPE (the models have different shapes), LD_E_RANGE, LD_E_INVALID (a model is
 *          missing for the operation), LD_E_NOMEM, LD_E_IO, LD_E_NOSPACE.
 */
enum ld_code ld_merge_write(int fd, const struct ld_merge_request *request,
                            struct ld_error *err) LD_MUST_USE;

#endif
