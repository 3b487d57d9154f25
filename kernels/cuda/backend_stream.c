/*
 * Streamed weights: they lie packed in pinned host memory and reach the device during a run,
 * through a ring there (ring.h) and on a stream of their own, so that a network runs on a device
 * that does not hold it.
 *
 * An operator that wants a weight calls for its copy on the copy stream and lets the compute stream
 * wait for that copy's event; the copy itself waits, on the device, for the readers of what lay in
 * its place. Nobody waits on the host: a walk calls for all of a plan's operators while the device
 * works on the first of them, so the copies run ahead in the order of the plan, which the walk
 * itself tells, as far as the ring has room. Nothing has to be learnt or foretold.
 *
 * What is streamed: matrices and tables, whole, biases and phase forms included. Vectors (gains and
 * shifts of norms) stay on the device: all of SD1.5's take 1.1 MiB, and a copy each would cost more
 * time than it saves memory.
 *
 * Recording  A run begins with an empty ring, so equal runs use equal places, and waits for nothing
 *            that happened before it but for one event on the compute stream. So a recording holds
 *            the copies as a branch of its graph, forked by that event and joined by the events of
 *            the copies; kernels.md 3, which has a graph for each block instead, thought of two
 *            buffers whose state outlives a run.
 */
#include "kernels/cuda/backend_state.h"

#include <string.h>

/* ---- Opening --------------------------------------------------------------------------------- */

static enum ld_code open_events(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    int code = LDK_OK;
    for (int i = 0; code == LDK_OK && i < LDK_RING_PIECES; i++) {
        if (!streaming->copied[i])
            code = ldk_rt_event_create(&streaming->copied[i]);
        if (code == LDK_OK && !streaming->read[i])
            code = ldk_rt_event_create(&streaming->read[i]);
    }
    if (code == LDK_OK && !streaming->fork)
        code = ldk_rt_event_create(&streaming->fork);
    if (code == LDK_OK && !streaming->join)
        code = ldk_rt_event_create(&streaming->join);
    return ld_cuda_check(cuda, code, "events for streamed weights", err);
}

/* Nothing is on its way through the ring any more. */
static enum ld_code settle(struct ld_cuda *cuda, struct ld_error *err)
{
    int code = ldk_rt_stream_synchronize(cuda->streaming.copies);
    if (code == LDK_OK)
        code = ldk_rt_stream_synchronize(cuda->stream);
    return ld_cuda_check(cuda, code, "waiting for streamed weights", err);
}

static void close_ring(struct ld_cuda *cuda)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    if (streaming->memory)
        (void)ldk_rt_free(streaming->memory); /* waits for whatever uses it */
    streaming->memory = NULL;
    ldk_ring_init(&streaming->ring, 0);
    cuda->generation++;
}

/* Room for the largest weight there is. A ring that grows is empty. */
static enum ld_code fit_ring(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    const size_t wanted = ldk_ring_bytes(streaming->largest);
    void *memory = NULL;
    if (wanted <= streaming->ring.bytes)
        return LD_OK;
    if (cuda->mode != LD_CUDA_WALK)
        return LD_FAIL(err, LD_E_BUG,
                       "a recorded plan wants a larger ring than when it was walked");
    enum ld_code code = settle(cuda, err);
    if (code != LD_OK)
        return code;
    close_ring(cuda);
    code = ld_cuda_alloc(cuda, wanted, &memory, err);
    if (code != LD_OK)
        return code;
    streaming->memory = memory;
    ldk_ring_init(&streaming->ring, wanted);
    return LD_OK;
}

enum ld_code ld_cuda_stream_admit(struct ld_cuda *cuda, size_t bytes, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    enum ld_code code = LD_OK;
    if (!streaming->copies)
        code = ld_cuda_check(cuda, ldk_rt_stream_create(&streaming->copies, 0),
                             "a stream for weights", err);
    if (code == LD_OK && !streaming->join)
        code = open_events(cuda, err);
    if (code != LD_OK)
        return code;
    const size_t before = streaming->largest;
    streaming->weights++;
    streaming->largest = bytes > before ? bytes : before;
    code = fit_ring(cuda, err);
    if (code == LD_OK)
        return LD_OK;
    streaming->largest = before; /* the others make do with the ring they had, at their next use */
    ld_cuda_stream_dismiss(cuda);
    return code;
}

void ld_cuda_stream_dismiss(struct ld_cuda *cuda)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    struct ld_error ignored = {0};
    LD_ASSERT(streaming->weights > 0);
    /* Its host memory may go next: a copy of it that no run waits for any more has to end first. */
    (void)(settle(cuda, &ignored) == LD_OK);
    if (--streaming->weights > 0)
        return;
    close_ring(cuda);
    streaming->largest = 0;
}

/* ---- Runs ------------------------------------------------------------------------------------ */

void ld_cuda_stream_begin(struct ld_cuda *cuda)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    ldk_ring_init(&streaming->ring, streaming->ring.bytes);
    streaming->forked = false;
}

/* From here on the ring is free for copies: whatever read it before has been called for. */
static enum ld_code fork(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    if (streaming->forked)
        return LD_OK;
    int code = ldk_rt_event_record(streaming->fork, cuda->stream);
    if (code == LDK_OK)
        code = ldk_rt_stream_wait(streaming->copies, streaming->fork);
    streaming->forked = code == LDK_OK;
    return ld_cuda_check(cuda, code, "beginning to stream weights", err);
}

