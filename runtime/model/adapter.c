/* Adapter files: suffixes, grouping into modules, facts for reports. */
#include "runtime/model/adapter_private.h"
#include "runtime/model/detect_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct suffix {
    const char *text;
    enum ld_adapter_slot slot;
};

/* The longer of two suffixes that both fit comes first. */
static const struct suffix suffixes[] = {
    {".lora_magnitude_vector.default.weight", LD_SLOT_MAGNITUDE},
    {".lora_magnitude_vector.weight", LD_SLOT_MAGNITUDE},
    {".lora_magnitude_vector", LD_SLOT_MAGNITUDE},
    {".lora_linear_layer.down.weight", LD_SLOT_DOWN},
    {".lora_linear_layer.up.weight", LD_SLOT_UP},
    {".lora_A.default.weight", LD_SLOT_DOWN},
    {".lora_B.default.weight", LD_SLOT_UP},
    {".lora_down.weight", LD_SLOT_DOWN},
    {".lora.down.weight", LD_SLOT_DOWN},
    {"_lora.down.weight", LD_SLOT_DOWN},
    {".lora_up.weight", LD_SLOT_UP},
    {".lora.up.weight", LD_SLOT_UP},
    {"_lora.up.weight", LD_SLOT_UP},
    {".lora_mid.weight", LD_SLOT_MID},
    {".lora_A.weight", LD_SLOT_DOWN},
    {".lora_B.weight", LD_SLOT_UP},
    {".hada_w1_a", LD_SLOT_HADA_W1A},
    {".hada_w1_b", LD_SLOT_HADA_W1B},
    {".hada_w2_a", LD_SLOT_HADA_W2A},
    {".hada_w2_b", LD_SLOT_HADA_W2B},
    {".hada_t1", LD_SLOT_HADA_T1},
    {".hada_t2", LD_SLOT_HADA_T2},
    {".lokr_w1_a", LD_SLOT_LOKR_W1A},
    {".lokr_w1_b", LD_SLOT_LOKR_W1B},
    {".lokr_w2_a", LD_SLOT_LOKR_W2A},
    {".lokr_w2_b", LD_SLOT_LOKR_W2B},
    {".lokr_w1", LD_SLOT_LOKR_W1},
    {".lokr_w2", LD_SLOT_LOKR_W2},
    {".lokr_t2", LD_SLOT_LOKR_T2},
    {".a1.weight", LD_SLOT_GLORA_A1},
    {".a2.weight", LD_SLOT_GLORA_A2},
    {".b1.weight", LD_SLOT_GLORA_B1},
    {".b2.weight", LD_SLOT_GLORA_B2},
    {".dora_scale", LD_SLOT_DORA},
    {".set_weight", LD_SLOT_SET_WEIGHT},
    {".diff_b", LD_SLOT_DIFF_BIAS},
    {".diff", LD_SLOT_DIFF},
    {".w_norm", LD_SLOT_NORM},
    {".b_norm", LD_SLOT_NORM_BIAS},
    {".on_input", LD_SLOT_ON_INPUT},
    {".oft_blocks", LD_SLOT_OFT},
    {".oft_diag", LD_SLOT_OFT},
    {".alpha", LD_SLOT_ALPHA},
    {".weight", LD_SLOT_IA3},
};

/* ---- Grouping -------------------------------------------------------------------------------- */

struct member {
    const char *module; /* NULL: the suffix belongs to no family */
    enum ld_adapter_slot slot;
    const struct ld_st_tensor *tensor;
};

static int by_module(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    if (!left->module || !right->module)
        return (left->module == NULL) - (right->module == NULL);
    return strcmp(left->module, right->module);
}

static enum ld_code out_of_memory(struct ld_error *err)
{
    return LD_FAIL(err, LD_E_NOMEM, "not enough memory for an adapter");
}

