/*
 * What a set of named tensors is, decided from names, shapes and two metadata values alone: which
 * kind of file, which parts of a model, its architecture, and where each required tensor is found.
 * No data is read, so an inventory written down elsewhere can be judged as well.
 */
#ifndef LD_MODEL_DETECT_H
#define LD_MODEL_DETECT_H

#include "runtime/base/buffer.h"
#include "runtime/model/keymap.h"

struct ld_inventory_item {
    const char *name;
    enum ld_dtype dtype;
    uint32_t rank;
    uint64_t shape[LD_RANK_MAX];
    uint32_t source; /* the caller's own; not looked at */
};

/* Borrowed by ld_detect and by its result. */
struct ld_inventory {
    const struct ld_inventory_item *items; /* sorted by name, names unique */
    uint32_t count;
    const char *test_config;     /* metadata latentd.test_config, or NULL */
    const char *prediction_type; /* metadata modelspec.prediction_type, or NULL */
};

enum ld_file_kind {
    LD_FILE_UNKNOWN,
    LD_FILE_MODEL, /* a UNet, alone or with VAE and text encoder */
    LD_FILE_VAE,
    LD_FILE_TEXT_ENCODER,
    LD_FILE_SD2,
    LD_FILE_SDXL,
    LD_FILE_OTHER_MODEL, /* a diffusion model of another family */
    LD_FILE_ADAPTER,
    LD_FILE_CONTROLNET,
    LD_FILE_CONTROLNET_SD2,
    LD_FILE_CONTROLNET_SDXL,
    LD_FILE_CONTROLNET_DIFFERENCE, /* to be added to the weights of its model */
    LD_FILE_CONTROL_LORA,          /* low-rank changes that make a ControlNet of a UNet */
    LD_FILE_CONTROL_LLLITE,
    LD_FILE_T2I_ADAPTER,
    LD_FILE_IP_ADAPTER,
    LD_FILE_EMBEDDING,
    LD_FILE_KIND_COUNT
};

/* Why a file cannot be used as a model; the first that applies. */
enum ld_fault {
    LD_FAULT_NONE,
    LD_FAULT_NOT_A_CHECKPOINT,
    LD_FAULT_UNSUPPORTED, /* another architecture */
    LD_FAULT_MISSING,     /* required tensors are absent */
    LD_FAULT_SHAPE,       /* or have another shape */
    LD_FAULT_DTYPE,       /* or a type that no weight has */
    LD_FAULT_AMBIGUOUS,   /* two tensors stand for one */
    LD_FAULT_COUNT
};

/* Where a required tensor is found; -1 if absent. */
struct ld_binding {
    int32_t item;       /* index in the inventory */
    int32_t scale_item; /* its fp8 scale */
};

struct ld_detect_options {
    bool use_ema;
    int prediction; /* -1: detect; else enum ld_prediction */
};

struct ld_detection {
    enum ld_file_kind kind;
    enum ld_fault fault;
    struct ld_arch arch;
    bool has_ema;    /* the file holds averaged UNet tensors */
    bool uses_ema;   /* and they are the ones bound */
    bool scaled_fp8; /* weights come with scales */
    uint32_t missing, misshaped, unknown;
    struct ld_keymap *map;       /* NULL if the kind has no tensors of a model */
    struct ld_binding *bindings; /* one for each key */
    struct ld_buffer report;     /* a line for each missing, mis-shaped and unknown tensor */
};

/*
 * Judge an inventory. A file that is no usable model is not an error here: `fault` says so.
 * Owner    fills `out`; ld_detection_deinit on success and on failure. `options` may be NULL.
 * Errors   LD_E_NOMEM; LD_E_FORMAT and LD_E_RANGE for a malformed test configuration.
 */
enum ld_code ld_detect(struct ld_detection *out, const struct ld_inventory *inventory,
                       const struct ld_detect_options *options, struct ld_error *err) LD_MUST_USE;
void ld_detection_deinit(struct ld_detection *detection);

/* The fault as one public sentence with the first names; LD_OK if there is none. */
enum ld_code ld_detection_error(const struct ld_detection *detection, struct ld_error *err);

/* "sd15", "sd15-inpaint", "sd15-ip2p", "vae", "text-encoder", "sd2", "sdxl", "adapter", ... */
const char *ld_detection_name(const struct ld_detection *detection);
/* The same for a sentence: "a checkpoint", "a ControlNet for SDXL"; NULL for LD_FILE_UNKNOWN. */
const char *ld_file_kind_words(enum ld_file_kind kind);
/* "missing_tensor", "shape_mismatch", "not_a_checkpoint", "unsupported_architecture", ...;
 * "none" for LD_FAULT_NONE. */
const char *ld_fault_name(enum ld_fault fault);

/* Index of a name in the inventory, -1 if absent. */
int32_t ld_inventory_find(const struct ld_inventory *inventory, const char *name);

#endif
