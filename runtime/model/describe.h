/*
 * Facts about files as members of a JSON object ("a":1,"b":2, without braces), shared by listings
 * and by `inspect`.
 */
#ifndef LD_MODEL_DESCRIBE_H
#define LD_MODEL_DESCRIBE_H

#include "runtime/base/buffer.h"
#include "runtime/model/adapter.h"
#include "runtime/model/detect.h"
#include "runtime/model/embedding.h"
#include "runtime/model/safetensors.h"

/* kind, arch, usable, fault, parts, prediction, ... */
void ld_describe_detection(struct ld_buffer *out, const struct ld_detection *detection);

/*
 * The widths of a usable model with a UNet, read back from the object that was written above: those
 * of SD1.5 with the parts and input channels it tells. False for anything else, and for a test
 * model, whose own widths it does not tell.
 */
bool ld_describe_arch_of(struct ld_span detail, struct ld_arch *arch);

/* families, rank, alpha, modules, and what trainers wrote down (trigger words, base model). */
void ld_describe_adapter(struct ld_buffer *out, const struct ld_adapter *adapter);

/* vectors, width, form, name, step */
void ld_describe_embedding(struct ld_buffer *out, const struct ld_embedding *embedding);

/* tensors, parameters, dtypes: {"F16": {"tensors", "parameters"}, ...} */
void ld_describe_tensors(struct ld_buffer *out, const struct ld_safetensors *file);

/* metadata: {...}; values longer than `value_max` bytes are cut and end with "...". */
void ld_describe_metadata(struct ld_buffer *out, const struct ld_safetensors *file,
                          size_t value_max);

/* "model", "vae", "adapter", ...: the word for listings. */
const char *ld_file_kind_name(enum ld_file_kind kind);

#endif
