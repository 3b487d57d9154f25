/*
 * Proves that no body of POST /v1/jobs breaks the reader, and that an accepted one has a canonical
 * form that reads back to itself. Bodies go through the whole native dialect: scan, fields, the
 * model's defaults, names, limits, and the answer of a refusal must be JSON.
 */
#include "fuzz_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world;
    const struct ld_api_context *context = world_open(&world);
    struct ld_arena arena;
    struct ld_native native;
    ld_arena_init(&arena, "fuzz", 4 << 20);
    ld_native_init(&native, &arena);
    if (ld_native_accept(&native, ld_span_of(data, size), context) == LD_OK) {
        name_uploads(&native);
        must_read_back(&native);
    } else {
        struct ld_buffer out = ld_buffer_make(DOCUMENT_BYTES_MAX);
        ld_problem_write(&native.problem, "/v1/jobs", &out);
        must_be_json(&out);
        if (ld_problem_status(&native.problem) < 400)
            abort();
        ld_buffer_deinit(&out);
    }
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
    return 0;
}