enum ld_code ld_cuda_stream_end(struct ld_cuda *cuda, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    if (!streaming->forked)
        return LD_OK;
    streaming->forked = false;
    ldk_ring_init(&streaming->ring, streaming->ring.bytes);
    int code = ldk_rt_event_record(streaming->join, streaming->copies);
    if (code == LDK_OK)
        code = ldk_rt_stream_wait(cuda->stream, streaming->join);
    return ld_cuda_check(cuda, code, "ending to stream weights", err);
}

/* ---- One weight ------------------------------------------------------------------------------ */

/* To the place that the ring gave it: after the reader `after` has done, before anything that is
 * called for from now on. */
static enum ld_code send(struct ld_cuda *cuda, const struct ld_weight *weight, int32_t slot,
                         int32_t after, struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    int code = LDK_OK;
    if (after != LDK_RING_NONE)
        code = ldk_rt_stream_wait(streaming->copies, streaming->read[after]);
    if (code == LDK_OK)
        code = ldk_rt_upload(streaming->memory + streaming->ring.pieces[slot].at, weight->host,
                             weight->bytes, streaming->copies);
    if (code == LDK_OK)
        code = ldk_rt_event_record(streaming->copied[slot], streaming->copies);
    if (code == LDK_OK)
        code = ldk_rt_stream_wait(cuda->stream, streaming->copied[slot]);
    cuda->stats.weights_sent++;
    return ld_cuda_check(cuda, code, "sending a weight", err);
}

/* Where it stands on the device while it is held. */
static enum ld_code hold(struct ld_cuda *cuda, const struct ld_weight *weight, unsigned char **at,
                         struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    struct ldk_ring *ring = &streaming->ring;
    int32_t slot;
    int32_t after;
    LD_ASSERT(cuda->mode != LD_CUDA_REPLAY);
    enum ld_code code = fit_ring(cuda, err); /* again, where memory was short at its creation */
    if (code == LD_OK)
        code = fork(cuda, err);
    if (code != LD_OK)
        return code;
    if (ldk_ring_find(ring, weight->serial, &slot)) {
        ring->pieces[slot].held = true;
    } else if (ldk_ring_place(ring, weight->serial, weight->bytes, &slot, &after)) {
        code = send(cuda, weight, slot, after, err);
    } else {
        code = LD_FAIL(err, LD_E_BUG, "the ring for streamed weights has no room for a weight");
    }
    struct ld_error ignored = {0};
    if (code !=
        LD_OK) /* what of it has been called for is not known: the next copy waits for all */
        (void)(ld_cuda_stream_end(cuda, &ignored) == LD_OK);
    else
        *at = streaming->memory + ring->pieces[slot].at;
    return code;
}

enum ld_code ld_cuda_stream_matrix(struct ld_cuda *cuda, const struct ld_weight *weight,
                                   struct ldk_weight *out, struct ld_error *err)
{
    unsigned char *at = NULL;
    *out = weight->matrix;
    if (!weight->host)
        return LD_OK;
    const enum ld_code code = hold(cuda, weight, &at, err);
    if (code != LD_OK)
        return code;
    const unsigned char *phase = weight->matrix.phase;
    const unsigned char *bias = (const void *)weight->matrix.bias;
    const unsigned char *bias16 = weight->matrix.bias16;
    out->data = at;
    out->phase = phase ? at + (phase - weight->host) : NULL;
    out->bias = (const float *)(const void *)(at + (bias - weight->host));
    out->bias16 = at + (bias16 - weight->host);
    return LD_OK;
}

enum ld_code ld_cuda_stream_tables(struct ld_cuda *cuda, const struct ld_weight *const weights[2],
                                   const void *out[2], struct ld_error *err)
{
    enum ld_code code = LD_OK;
    /* In an empty ring there is room for two of any size. */
    if (weights[0]->host || weights[1]->host)
        code = ld_cuda_stream_end(cuda, err);
    for (int i = 0; code == LD_OK && i < 2; i++) {
        unsigned char *at = NULL;
        out[i] = weights[i]->data;
        if (!weights[i]->host)
            continue;
        code = hold(cuda, weights[i], &at, err);
        out[i] = at;
    }
    return code;
}

enum ld_code ld_cuda_stream_read(struct ld_cuda *cuda, const struct ld_weight *weight,
                                 struct ld_error *err)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    int32_t slot;
    if (!weight->host || !ldk_ring_find(&streaming->ring, weight->serial, &slot))
        return LD_OK;
    ldk_ring_read(&streaming->ring, slot);
    return ld_cuda_check(cuda, ldk_rt_event_record(streaming->read[slot], cuda->stream),
                         "a streamed weight's reader", err);
}

/* ---- The end --------------------------------------------------------------------------------- */

void ld_cuda_stream_deinit(struct ld_cuda *cuda)
{
    struct ld_cuda_streaming *streaming = &cuda->streaming;
    if (streaming->copies)
        (void)ldk_rt_stream_synchronize(streaming->copies);
    close_ring(cuda);
    for (int i = 0; i < LDK_RING_PIECES; i++) {
        if (streaming->copied[i])
            (void)ldk_rt_event_destroy(streaming->copied[i]);
        if (streaming->read[i])
            (void)ldk_rt_event_destroy(streaming->read[i]);
    }
    if (streaming->fork)
        (void)ldk_rt_event_destroy(streaming->fork);
    if (streaming->join)
        (void)ldk_rt_event_destroy(streaming->join);
    if (streaming->copies)
        (void)ldk_rt_stream_destroy(streaming->copies);
    memset(streaming, 0, sizeof *streaming);
}
