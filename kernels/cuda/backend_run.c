/*
 * Recording and replaying whole plans. The first run of a plan is walked: modules load, the tuner
 * chooses, stage and workspace find their size. The second one is recorded into a graph and
 * launched, later ones are launched from it after their host inputs have been laid out. A recording
 * belongs to one identity (ld_run_id) and one generation of stage, workspace and the libraries'
 * plans.
 */
#include "kernels/cuda/backend_state.h"

#include <string.h>

/* What one node of an instantiated graph takes, roughly: parameters, topology, launch buffer. */
enum { NODE_BYTES = 8 << 10 };

/* ---- Finding --------------------------------------------------------------------------------- */

static bool same(const struct ld_run_id *a, const struct ld_run_id *b)
{
    return a->plan == b->plan && a->weights == b->weights &&
           memcmp(a->more, b->more, sizeof a->more) == 0 && a->scratch == b->scratch &&
           a->persistent == b->persistent && a->bound == b->bound &&
           a->skip_prologue == b->skip_prologue;
}

static void drop_graph(struct ld_cuda *cuda, struct ld_cuda_recording *recording)
{
    if (recording->graph) {
        (void)ldk_rt_graph_destroy(recording->graph);
        cuda->stats.recordings_dropped++;
    }
    recording->graph = NULL;
    recording->bytes = 0;
}

static void forget(struct ld_cuda *cuda, uint32_t index)
{
    drop_graph(cuda, &cuda->recordings[index]);
    LD_ASSERT(cuda->current != &cuda->recordings[index]);
    cuda->recordings[index] = cuda->recordings[--cuda->recording_count];
    if (cuda->current == &cuda->recordings[cuda->recording_count])
        cuda->current = &cuda->recordings[index];
}

static uint32_t oldest(const struct ld_cuda *cuda)
{
    uint32_t found = 0;
    for (uint32_t i = 1; i < cuda->recording_count; i++)
        if (cuda->recordings[i].used < cuda->recordings[found].used)
            found = i;
    return found;
}

/* Oldest out until `bytes` more fit; a single plan above the budget is kept alone. */
static void make_room(struct ld_cuda *cuda, size_t bytes)
{
    for (;;) {
        size_t held = 0;
        uint32_t graphs = 0;
        uint32_t victim = 0;
        for (uint32_t i = 0; i < cuda->recording_count; i++) {
            const struct ld_cuda_recording *recording = &cuda->recordings[i];
            if (!recording->graph)
                continue;
            held += recording->bytes;
            if (graphs++ == 0 || recording->used < cuda->recordings[victim].used)
                victim = i;
        }
        if (graphs == 0 || held + bytes <= cuda->options.recording_bytes_max)
            return;
        drop_graph(cuda, &cuda->recordings[victim]);
    }
}

static struct ld_cuda_recording *find(struct ld_cuda *cuda, const struct ld_run_id *id)
{
    struct ld_cuda_recording *found = NULL;
    const uint64_t lost = ldk_tuner_lost(cuda->tuner);
    cuda->generation += lost != cuda->tuner_lost;
    cuda->tuner_lost = lost;
    for (uint32_t i = 0; i < cuda->recording_count && !found; i++)
        if (same(&cuda->recordings[i].id, id))
            found = &cuda->recordings[i];
    if (!found) {
        if (cuda->recording_count == LD_CUDA_RECORDINGS_MAX)
            forget(cuda, oldest(cuda));
        found = &cuda->recordings[cuda->recording_count++];
        memset(found, 0, sizeof *found);
        found->id = *id;
        found->generation = cuda->generation;
    }
    if (found->generation != cuda->generation) {
        drop_graph(cuda, found);
        found->walked = false;
        found->generation = cuda->generation;
    }
    found->used = ++cuda->clock;
    return found;
}

void ld_cuda_run_forget(struct ld_backend *backend, uint64_t plan)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    for (uint32_t i = cuda->recording_count; i-- > 0;)
        if (cuda->recordings[i].id.plan == plan)
            forget(cuda, i);
}

