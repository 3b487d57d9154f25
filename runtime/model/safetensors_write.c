#include "runtime/model/safetensors_write.h"

#include "runtime/base/arena.h"
#include "runtime/base/fsx.h"

/* Bytes of an item; false on overflow. */
static bool item_bytes(const struct ld_st_item *item, uint64_t *bytes)
{
    *bytes = ld_dtype_size(item->dtype);
    for (uint32_t i = 0; i < item->rank; i++) {
        if (!ld_mul_u64_ok(*bytes, item->shape[i], bytes))
            return false;
    }
    return *bytes <= LD_ST_FILE_MAX;
}

static void write_metadata(struct ld_buffer *header, const struct ld_st_write *plan)
{
    ld_buffer_text(header, "\"__metadata__\":{");
    for (uint32_t i = 0; i < plan->metadata_count; i++) {
        if (i > 0)
            ld_buffer_byte(header, ',');
        ld_buffer_json_string(header, plan->metadata[i].key);
        ld_buffer_byte(header, ':');
        ld_buffer_json_string(header, plan->metadata[i].value);
    }
    ld_buffer_byte(header, '}');
}

static void write_item(struct ld_buffer *header, const struct ld_st_item *item, uint64_t begin,
                       uint64_t end)
{
    ld_buffer_json_string(header, item->name);
    ld_buffer_format(header, ":{\"dtype\":\"%s\",\"shape\":[", ld_dtype_name(item->dtype));
    for (uint32_t i = 0; i < item->rank; i++)
        ld_buffer_format(header, "%s%llu", i ? "," : "", (unsigned long long)item->shape[i]);
    ld_buffer_format(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                     (unsigned long long)end);
}

/* The length field, left zero, and the JSON padded with blanks. */
static enum ld_code make_header(struct ld_buffer *header, const struct ld_st_write *plan,
                                struct ld_error *err)
{
    uint64_t position = 0;
    static const uint8_t length[8];
    ld_buffer_bytes(header, length, sizeof length);
    ld_buffer_byte(header, '{');
    if (plan->metadata_count > 0)
        write_metadata(header, plan);
    for (uint32_t i = 0; i < plan->count; i++) {
        uint64_t bytes;
        if (!item_bytes(&plan->items[i], &bytes) || position + bytes > LD_ST_FILE_MAX)
            return LD_FAIL(err, LD_E_TOO_LARGE, "the model file would be larger than 16 GiB");
        if (i > 0 || plan->metadata_count > 0)
            ld_buffer_byte(header, ',');
        write_item(header, &plan->items[i], position, position + bytes);
        position += bytes;
    }
    ld_buffer_byte(header, '}');
    while (!header->failed && header->size % 8 != 0)
        ld_buffer_byte(header, ' ');
    return header->failed
               ? LD_FAIL(err, LD_E_TOO_LARGE, "the header of the model file is too large")
               : LD_OK;
}

static enum ld_code write_tensor(int fd, const struct ld_st_write *plan, uint32_t index,
                                 struct ld_error *err)
{
    uint64_t bytes;
    (void)item_bytes(&plan->items[index], &bytes);
    void *data = ld_block_alloc((size_t)bytes);
    if (!data)
        return LD_FAIL(err, LD_E_NOMEM, "not enough memory to write a model");
    enum ld_code code = plan->fill(plan->ctx, index, data, (size_t)bytes, err);
    if (code == LD_OK)
        code = ld_fsx_write_all(fd, ld_span_of(data, (size_t)bytes), err);
    ld_block_free(data, (size_t)bytes);
    return code;
}

enum ld_code ld_safetensors_write(int fd, const struct ld_st_write *plan, struct ld_error *err)
{
    struct ld_buffer header = ld_buffer_make(8 + LD_ST_HEADER_MAX);
    enum ld_code code =
        plan->count > LD_ST_TENSORS_MAX
            ? LD_FAIL(err, LD_E_TOO_LARGE, "a model file may hold %d tensors", LD_ST_TENSORS_MAX)
            : make_header(&header, plan, err);
    if (code == LD_OK) {
        ld_write_u64le((uint8_t *)header.data, header.size - 8);
        code = ld_fsx_write_all(fd, ld_span_of(header.data, header.size), err);
    }
    for (uint32_t i = 0; code == LD_OK && i < plan->count; i++)
        code = write_tensor(fd, plan, i, err);
    ld_buffer_deinit(&header);
    return code;
}
