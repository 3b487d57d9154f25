/*
 * Tensors out of a PyTorch zip file, without executing anything: the pickle inside is read by a
 * small machine that knows the opcodes of plain data, and of globals only those that describe
 * tensors. Whatever else a pickle may ask for is an error. Made for textual inversions; a file has
 * at most 64 MiB.
 *
 *     ld_pickle_open(&pickle, bytes, err);
 *     for (uint32_t i = 0; i < ld_pickle_count(pickle); i++)
 *         use(ld_pickle_at(pickle, i)->name);
 *
 * Source   opcodes: Python's Lib/pickletools.py; layout of the archive: PyTorch's
 *          torch/serialization.py.
 */
#ifndef LD_MODEL_PICKLE_H
#define LD_MODEL_PICKLE_H

#include "kernels/tensor.h"
#include "runtime/base/bytes.h"

enum { LD_PICKLE_BYTES_MAX = 64 << 20, LD_PICKLE_RANK_MAX = 4, LD_PICKLE_NAME_SIZE = 160 };

struct ld_pickle_tensor {
    char
        name[LD_PICKLE_NAME_SIZE]; /* "key" or "key/inner key" of the dictionaries; "" at the top */
    enum ld_dtype dtype;
    uint32_t rank;
    uint64_t shape[LD_PICKLE_RANK_MAX];
    uint64_t count; /* product of shape */
};

struct ld_pickle;

/*
 * Owner    returns owned; ld_pickle_close. Borrows `bytes` until then.
 * Errors   LD_E_FORMAT, LD_E_UNSUPPORTED (not an uncompressed zip, or the pickle asks for a global
 *          or an opcode that tensors do not need), LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_pickle_open(struct ld_pickle **out, struct ld_span bytes,
                            struct ld_error *err) LD_MUST_USE;
void ld_pickle_close(struct ld_pickle *pickle);

uint32_t ld_pickle_count(const struct ld_pickle *pickle);
const struct ld_pickle_tensor *ld_pickle_at(const struct ld_pickle *pickle, uint32_t index);

/* Decode `count` elements in row-major order, whatever the strides in the file. */
void ld_pickle_decode(const struct ld_pickle *pickle, uint32_t index, float *dst);

/* A text or an integer of the outer dictionary; false if the key is absent or of another type. */
bool ld_pickle_text(const struct ld_pickle *pickle, const char *key, struct ld_span *out);
bool ld_pickle_integer(const struct ld_pickle *pickle, const char *key, int64_t *out);

#endif
