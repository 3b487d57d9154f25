/*
 * The safetensors reader and everything that looks at what it accepts: detection, adapters,
 * embeddings. The first byte chooses between a raw file and a header to which length field and data
 * are added, so that mutations reach the rules behind the length. What is accepted must tile its
 * data, be found by name, and be JSON for jansson as well.
 */
#include "runtime/model/adapter.h"
#include "runtime/model/detect.h"
#include "runtime/model/embedding.h"
#include "runtime/model/inventory.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DATA_MAX = 4096, DETECT_ONE_IN = 32 };

/* ---- What holds for every accepted file ------------------------------------------------------ */

static void check_tensors(const struct ld_safetensors *file)
{
    const uint64_t data_size = ld_safetensors_bytes(file) - ld_safetensors_data_start(file);
    uint64_t total = 0;
    for (uint32_t i = 0; i < ld_safetensors_count(file); i++) {
        const struct ld_st_tensor *tensor = ld_safetensors_at(file, i);
        LD_ASSERT(ld_safetensors_find(file, tensor->name) == tensor);
        LD_ASSERT(tensor->name[0] && tensor->rank <= LD_ST_RANK_MAX);
        LD_ASSERT(tensor->begin <= tensor->end && tensor->end <= data_size);
        LD_ASSERT(i == 0 || strcmp(ld_safetensors_at(file, i - 1)->name, tensor->name) < 0);
        total += tensor->end - tensor->begin;
        const uint64_t count = ld_st_elements(tensor);
        if (tensor->dtype == LD_DTYPE_OTHER)
            continue;
        LD_ASSERT(count * ld_dtype_size(tensor->dtype) == tensor->end - tensor->begin);
        float *values = ld_heap_calloc((size_t)count, sizeof *values);
        LD_ASSERT(values);
        ld_safetensors_decode(file, tensor, values, (size_t)count);
        ld_heap_free(values);
    }
    LD_ASSERT(total == data_size);
    for (uint32_t i = 0; i < ld_safetensors_metadata_count(file); i++) {
        const char *key;
        const char *value;
        ld_safetensors_metadata_at(file, i, &key, &value);
        LD_ASSERT(strlen(key) == 0 || ld_safetensors_metadata(file, key));
    }
}

static void check_against_jansson(struct ld_span header, const struct ld_safetensors *file)
{
    json_error_t error;
    json_t *tree =
        json_loadb((const char *)header.data, header.size,
                   JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    if (!tree) /* an ignored extra field may hold a number that no double holds, or keys twice */
        return;
    const size_t notes = json_object_get(tree, "__metadata__") ? 1 : 0;
    LD_ASSERT(json_is_object(tree) && json_object_size(tree) == ld_safetensors_count(file) + notes);
    json_decref(tree);
}

/* ---- Who reads files ------------------------------------------------------------------------- */

static void detect(struct ld_safetensors *file)
{
    struct ld_file_inventory tensors;
    struct ld_detection detection = {0};
    struct ld_error err = {0};
    if (ld_file_inventory_init(&tensors, &file, 1, &err) == LD_OK &&
        ld_detect(&detection, &tensors.inventory, NULL, &err) == LD_OK) {
        const enum ld_code code = ld_detection_error(&detection, &err);
        LD_ASSERT((code == LD_OK) == (detection.fault == LD_FAULT_NONE));
    }
    ld_detection_deinit(&detection);
    ld_file_inventory_deinit(&tensors);
}

static void open_others(struct ld_span bytes)
{
    struct ld_adapter *adapter;
    struct ld_embedding embedding;
    struct ld_error err = {0};
    if (ld_adapter_open_bytes(&adapter, bytes, &err) == LD_OK) {
        struct ld_adapter_embedding bundled;
        for (uint32_t i = 0; ld_adapter_embedding_at(adapter, i, &bundled, NULL); i++)
            LD_ASSERT(bundled.vectors >= 0 && bundled.width >= 0);
        ld_adapter_close(adapter);
    }
    (void)ld_embedding_open_bytes(&embedding, bytes, 0, &err);
    ld_embedding_deinit(&embedding);
}

static void check_file(struct ld_span bytes)
{
    struct ld_safetensors *file;
    struct ld_error err = {0};
    enum ld_st_class why;
    const enum ld_code code = ld_safetensors_open_bytes(&file, bytes, &why, &err);
    LD_ASSERT((code == LD_OK) == (why == LD_ST_VALID) && (code == LD_OK) == (file != NULL));
    if (code != LD_OK) {
        LD_ASSERT(err.detail[0]);
        return;
    }
    const size_t start = (size_t)ld_safetensors_data_start(file);
    uint32_t mix = 0; /* detection makes all names of a model: too slow for every file */
    for (size_t i = 0; i < bytes.size; i++)
        mix = mix * 31 + bytes.data[i];
    check_tensors(file);
    check_against_jansson(ld_span_of(bytes.data + 8, start - 8), file);
    if (mix % DETECT_ONE_IN == 0)
        detect(file);
    open_others(bytes);
    ld_safetensors_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    if (data[0] & 1) {
        check_file(ld_span_of(data + 1, size - 1));
        return 0;
    }
    /* Two bytes say how much data follows the header. */
    const size_t data_size = (size_t)(data[1] | data[2] << 8) % DATA_MAX;
    const size_t header_size = size - 3;
    const size_t total = 8 + header_size + data_size;
    uint8_t *bytes = ld_heap_alloc(total);
    LD_ASSERT(bytes);
    ld_write_u64le(bytes, header_size);
    memcpy(bytes + 8, data + 3, header_size);
    for (size_t i = 0; i < data_size; i++)
        bytes[8 + header_size + i] = (uint8_t)(i * 37 + data[0]);
    check_file(ld_span_of(bytes, total));
    ld_heap_free(bytes);
    return 0;
}
