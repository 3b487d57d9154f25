/* The inside of struct ld_adapter: an adapter file grouped into modules. */
#ifndef LD_MODEL_ADAPTER_PRIVATE_H
#define LD_MODEL_ADAPTER_PRIVATE_H

#include "runtime/model/adapter.h"
#include "runtime/model/safetensors.h"

/* What a tensor is to its module, from its suffix. */
enum ld_adapter_slot {
    LD_SLOT_UP,
    LD_SLOT_DOWN,
    LD_SLOT_MID,
    LD_SLOT_ALPHA,
    LD_SLOT_HADA_W1A,
    LD_SLOT_HADA_W1B,
    LD_SLOT_HADA_W2A,
    LD_SLOT_HADA_W2B,
    LD_SLOT_HADA_T1,
    LD_SLOT_HADA_T2,
    LD_SLOT_LOKR_W1,
    LD_SLOT_LOKR_W2,
    LD_SLOT_LOKR_W1A,
    LD_SLOT_LOKR_W1B,
    LD_SLOT_LOKR_W2A,
    LD_SLOT_LOKR_W2B,
    LD_SLOT_LOKR_T2,
    LD_SLOT_GLORA_A1,
    LD_SLOT_GLORA_A2,
    LD_SLOT_GLORA_B1,
    LD_SLOT_GLORA_B2,
    LD_SLOT_DORA,      /* .dora_scale */
    LD_SLOT_MAGNITUDE, /* PEFT's spelling of it: always per output */
    LD_SLOT_DIFF,
    LD_SLOT_DIFF_BIAS,
    LD_SLOT_SET_WEIGHT,
    LD_SLOT_NORM,
    LD_SLOT_NORM_BIAS,
    LD_SLOT_IA3,
    LD_SLOT_ON_INPUT,
    LD_SLOT_OFT,
    LD_SLOT_COUNT
};

struct ld_adapter_module {
    const char *name;
    const struct ld_st_tensor *slots[LD_SLOT_COUNT]; /* NULL where absent */
    uint32_t tensors;
    uint32_t families;
};

struct ld_adapter_bundled {
    const char *name;
    const struct ld_st_tensor *tensor;
};

struct ld_adapter {
    struct ld_safetensors *file;
    struct ld_arena arena;
    struct ld_adapter_module *modules; /* sorted by name */
    uint32_t module_count;
    struct ld_adapter_bundled *bundled;
    uint32_t bundled_count;
    struct ld_adapter_info info;
    bool root_scale; /* rank-stabilised: alpha / sqrt(rank) */
};

/* The rank of a module and of what decides its scale; 0 if it has none. */
int32_t ld_adapter_module_rank(const struct ld_adapter_module *module);
/* alpha / rank as the family defines it; 1 without alpha. */
double ld_adapter_module_scale(const struct ld_adapter *adapter,
                               const struct ld_adapter_module *module);

#endif
