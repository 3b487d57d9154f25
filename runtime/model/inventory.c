#include "runtime/model/inventory.h"

#include "runtime/model/arch.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ld_inventory_item *)a)->name,
                  ((const struct ld_inventory_item *)b)->name);
}

static const char *any_metadata(struct ld_safetensors *const *files, uint32_t count,
                                const char *key)
{
    for (uint32_t f = 0; f < count; f++) {
        const char *value = ld_safetensors_metadata(files[f], key);
        if (value)
            return value;
    }
    return NULL;
}

static void fill(struct ld_file_inventory *out, struct ld_safetensors *const *files,
                 uint32_t file_count)
{
    uint32_t count = 0;
    for (uint32_t f = 0; f < file_count; f++) {
        for (uint32_t i = 0; i < ld_safetensors_count(files[f]); i++, count++) {
            const struct ld_st_tensor *tensor = ld_safetensors_at(files[f], i);
            struct ld_inventory_item *item = &out->items[count];
            item->name = tensor->name;
            item->dtype = tensor->dtype;
            item->rank = tensor->rank;
            memcpy(item->shape, tensor->shape, sizeof item->shape);
            item->source = count;
            out->sources[count] = (struct ld_weight_source){files[f], tensor};
        }
    }
    if (count)
        qsort(out->items, count, sizeof *out->items, by_name);
    out->inventory.items = out->items;
    out->inventory.count = count;
    out->inventory.test_config = any_metadata(files, file_count, LD_TEST_CONFIG_KEY);
    out->inventory.prediction_type = any_metadata(files, file_count, "modelspec.prediction_type");
}

enum ld_code ld_file_inventory_init(struct ld_file_inventory *out,
                                    struct ld_safetensors *const *files, uint32_t count,
                                    struct ld_error *err)
{
    size_t total = 0;
    memset(out, 0, sizeof *out);
    for (uint32_t f = 0; f < count; f++)
        total += ld_safetensors_count(files[f]);
    out->items = ld_heap_calloc(total, sizeof *out->items);
    out->sources = ld_heap_calloc(total, sizeof *out->sources);
    if (!out->items || !out->sources)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory for the names of a model");
    fill(out, files, count);
    for (size_t i = 1; i < total; i++) {
        if (by_name(&out->items[i - 1], &out->items[i]) == 0)
            return LD_FAIL(err, LD_E_FORMAT, "two files of the model hold the same tensor");
    }
    return LD_OK;
}

void ld_file_inventory_deinit(struct ld_file_inventory *inventory)
{
    ld_heap_free(inventory->items);
    ld_heap_free(inventory->sources);
    memset(inventory, 0, sizeof *inventory);
}
