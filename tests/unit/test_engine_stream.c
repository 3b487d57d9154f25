/* Proves who decides that a model's weights are streamed: the setting's three words, and with auto
 * what the device had free at the start; that the memory which a picture is said to take follows,
 * that pictures are the same to the pixel, and that models, jobs and inventory say it. How: a small
 * checkpoint over a fake GPU that says it has as much free as the test likes.
 *
 *     test_engine_stream MAKE_CHECKPOINT FOLDER
 */
#include "kernels/cuda/backend.h"
#include "runtime/library.h"
#include "tests/unit/engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ld_engine_config config_of(const char *stream_weights)
{
    return (struct ld_engine_config){.model_dir = "",
                                     .adapter_dir = "",
                                     .embedding_dir = "",
                                     .wildcard_dir = "",
                                     .vae_dir = "",
                                     .default_model = "",
                                     .model_path = path,
                                     .vocab_path = "",
                                     .backend = "cuda",
                                     .stream_weights = stream_weights,
                                     .threads = 1};
}

/* ---- The choice ------------------------------------------------------------------------------ */

/* What the library does with the model. */
struct choice {
    bool streamed, told;    /* by the model, by the inventory */
    bool listed;            /* among the loaded ones as streamed */
    uint64_t need;          /* of the least picture, as the inventory says */
    uint64_t weights, ring; /* bytes of all parts, and of the ring on the device */
};

/* The first step of the first table: "steps":[[64,BYTES], ... */
static uint64_t first_need(const char *inventory)
{
    unsigned long long bytes = 0;
    unsigned positions = 0;
    const char *steps = strstr(inventory, "\"steps\":[[");
    if (steps) {
        char *end = NULL;
        positions = (unsigned)strtoul(steps + strlen("\"steps\":[["), &end, 10);
        bytes = strtoull(end + 1, NULL, 10);
    }
    return positions == 64 ? bytes : 0;
}

/* `memory_free` 0: what the device says. */
static bool choose(const char *word, size_t memory_free, struct choice *out)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    struct ld_library *library = NULL;
    struct ld_resident *model = NULL;
    struct ld_cuda_stats stats = {0};
    const struct ld_engine_config config = config_of(word);
    const struct ld_cuda_options options = {.dtype = LD_DTYPE_F16, .threads = 1};
    struct ld_buffer text = ld_buffer_make(64 * 1024);
    memset(out, 0, sizeof *out);
    fake_gpu_reset();
    enum ld_code code = ld_cuda_backend_create(&backend, &options, &err);
    if (code == LD_OK && memory_free > 0)
        backend->memory_free = memory_free;
    if (code == LD_OK)
        code = ld_library_open(&library, &config, backend, &err);
    if (code == LD_OK)
        code = ld_library_load(library, "", &err);
    if (code == LD_OK)
        code = ld_library_model(library, "", &model, &err);
    if (code == LD_OK) {
        ld_cuda_stats(backend, &stats);
        ld_library_write_residents(library, model->name, true, &text);
        *out = (struct choice){.streamed = ld_model_is_streamed(model->model),
                               .told = strstr(ld_library_inventory(library), "\"streamed\":true") !=
                                       NULL,
                               .listed = strstr(text.data, "\"streamed\":true") != NULL,
                               .need = first_need(ld_library_inventory(library)),
                               .weights = ld_model_weight_bytes(model->model),
                               .ring = stats.ring_bytes};
        ld_library_release(library, model);
    } else {
        printf("library: %s\n", err.detail);
    }
    ld_library_close(library);
    if (backend)
        backend->ops->destroy(backend);
    ld_buffer_deinit(&text);
    return code == LD_OK && out->need > 0 && fake_gpu.live_allocations == 0;
}

static bool is(const struct choice *choice, bool streamed)
{
    return choice->streamed == streamed && choice->told == streamed && choice->listed == streamed &&
           (choice->ring > 0) == streamed;
}

static void the_setting_decides(void)
{
    struct choice off;
    struct choice on;
    struct choice left;
    report("off: the weights lie on the device", choose("off", 0, &off) && is(&off, false));
    report("off: however little is free", choose("off", 1 << 20, &left) && is(&left, false));
    report("on: they are streamed", choose("on", 0, &on) && is(&on, true));
    report("a picture is said to take the ring instead of the weights",
           off.need > on.need + off.weights / 2 && on.need >= on.ring);
    report("auto: they lie on a device that holds them",
           choose("auto", 0, &left) && is(&left, false));
    report("auto: and the picture takes as much", left.need == off.need);
    report("auto: they are streamed to one that does not",
           choose("auto", (size_t)off.weights, &left) && is(&left, true) && left.need == on.need);
    report("no word: auto", choose("", (size_t)off.weights, &left) && is(&left, true) &&
                                choose(NULL, 0, &left) && is(&left, false));
}

/* ---- Pictures -------------------------------------------------------------------------------- */

/* The second picture of an engine comes from recordings. */
static bool paint_twice(const char *word, struct listener out[2])
{
    struct ld_engine *engine = open_engine_streaming(word);
    struct ld_request request;
    bool good = engine != NULL;
    for (int i = 0; good && i < 2; i++) {
        ask(&request);
        request.seed = 7 + (uint64_t)i;
        request.steps = 4;
        good = paint(engine, &request, &out[i]) && out[i].code == LD_OK && out[i].images == 1;
    }
    ld_engine_destroy(engine);
    return good;
}

static void pictures_are_the_same(void)
{
    static struct listener resident[2];
    static struct listener streamed[2];
    fake_gpu_reset();
    const bool painted = paint_twice("off", resident) && paint_twice("on", streamed);
    report("streamed weights paint the same pictures",
           painted && resident[0].digest[0] == streamed[0].digest[0] &&
               resident[1].digest[0] == streamed[1].digest[0] &&
               resident[0].digest[0] != resident[1].digest[0]);
    report("the job says that they were",
           painted && strstr(streamed[0].warnings, "are streamed to the GPU") != NULL &&
               strstr(resident[0].warnings, "streamed") == NULL);
    report("a picture says the same of what computed it",
           painted && strcmp(resident[0].numerics, streamed[0].numerics) == 0);
    report("nothing is left on the device", fake_gpu.live_allocations == 0);
}

static void a_wrong_word_is_refused(void)
{
    struct ld_engine *engine = NULL;
    struct ld_error err = {0};
    const struct ld_engine_config config = config_of("sometimes");
    report("another word is refused by name",
           ld_engine_create(&engine, &config, &err) == LD_E_INVALID &&
               strcmp(err.detail, "stream_weights must be auto, on or off") == 0);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {the_setting_decides, a_wrong_word_is_refused,
                                          pictures_are_the_same};
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