/* bundle_emb.<name>.string_to_param.* or .clip_l; a .clip_g belongs to another architecture. */
static bool take_bundled(struct ld_adapter *adapter, const struct ld_st_tensor *tensor,
                         bool *no_memory)
{
    static const char prefix[] = "bundle_emb.";
    static const char *const tails[] = {".string_to_param.*", ".clip_l", ".emb_params"};
    if (!ld_has_prefix(tensor->name, prefix))
        return false;
    const char *name = tensor->name + sizeof prefix - 1;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        const size_t length = strlen(name);
        if (!ld_has_suffix(name, tails[i]) || length == strlen(tails[i]) || tensor->rank != 2 ||
            !ld_dtype_is_float(tensor->dtype) || tensor->shape[0] > INT32_MAX ||
            tensor->shape[1] > INT32_MAX)
            continue;
        struct ld_adapter_bundled *item = &adapter->bundled[adapter->bundled_count++];
        item->name = ld_arena_strndup(&adapter->arena, name, length - strlen(tails[i]));
        item->tensor = tensor;
        *no_memory |= !item->name;
        break;
    }
    return true;
}

static bool classify(struct ld_adapter *adapter, const struct ld_st_tensor *tensor,
                     struct member *member)
{
    member->tensor = tensor;
    member->module = NULL;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (!ld_has_suffix(tensor->name, suffixes[i].text))
            continue;
        const size_t length = strlen(tensor->name) - strlen(suffixes[i].text);
        member->slot = suffixes[i].slot;
        member->module = ld_arena_strndup(&adapter->arena, tensor->name, length);
        return member->module != NULL;
    }
    return true;
}

static uint32_t family_of(const struct ld_adapter_module *module)
{
    const struct ld_st_tensor *const *slots = module->slots;
    uint32_t families = 0;
    if (slots[LD_SLOT_UP] && slots[LD_SLOT_DOWN])
        families |= LD_ADAPTER_LORA;
    if (slots[LD_SLOT_HADA_W1A])
        families |= LD_ADAPTER_LOHA;
    if (slots[LD_SLOT_LOKR_W1] || slots[LD_SLOT_LOKR_W1A])
        families |= LD_ADAPTER_LOKR;
    if (slots[LD_SLOT_MID] || slots[LD_SLOT_HADA_T1] || slots[LD_SLOT_LOKR_T2])
        families |= LD_ADAPTER_TUCKER;
    if (slots[LD_SLOT_GLORA_A1])
        families |= LD_ADAPTER_GLORA;
    if (slots[LD_SLOT_IA3] && slots[LD_SLOT_ON_INPUT])
        families |= LD_ADAPTER_IA3;
    if (slots[LD_SLOT_DIFF] || slots[LD_SLOT_DIFF_BIAS] || slots[LD_SLOT_SET_WEIGHT])
        families |= LD_ADAPTER_FULL;
    if (slots[LD_SLOT_NORM] || slots[LD_SLOT_NORM_BIAS])
        families |= LD_ADAPTER_NORM;
    if (slots[LD_SLOT_DORA] || slots[LD_SLOT_MAGNITUDE])
        families |= LD_ADAPTER_DORA;
    if (slots[LD_SLOT_OFT])
        families |= LD_ADAPTER_OFT;
    return families;
}

