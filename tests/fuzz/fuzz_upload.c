/*
 * Proves that uploads are cut without reading beyond them: a multipart body's parts lie inside it
 * and in order, and a text that decodes as base64 is the one that its bytes encode to.
 */
#include "api/base64.h"
#include "api/multipart.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_lie_inside(struct ld_span part, const uint8_t *data, size_t size)
{
    if (part.size > 0 && (part.data < data || part.data + part.size > data + size))
        abort();
}

static void read_parts(const uint8_t *data, size_t size)
{
    struct ld_multipart reader;
    struct ld_multipart_part part = {.found = true};
    const uint8_t *last = data;
    if (ld_multipart_open(&reader, "multipart/form-data; boundary=X", ld_span_of(data, size),
                          NULL) != LD_OK)
        return;
    while (ld_multipart_next(&reader, &part, NULL) == LD_OK && part.found) {
        must_lie_inside(part.name, data, size);
        must_lie_inside(part.file_name, data, size);
        must_lie_inside(part.data, data, size);
        if (part.data.size > 0 && part.data.data < last)
            abort();
        last = part.data.size > 0 ? part.data.data : last;
    }
}

static void decode(const uint8_t *data, size_t size)
{
    struct ld_buffer bytes = ld_buffer_make(1 << 20);
    struct ld_buffer text = ld_buffer_make(1 << 20);
    if (ld_base64_decode(ld_span_of(data, size), &bytes, NULL) == LD_OK) {
        ld_base64_encode(ld_span_of(bytes.data, bytes.size), &text);
        if (text.size != size || (size > 0 && memcmp(text.data, data, size) != 0))
            abort();
    }
    ld_buffer_deinit(&bytes);
    ld_buffer_deinit(&text);
}

/* The first byte chooses, also a content type made of the input itself. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const uint8_t choice = data[0] % 3;
    data++;
    size--;
    if (choice == 0) {
        read_parts(data, size);
    } else if (choice == 1) {
        decode(data, size);
    } else {
        char type[256] = "multipart/form-data;";
        struct ld_multipart reader;
        const size_t used = strlen(type);
        const size_t more = size < sizeof type - used - 1 ? size : sizeof type - used - 1;
        memcpy(type + used, data, more);
        (void)!ld_multipart_open(&reader, type, ld_span_of(data, size), NULL);
    }
    return 0;
}
