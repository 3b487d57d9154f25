/*
 * Where a claimed job goes: to the worker that had room for it, unless another one already computes
 * an equal job for the same key and has not shown a picture yet. There it takes that job's result
 * and no place of its own, so it may go beyond the worker's number.
 */
#include "api/dialect_native.h"
#include "config/limits.h"
#include "server/equal.h"
#include "server/supervisor_internal.h"

uint64_t ld_supervisor_share_of(const struct ld_supervisor *supervisor, const char *tenant)
{
    uint8_t digest[LD_SHA256_BYTES];
    if (supervisor->config.share_across_tenants)
        return 0;
    ld_sha256(ld_span_text(tenant), digest);
    return ld_read_u64le(digest) | 1;
}

static bool hash_job(const struct ld_supervisor *supervisor, const struct ld_store_job *job,
                     uint8_t out[LD_SHA256_BYTES])
{
    struct ld_arena arena;
    struct ld_native native;
    struct ld_equal equal = {
        .request = &native.request,
        .share = ld_supervisor_share_of(supervisor, job->tenant),
        .init_image = ld_span_text(job->init_sha256),
        .init_mask = ld_span_text(job->mask_sha256),
    };
    for (uint32_t i = 0; i < LD_CONTROLS_MAX; i++)
        equal.control_images[i] = ld_span_text(job->control_sha256[i]);
    ld_arena_init(&arena, "equal", LD_ARENA_JOB_BYTES);
    ld_native_init(&native, &arena);
    const bool good =
        ld_native_decode(&native, ld_span_text(job->view.request_json), NULL) == LD_OK &&
        ld_equal_hash(out, &equal);
    ld_native_deinit(&native);
    ld_arena_deinit(&arena);
    return good;
}

static bool computes_equal(const struct ld_slot *slot, const uint8_t digest[LD_SHA256_BYTES])
{
    for (uint32_t i = 0; i < slot->job_count; i++) {
        const struct ld_slot_job *job = &slot->jobs[i];
        if (job->equal.known && !job->shown && !job->suspect &&
            memcmp(job->equal.digest, digest, sizeof job->equal.digest) == 0)
            return true;
    }
    return false;
}

struct ld_slot *ld_supervisor_place(struct ld_supervisor *supervisor, struct ld_slot *slot,
                                    const struct ld_store_job *job, struct ld_equal_mark *mark)
{
    *mark = (struct ld_equal_mark){0};
    /* With one worker equal jobs meet anyway. */
    if (supervisor->config.workers == 1 || job->suspect || job->view.cell_count > 0 ||
        !hash_job(supervisor, job, mark->digest))
        return slot;
    mark->known = true;
    for (uint32_t i = 0; i < supervisor->config.workers; i++) {
        struct ld_slot *other = &supervisor->slots[i];
        if (other->state == LD_SLOT_READY && !other->killed_by_us &&
            other->job_count < LD_SLOT_JOBS_MAX && computes_equal(other, mark->digest))
            return other;
    }
    return slot;
}
