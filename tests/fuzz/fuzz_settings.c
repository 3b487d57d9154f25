/*
 * Proves that no settings file and no manifest breaks the reader, and that what is accepted lies
 * within the bounds of the table. Files go through libinih and our own readers.
 */
#include "config/manifest.h"
#include "config/settings.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_bounds(const struct ld_settings *settings)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].kind != LD_SETTING_INT)
            continue;
        const int64_t value = *(const int64_t *)((const char *)settings + rows[i].offset);
        if (value < rows[i].min || value > rows[i].max)
            abort();
    }
}

/* What stands before the first zero byte is the file, what follows are the tags. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ld_arena arena;
    struct ld_settings settings;
    struct ld_manifest manifest;
    const uint8_t *zero = size ? memchr(data, '\0', size) : NULL;
    const size_t split = zero ? (size_t)(zero - data) : size;
    const struct ld_span text = ld_span_of(data, split);
    const struct ld_span tags = zero ? ld_span_of(zero + 1, size - split - 1) : ld_span_of("", 0);
    ld_arena_init(&arena, "fuzz", 4 << 20);
    ld_settings_init(&settings, &arena);
    (void)!ld_settings_load_text(&settings, text, NULL);
    check_bounds(&settings);
    (void)!ld_manifest_parse(&manifest, "fuzz", text, tags, &arena, NULL);
    ld_arena_deinit(&arena);
    return 0;
}