void ld_cuda_runs_deinit(struct ld_cuda *cuda)
{
    while (cuda->recording_count > 0)
        forget(cuda, cuda->recording_count - 1);
}

/* ---- A run ----------------------------------------------------------------------------------- */

enum ld_code ld_cuda_run_begin(struct ld_backend *backend, const struct ld_run_id *id,
                               struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    LD_ASSERT(cuda->mode == LD_CUDA_WALK);
    if (cuda->base.lost)
        return LD_FAIL(err, LD_E_DEVICE, "the GPU cannot be used any more");
    /* Left over from a run that failed: its outputs may point to memory that is gone. */
    if (cuda->stage.used > 0) {
        const enum ld_code code = ld_cuda_stage_settle(cuda, false, err);
        if (code != LD_OK)
            return code;
    }
    cuda->current = NULL;
    ld_cuda_stream_begin(cuda);
    *(id->skip_prologue ? &cuda->stats.prologues_skipped : &cuda->stats.prologues) += 1;
    if (!id->recordable || cuda->options.no_recording)
        return LD_OK;
    struct ld_cuda_recording *recording = find(cuda, id);
    cuda->current = recording;
    if (recording->graph) {
        cuda->mode = LD_CUDA_REPLAY;
    } else if (recording->walked && !recording->refused) {
        const int code = ldk_rt_capture_begin(cuda->stream);
        if (code == LDK_OK)
            cuda->mode = LD_CUDA_RECORD;
        else
            recording->refused = true;
    }
    return LD_OK;
}

static enum ld_code launch(struct ld_cuda *cuda, struct ld_error *err)
{
    return ld_cuda_check(cuda, ldk_rt_graph_launch(cuda->current->graph, cuda->stream),
                         "launching a plan", err);
}

/* The stream leaves its recording state in any case. */
static enum ld_code end_recording(struct ld_cuda *cuda, bool completed, bool *again,
                                  struct ld_error *err)
{
    struct ld_cuda_recording *recording = cuda->current;
    ldk_graph graph = NULL;
    const int code = ldk_rt_capture_end(cuda->stream, &graph);
    if (code != LDK_OK || !completed) {
        if (code == LDK_OK)
            (void)ldk_rt_graph_destroy(graph);
        (void)ldk_rt_last_error();
        /* A cancelled run may be recorded another time; a failed recording is not tried again. */
        recording->refused = code != LDK_OK;
        cuda->stats.recordings_failed++;
        *again = completed;
        return ld_cuda_stage_settle(cuda, false, err);
    }
    recording->bytes = (size_t)recording->id.operators * NODE_BYTES;
    make_room(cuda, recording->bytes);
    recording->graph = graph;
    cuda->stats.recordings++;
    return launch(cuda, err);
}

enum ld_code ld_cuda_run_end(struct ld_backend *backend, bool completed, bool *again,
                             struct ld_error *err)
{
    struct ld_cuda *cuda = ld_cuda_of(backend);
    const enum ld_cuda_mode mode = cuda->mode;
    *again = false;
    cuda->mode = LD_CUDA_WALK;
    enum ld_code code = LD_OK;
    const enum ld_code joined = ld_cuda_stream_end(cuda, err);
    completed = completed && joined == LD_OK;
    if (mode == LD_CUDA_RECORD) {
        code = end_recording(cuda, completed, again, err);
    } else if (mode == LD_CUDA_REPLAY && completed) {
        cuda->stats.replays++;
        code = launch(cuda, err);
    } else if (completed) {
        cuda->stats.walks++;
        if (cuda->current)
            cuda->current->walked = cuda->current->generation == cuda->generation;
    }
    if (!completed && mode != LD_CUDA_RECORD)
        code = ld_cuda_stage_settle(cuda, false, err);
    cuda->current = NULL;
    return joined != LD_OK ? joined : code;
}