static bool is_text_name(const char *name)
{
    return ld_has_prefix(name, "lora_te") || ld_has_prefix(name, "text_encoder");
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static int32_t dimension(const struct ld_st_tensor *tensor, uint32_t index)
{
    if (!tensor || tensor->rank <= index || tensor->shape[index] > INT32_MAX)
        return 0;
    return (int32_t)tensor->shape[index];
}

int32_t ld_adapter_module_rank(const struct ld_adapter_module *module)
{
    const struct ld_st_tensor *const *slots = module->slots;
    if (slots[LD_SLOT_DOWN])
        return dimension(slots[LD_SLOT_DOWN], 0);
    if (slots[LD_SLOT_HADA_W1B])
        return dimension(slots[LD_SLOT_HADA_W1B], 0);
    if (slots[LD_SLOT_LOKR_W2B])
        return dimension(slots[LD_SLOT_LOKR_W2B], 0);
    if (slots[LD_SLOT_LOKR_W1B])
        return dimension(slots[LD_SLOT_LOKR_W1B], 0);
    if (slots[LD_SLOT_GLORA_A1]) {
        const int32_t a = dimension(slots[LD_SLOT_GLORA_A1], 0);
        const int32_t b = dimension(slots[LD_SLOT_GLORA_A1], 1);
        return a < b ? a : b;
    }
    return 0;
}

static double alpha_of(const struct ld_adapter *adapter, const struct ld_adapter_module *module,
                       bool *present)
{
    const struct ld_st_tensor *tensor = module->slots[LD_SLOT_ALPHA];
    float alpha = 0;
    *present = tensor && tensor->dtype != LD_DTYPE_OTHER && ld_st_elements(tensor) == 1;
    if (*present)
        ld_safetensors_decode(adapter->file, tensor, &alpha, 1);
    return (double)alpha;
}

double ld_adapter_module_scale(const struct ld_adapter *adapter,
                               const struct ld_adapter_module *module)
{
    bool present;
    const double alpha = alpha_of(adapter, module, &present);
    const int32_t rank = ld_adapter_module_rank(module);
    if (!present || rank == 0 || !isfinite(alpha))
        return 1;
    return adapter->root_scale ? alpha / sqrt(rank) : alpha / rank;
}

static void widen(double *low, double *high, double value, bool first)
{
    *low = first || value < *low ? value : *low;
    *high = first || value > *high ? value : *high;
}

static enum ld_code gather_info(struct ld_adapter *adapter, struct ld_error *err)
{
    struct ld_adapter_info *info = &adapter->info;
    double rank_min = 0;
    double rank_max = 0;
    bool any_alpha = false;
    for (uint32_t i = 0; i < adapter->module_count; i++) {
        struct ld_adapter_module *module = &adapter->modules[i];
        const int32_t rank = ld_adapter_module_rank(module);
        bool present;
        const double alpha = alpha_of(adapter, module, &present);
        module->families = family_of(module);
        info->families |= module->families;
        info->text_modules += is_text_name(module->name);
        if (module->families == 0)
            info->unknown_tensors += module->tensors;
        if (rank > LD_ADAPTER_RANK_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the adapter's rank is above %d",
                           LD_ADAPTER_RANK_MAX);
        if (rank > 0)
            widen(&rank_min, &rank_max, rank, rank_max == 0);
        if (present && isfinite(alpha)) {
            widen(&info->alpha_min, &info->alpha_max, alpha, !any_alpha);
            any_alpha = true;
        }
    }
    info->rank_min = (int32_t)rank_min;
    info->rank_max = (int32_t)rank_max;
    info->modules = adapter->module_count;
    info->embeddings = adapter->bundled_count;
    return LD_OK;
}

/* ---- Opening --------------------------------------------------------------------------------- */

static enum ld_code fill_modules(struct ld_adapter *adapter, const struct member *members,
                                 uint32_t count, struct ld_error *err)
{
    struct ld_adapter_module *module = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!members[i].module) {
            adapter->info.unknown_tensors++;
            continue;
        }
        if (!module || strcmp(module->name, members[i].module) != 0) {
            module = &adapter->modules[adapter->module_count++];
            module->name = members[i].module;
        }
        if (module->slots[members[i].slot])
            return LD_FAIL(err, LD_E_FORMAT, "the adapter holds the same factor of a module twice");
        if (members[i].tensor->dtype == LD_DTYPE_OTHER)
            return LD_FAIL(err, LD_E_FORMAT, "the adapter holds a type that is no weight");
        module->slots[members[i].slot] = members[i].tensor;
        module->tensors++;
    }
    return LD_OK;
}

static enum ld_code group(struct ld_adapter *adapter, struct ld_error *err)
{
    const uint32_t total = ld_safetensors_count(adapter->file);
    uint32_t count = 0;
    bool no_memory = false;
    struct member *members = ld_heap_calloc(total, sizeof *members);
    adapter->modules = ld_arena_calloc(&adapter->arena, total, sizeof *adapter->modules);
    adapter->bundled = ld_arena_calloc(&adapter->arena, total, sizeof *adapter->bundled);
    if (!members || !adapter->modules || !adapter->bundled) {
        ld_heap_free(members);
        return out_of_memory(err);
    }
    for (uint32_t i = 0; i < total && !no_memory; i++) {
        const struct ld_st_tensor *tensor = ld_safetensors_at(adapter->file, i);
        if (!take_bundled(adapter, tensor, &no_memory) &&
            !classify(adapter, tensor, &members[count++]))
            no_memory = true;
    }
    adapter->info.tensors = count;
    if (count)
        qsort(members, count, sizeof *members, by_module);
    const enum ld_code code =
        no_memory ? out_of_memory(err) : fill_modules(adapter, members, count, err);
    ld_heap_free(members);
    return code;
}

