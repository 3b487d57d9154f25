/*
 * A demonstration checkpoint in an engine on a fake GPU (tests/cuda/fake_gpu.h), and jobs that tell
 * what came of them. A test program lists its claims; each reports what holds.
 */
#ifndef LD_TESTS_ENGINE_FIXTURE_H
#define LD_TESTS_ENGINE_FIXTURE_H

#include "runtime/engine.h"
#include "tests/cuda/fake_gpu.h"

enum { PATH_SIZE = 4096, TICKS_MAX = 400, SIDE = 32, IMAGES_MAX = 2, TEXT_SIZE = 1024 };

extern char path[PATH_SIZE];    /* of the checkpoint, engine_device.safetensors */
extern uint32_t engine_threads; /* of the engines that are opened; 1 */
extern bool engine_tune_idle;   /* ... false */

/* One line, counted. */
void report(const char *claim, bool holds);

/* main of a program MAKE_CHECKPOINT FOLDER: makes the checkpoint there, for these claims, and
 * has it for tuning folder. */
typedef void (*engine_claim)(void);
int run_claims(int argc, char **argv, const engine_claim *claims, size_t count);

/* ---- Jobs ------------------------------------------------------------------------------------ */

struct listener {
    uint32_t done, images, partial, repainted;
    enum ld_code code;
    uint64_t digest[IMAGES_MAX]; /* of the pixels */
    char why[LD_ERROR_DETAIL_SIZE], warnings[TEXT_SIZE], numerics[TEXT_SIZE];
    bool numerics_in_picture; /* the first one says the same as the report */
    char own[TEXT_SIZE];      /* what it says */
};

/* NULL after a line that says why. "" and "" for `folder` and `precision`: none, the default. */
struct ld_engine *open_engine_with(const char *model, const char *folder, const char *precision);
struct ld_engine *open_engine(void);
/* The same with weights streamed as the setting's word says. */
struct ld_engine *open_engine_streaming(const char *stream_weights);

/* One small picture in two steps. */
void ask(struct ld_request *request);
bool hand_in(struct ld_engine *engine, const struct ld_request *request, struct listener *listener);
/* `times` steps of the engine; until nothing is left to do; both of one job, which has ended. */
bool tick(struct ld_engine *engine, int times);
bool finish(struct ld_engine *engine);
bool paint(struct ld_engine *engine, const struct ld_request *request, struct listener *listener);

bool copy_file(const char *from, const char *to);

#endif
