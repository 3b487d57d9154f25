/*
 * Writing a model: as one file in the single-file layout or as a diffusers folder, in any storage
 * type, one tensor in memory at a time. Where the values come from is the caller's affair; merging
 * and converting both end here.
 */
#ifndef LD_MODEL_MODEL_WRITE_H
#define LD_MODEL_MODEL_WRITE_H

#include "runtime/model/keymap.h"
#include "runtime/model/safetensors_write.h"

enum ld_model_storage {
    LD_STORE_KEEP, /* each tensor in the type that it had */
    LD_STORE_F32,
    LD_STORE_F16,
    LD_STORE_BF16,
    LD_STORE_FP8, /* matrices and convolutions of the UNet as E4M3 with a scale each, all else F16
                   */
    LD_STORE_COUNT
};

/* "keep", "fp32", "fp16", "bf16", "fp8". */
const char *ld_model_storage_name(enum ld_model_storage storage);
/* False for any other word. */
bool ld_model_storage_find(const char *word, enum ld_model_storage *storage);

/* One tensor of the new model. */
struct ld_model_item {
    const struct ld_key *key;
    int32_t rank;
    int64_t shape[4];
    size_t count;        /* product of shape */
    enum ld_dtype dtype; /* that it had, for LD_STORE_KEEP */
};

struct ld_model_write {
    const struct ld_model_item *items; /* in the order of their canonical names */
    uint32_t count;
    /* Produce the values of items[index], in any order of calls but mostly ascending. */
    enum ld_code (*value)(void *ctx, uint32_t index, float *dst, struct ld_error *err);
    void *ctx;
    const struct ld_arch *arch; /* of the new model; the folder's configurations come from it */
    enum ld_model_storage storage;
    const struct ld_st_note *notes; /* metadata of the file, or of each file of the folder */
    uint32_t note_count;
    /* Bytes written of all; false stops the work. May be NULL. */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    bool replace; /* an existing file; a folder is never replaced */
};

/*
 * Write to `path`, complete or not at all.
 * Errors   LD_E_CANCELLED (by `progress`), LD_E_FORMAT (a value is not finite in the storage type,
 *          the sentence names the tensor), those of ld_out_file_open, ld_safetensors_write and
 *          `value`.
 */
enum ld_code ld_model_write_file(const char *path, const struct ld_model_write *write,
                                 struct ld_error *err) LD_MUST_USE;

/*
 * The same as a folder: unet/, vae/ and text_encoder/ as far as the model has them, their
 * configurations, the scheduler's, model_index.json, and tokenizer/ where `merges` (the text of a
 * vocabulary; may be NULL) is given.
 */
enum ld_code ld_model_write_folder(const char *path, const struct ld_model_write *write,
                                   const char *merges, struct ld_error *err) LD_MUST_USE;

#endif