/* LyCORIS writes its arguments, PEFT its configuration, both as JSON in one metadata value. */
static bool says_root_scale(const struct ld_adapter *adapter)
{
    const char *lycoris = ld_adapter_metadata(adapter, "ss_network_args");
    const char *peft = ld_adapter_metadata(adapter, "lora_adapter_metadata");
    return (lycoris &&
            (strstr(lycoris, "\"rs_lora\": \"True\"") || strstr(lycoris, "\"rs_lora\": true"))) ||
           (peft && strstr(peft, "use_rslora\": true"));
}

/* Takes `file`. */
static enum ld_code open_file(struct ld_adapter **out, struct ld_safetensors *file,
                              struct ld_error *err)
{
    *out = NULL;
    struct ld_adapter *adapter = ld_heap_alloc(sizeof *adapter);
    if (!adapter) {
        ld_safetensors_close(file);
        return out_of_memory(err);
    }
    adapter->file = file;
    /* Module structs and names: about 300 bytes a tensor, at most 100,000 of them. */
    ld_arena_init(&adapter->arena, "adapter", (size_t)192 << 20);
    enum ld_code code = group(adapter, err);
    if (code == LD_OK)
        code = gather_info(adapter, err);
    if (code == LD_OK) {
        adapter->root_scale = says_root_scale(adapter);
        *out = adapter;
    } else {
        ld_adapter_close(adapter);
    }
    return code;
}

enum ld_code ld_adapter_open(struct ld_adapter **out, const char *path, struct ld_error *err)
{
    struct ld_safetensors *file;
    *out = NULL;
    const enum ld_code code = ld_safetensors_open(&file, path, NULL, err);
    return code == LD_OK ? open_file(out, file, err) : code;
}

enum ld_code ld_adapter_open_fd(struct ld_adapter **out, int fd, struct ld_error *err)
{
    struct ld_safetensors *file;
    *out = NULL;
    const enum ld_code code = ld_safetensors_open_fd(&file, fd, NULL, err);
    return code == LD_OK ? open_file(out, file, err) : code;
}

enum ld_code ld_adapter_open_bytes(struct ld_adapter **out, struct ld_span bytes,
                                   struct ld_error *err)
{
    struct ld_safetensors *file;
    *out = NULL;
    const enum ld_code code = ld_safetensors_open_bytes(&file, bytes, NULL, err);
    return code == LD_OK ? open_file(out, file, err) : code;
}

void ld_adapter_close(struct ld_adapter *adapter)
{
    if (!adapter)
        return;
    ld_safetensors_close(adapter->file);
    ld_arena_deinit(&adapter->arena);
    ld_heap_free(adapter);
}

/* ---- Reading --------------------------------------------------------------------------------- */

const struct ld_adapter_info *ld_adapter_info(const struct ld_adapter *adapter)
{
    return &adapter->info;
}

const char *ld_adapter_metadata(const struct ld_adapter *adapter, const char *key)
{
    return ld_safetensors_metadata(adapter->file, key);
}

const char *ld_adapter_family_name(uint32_t bit_index)
{
    static const char *const names[LD_ADAPTER_FAMILY_BITS] = {
        "lora", "tucker", "loha", "lokr", "glora", "ia3", "full", "norm", "dora", "oft",
    };
    return bit_index < LD_ADAPTER_FAMILY_BITS ? names[bit_index] : NULL;
}

bool ld_adapter_embedding_at(const struct ld_adapter *adapter, uint32_t index,
                             struct ld_adapter_embedding *out, float *dst)
{
    if (index >= adapter->bundled_count)
        return false;
    const struct ld_adapter_bundled *item = &adapter->bundled[index];
    (void)ld_fmt(out->name, sizeof out->name, "%s", item->name);
    out->vectors = (int32_t)item->tensor->shape[0];
    out->width = (int32_t)item->tensor->shape[1];
    if (dst)
        ld_safetensors_decode(adapter->file, item->tensor, dst,
                              (size_t)out->vectors * (size_t)out->width);
    return true;
}
