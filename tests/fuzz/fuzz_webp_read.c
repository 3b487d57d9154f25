/*
 * Proves that the WebP decoder, and the walk over its header before it, end in pixels or in an
 * error, never in between, whatever the bytes.
 */
#include "tests/fuzz/fuzz_picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_picture(ld_span_of(data, size), LD_PICTURE_WEBP);
    return 0;
}
