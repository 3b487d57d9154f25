#include "runtime/text/gunzip.h"

#include "runtime/base/arena.h"

#include <libdeflate.h>

bool ld_gunzip_detect(struct ld_span file)
{
    return file.size >= 18 && file.data[0] == 0x1F && file.data[1] == 0x8B && file.data[2] == 8;
}

enum ld_code ld_gunzip(struct ld_span file, size_t limit, uint8_t **out, size_t *out_size,
                       struct ld_error *err)
{
    enum ld_code code = LD_OK;
    uint8_t *data = NULL;
    struct libdeflate_decompressor *inflater = NULL;
    *out = NULL;
    *out_size = 0;
    if (!ld_gunzip_detect(file)) {
        code = LD_FAIL(err, LD_E_FORMAT, "the compressed vocabulary is not a gzip file");
        goto done;
    }
    /* The trailer holds the size modulo 2^32; the library checks that it is the true one. */
    const size_t size = ld_read_u32le(file.data + file.size - 4);
    if (size > limit) {
        code = LD_FAIL(err, LD_E_TOO_LARGE, "the vocabulary is larger than %zu bytes", limit);
        goto done;
    }
    data = ld_heap_alloc(size);
    inflater = libdeflate_alloc_decompressor();
    if (!data || !inflater) {
        code = LD_FAIL(err, LD_E_NOMEM, "out of memory while reading the vocabulary");
        goto done;
    }
    if (libdeflate_gzip_decompress(inflater, file.data, file.size, data, size, out_size) !=
        LIBDEFLATE_SUCCESS) {
        code = LD_FAIL(err, LD_E_FORMAT, "the compressed vocabulary is damaged");
        goto done;
    }
    *out = data;
    data = NULL;
done:
    if (inflater)
        libdeflate_free_decompressor(inflater);
    ld_heap_free(data);
    return code;
}
