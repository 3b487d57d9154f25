#include "server/equal.h"

#include "runtime/base/buffer.h"

static void hash_bytes(struct ld_sha256 *hash, struct ld_span bytes)
{
    const uint64_t size = bytes.size;
    ld_sha256_update(hash, ld_span_of(&size, sizeof size)); /* where one ends and the next begins */
    ld_sha256_update(hash, bytes);
}

bool ld_equal_hash(uint8_t out[LD_SHA256_BYTES], const struct ld_equal *job)
{
    const struct ld_request *request = job->request;
    const uint64_t numbers[] = {job->share, (uint64_t)request->preview_every,
                                (uint64_t)request->preview_size,
                                (uint64_t)request->preview_decoder};
    struct ld_buffer json = ld_buffer_make(1 << 20);
    struct ld_sha256 hash = {0};
    struct ld_error err = {0};
    ld_request_write_replay_json(request, &json);
    const bool good = !json.failed && ld_sha256_init(&hash, &err) == LD_OK;
    if (good) {
        ld_sha256_update(&hash, ld_span_of(numbers, sizeof numbers));
        hash_bytes(&hash, ld_span_of(json.data, json.size));
        hash_bytes(&hash, ld_span_text(request->preview_format));
        hash_bytes(&hash, job->init_image);
        hash_bytes(&hash, job->init_mask);
        for (uint32_t i = 0; i < LD_REQUEST_CONTROLS_MAX; i++)
            hash_bytes(&hash, job->control_images[i]);
        if (job->with_tag)
            hash_bytes(&hash, ld_span_text(request->tag));
        ld_sha256_finish(&hash, out);
    }
    ld_buffer_deinit(&json);
    return good;
}
