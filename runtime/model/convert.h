/*
 * Converting a model: another storage type, another layout (single file or diffusers folder), and
 * nothing but the tensors that the model uses, so that EMA copies, schedule tables and whatever
 * else a training run left behind stay away.
 */
#ifndef LD_MODEL_CONVERT_H
#define LD_MODEL_CONVERT_H

#include "runtime/model/model_write.h"

struct ld_convert_request {
    struct ld_weights *model;
    const char *from;       /* the path that the model was opened from: a folder's vocabulary */
    const char *vocabulary; /* text of a vocabulary for the folder's tokenizer; NULL: the model's */
    enum ld_model_storage storage;
    bool folder; /* write a diffusers folder */
    bool replace;
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
};

/* What was left out and found. */
struct ld_convert_report {
    uint32_t tensors; /* of the new model */
    uint32_t dropped; /* tensors of the old files that no part of a model is */
    uint64_t dropped_bytes;
    bool tokenizer; /* the folder has one */
};

/* Errors   those of ld_model_write_file and ld_model_write_folder, LD_E_SHAPE (the vocabulary is
 *          not the model's). */
enum ld_code ld_convert(const char *path, const struct ld_convert_request *request,
                        struct ld_convert_report *report, struct ld_error *err) LD_MUST_USE;

#endif
