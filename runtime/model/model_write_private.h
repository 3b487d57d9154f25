/* What the two layouts share. */
#ifndef LD_MODEL_MODEL_WRITE_PRIVATE_H
#define LD_MODEL_MODEL_WRITE_PRIVATE_H

#include "runtime/model/model_write.h"
#include "runtime/model/out_file.h"

enum { LD_WRITE_NAME_SIZE = 256 };

/* What one tensor of the file is made from. */
enum ld_write_role { LD_WRITE_VALUE, LD_WRITE_SCALE, LD_WRITE_MARKER };

/* One file under way. Caller's storage; zeroed is empty. */
struct ld_write_file {
    const struct ld_model_write *write;
    struct ld_st_item *items;
    struct ld_write_slot {
        enum ld_write_role role;
        uint32_t index; /* in write->items */
    } * slots;
    char (*names)[LD_WRITE_NAME_SIZE];
    uint32_t count;
    /* The values that were asked for last: a scale and its weight need the same. */
    float *values;
    size_t capacity;
    int64_t held; /* index of the item they belong to, -1 none */
    uint64_t *done, total;
};

/* Select the items that `takes` accepts and name them; `diffusers` decides the spelling. */
enum ld_code ld_write_file_init(struct ld_write_file *file, const struct ld_model_write *write,
                                bool (*takes)(const struct ld_model_item *item), bool diffusers,
                                struct ld_error *err) LD_MUST_USE;
void ld_write_file_deinit(struct ld_write_file *file);

/* Bytes of all its tensors. */
uint64_t ld_write_file_bytes(const struct ld_write_file *file);

/* Write it at the descriptor; `done` counts the bytes of all files, of `total`. */
enum ld_code ld_write_file_run(struct ld_write_file *file, int fd, uint64_t *done, uint64_t total,
                               struct ld_error *err) LD_MUST_USE;

#endif
