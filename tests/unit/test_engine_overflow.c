/* Proves that what fp16 cannot hold is painted again in bf16, and nothing else is touched: the
 * company in the batch, files that are replaced meanwhile, a job that goes. How: a demonstration
 * checkpoint on a fake GPU, with weights in the prompt or the file beyond fp16's range.
 *
 *     test_engine_overflow MAKE_CHECKPOINT FOLDER
 */
#include "tests/unit/engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Beyond fp16 ----------------------------------------------------------------------------- */

/* Weights that take the text's encoding out of fp16's range, of bf16's with `beyond`. */
static void ask_too_much(struct ld_request *request, bool beyond)
{
    ask(request);
    request->prompt = beyond ? "(cat:1000000000000000000000000000000000000000)" : "(cat:3000000)";
    request->syntax = LD_SYNTAX_A1111;
    request->emphasis = LD_EMPHASIS_NO_NORM;
}

static void what_fp16_cannot_hold_is_painted_in_bf16(void)
{
    struct listener modest_alone;
    struct listener wide_alone;
    struct listener modest;
    struct listener wide;
    struct ld_request request;
    struct ld_request greedy;
    fake_gpu_reset();
    ask(&request);
    ask_too_much(&greedy, false);
    greedy.images = 2;
    struct ld_engine *reference = open_engine_with(path, "", "bf16");
    bool good = paint(reference, &greedy, &wide_alone) && wide_alone.code == LD_OK;
    ld_engine_destroy(reference);
    struct ld_engine *engine = open_engine();
    good = good && paint(engine, &request, &modest_alone) && modest_alone.code == LD_OK;
    report("a modest picture stays in fp16", good && modest_alone.repainted == 0);
    good = good && hand_in(engine, &greedy, &wide) && hand_in(engine, &request, &modest) &&
           finish(engine);
    report("a picture beyond fp16's range is painted all the same",
           good && wide.code == LD_OK && wide.images == 2 && wide.repainted == 2);
    report("as bf16 paints it", good && wide.digest[0] == wide_alone.digest[0] &&
                                    wide.digest[1] == wide_alone.digest[1]);
    report("its warnings say so", strstr(wide.warnings, "was painted again in bf16") != NULL);
    report("and so do its numerics",
           strstr(wide.numerics, "\"precision\":\"bf16\"") != NULL && wide.numerics_in_picture);
    report("its company in the batch is the same as alone",
           good && modest.code == LD_OK && modest.repainted == 0 &&
               modest.digest[0] == modest_alone.digest[0] && strcmp(modest.warnings, "[]") == 0);
    ask_too_much(&greedy, true);
    good = good && hand_in(engine, &greedy, &wide) && hand_in(engine, &request, &modest) &&
           finish(engine);
    report("what bf16 cannot hold either fails, with a reason",
           good && wide.code == LD_E_NUMERICAL && strstr(wide.why, "no numbers"));
    report("alone", good && modest.code == LD_OK && modest.digest[0] == modest_alone.digest[0]);
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
}

/* The same bytes in another file: what counts is that nobody can know them to be the same. */
static bool replace_file(const char *file)
{
    char next[PATH_SIZE + 64];
    (void)snprintf(next, sizeof next, "%s.next", file);
    return copy_file(path, next) && rename(next, file) == 0;
}

static bool look_again(struct ld_engine *engine)
{
    struct ld_error err = {0};
    struct ld_buffer found = ld_buffer_make(4096);
    const bool good = ld_engine_rescan(engine, &found, &err) == LD_OK;
    ld_buffer_deinit(&found);
    return good;
}

/* The second engine opens files by name, so it must not open those of another time. */
static void files_replaced_meanwhile_are_not_mixed_in(void)
{
    char own[PATH_SIZE + 32];
    struct listener alone;
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    (void)snprintf(own, sizeof own, "%s.own.safetensors", path);
    struct ld_engine *engine = copy_file(path, own) ? open_engine_with(own, "", "") : NULL;
    ask_too_much(&request, false);
    request.steps = 6;
    bool good = paint(engine, &request, &alone) && alone.code == LD_OK && alone.repainted == 1;

    good = good && hand_in(engine, &request, &listener) && tick(engine, 5) && look_again(engine) &&
           finish(engine);
    report("a scan that finds nothing new leaves a picture that is painted again alone",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);

    good = good && hand_in(engine, &request, &listener) && tick(engine, 5) && replace_file(own) &&
           look_again(engine) && finish(engine);
    report("one that holds its files keeps them when they are replaced",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);

    good = good && hand_in(engine, &request, &listener) && tick(engine, 1) && replace_file(own) &&
           look_again(engine) && finish(engine);
    report("one that would have to open others fails with a reason",
           good && listener.code == LD_E_CONFLICT &&
               strstr(listener.why, "were replaced meanwhile") && listener.images == 0);

    good = good && paint(engine, &request, &listener);
    report("and the next job paints with the new ones",
           good && listener.code == LD_OK && listener.digest[0] == alone.digest[0]);
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
    (void)remove(own);
}

