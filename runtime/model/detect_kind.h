/* The first half of detection: which kind of file the names alone speak of. */
#ifndef LD_MODEL_DETECT_KIND_H
#define LD_MODEL_DETECT_KIND_H

#include "runtime/model/detect.h"

/* What the UNet's probe tensors say. */
struct ld_probe {
    int32_t conv_in;   /* item of the first convolution, -1 without a UNet */
    int32_t context_k; /* item of the first cross-attention's key projection, -1 */
};

struct ld_probe ld_probe_unet(const struct ld_inventory *inventory);

/* Adapters, ControlNets and their kin, embeddings and models of other families; LD_FILE_UNKNOWN if
 * it may be a model of ours. Widths of other families count only without a test configuration. */
enum ld_file_kind ld_detect_kind(const struct ld_inventory *inventory,
                                 const struct ld_probe *probe);

/* Tensors that files carry and nobody needs: no warning for them. */
bool ld_is_ignorable(const char *name);

bool ld_has_suffix(const char *text, const char *suffix);
bool ld_has_prefix(const char *text, const char *prefix);

#endif