static void a_job_can_go_while_it_is_painted_again(void)
{
    struct listener listener;
    struct ld_request request;
    struct ld_error err = {0};
    fake_gpu_reset();
    struct ld_engine *engine = open_engine();
    ask_too_much(&request, false);
    request.steps = 6;
    bool good = hand_in(engine, &request, &listener);
    for (int i = 0; good && i < 5; i++)
        good = ld_engine_tick(engine, &err) == LD_OK;
    good = good && listener.done == 0;
    ld_engine_cancel(engine, 1, false);
    report("a job that is painted again can be cancelled",
           good && finish(engine) && listener.done == 1 && listener.code == LD_E_CANCELLED);
    ld_engine_destroy(engine);
}

/* The decoder's first convolution, times 2^20: float16 in the file, so by its exponents. Weights
 * that would become infinite keep 2^15. */
static bool spoil_decoder(const char *file)
{
    static const char name[] = "\"first_stage_model.decoder.conv_in.weight\"";
    static char header[1 << 20];
    unsigned char size[8];
    unsigned long long at = 0, from = 0, to = 0;
    FILE *stream = fopen(file, "r+b");
    bool good = stream && fread(size, 1, 8, stream) == 8;
    for (int i = 8; good && i-- > 0;)
        at = at << 8 | size[i];
    good = good && at < sizeof header && fread(header, 1, (size_t)at, stream) == at;
    const char *entry = good ? strstr(header, name) : NULL;
    const char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (offsets) {
        char *end;
        from = strtoull(offsets + 16, &end, 10);
        to = strtoull(end + 1, NULL, 10);
    }
    good = offsets && to > from;
    for (unsigned long long i = from; good && i < to; i += 2) {
        unsigned char half[2];
        const long place = (long)(8 + at + i);
        good = fseek(stream, place, SEEK_SET) == 0 && fread(half, 1, 2, stream) == 2;
        unsigned value = (unsigned)half[0] | (unsigned)half[1] << 8;
        const unsigned exponent = value >> 10 & 31U;
        const unsigned raised = exponent + 20 > 30 ? 30 : exponent + 20;
        value = exponent == 0 ? value : (value & 0x83FFU) | raised << 10;
        half[0] = (unsigned char)value;
        half[1] = (unsigned char)(value >> 8);
        good = good && fseek(stream, place, SEEK_SET) == 0 && fwrite(half, 1, 2, stream) == 2;
    }
    return (!stream || fclose(stream) == 0) && good;
}

static void a_decoder_beyond_fp16_runs_in_bf16(void)
{
    char spoiled[PATH_SIZE + 32];
    struct listener listener;
    struct ld_request request;
    fake_gpu_reset();
    (void)snprintf(spoiled, sizeof spoiled, "%s.spoiled.safetensors", path);
    const bool made = copy_file(path, spoiled) && spoil_decoder(spoiled);
    struct ld_engine *engine = made ? open_engine_with(spoiled, "", "") : NULL;
    ask(&request);
    const bool good = paint(engine, &request, &listener);
    report("a decoder beyond fp16's range runs again in bf16",
           good && listener.code == LD_OK && listener.images == 1 && listener.repainted == 1);
    report("and the job says so", good && strstr(listener.warnings, "the VAE went beyond") &&
                                      strstr(listener.numerics, "\"vae_precision\":\"bf16\""));
    ld_engine_destroy(engine);
    (void)remove(spoiled);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {
        what_fp16_cannot_hold_is_painted_in_bf16,
        files_replaced_meanwhile_are_not_mixed_in,
        a_job_can_go_while_it_is_painted_again,
        a_decoder_beyond_fp16_runs_in_bf16,
    };
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
