/* Proves that idle times serve both engines: what a picture has run in fp16, and what one beyond
 * fp16's range has run in bf16, with the same bytes before and after; and an engine that is bf16
 * from the start. How: a demonstration checkpoint on a fake GPU whose kernels have variants, and
 * the real tuner.
 *
 *     test_engine_tuner MAKE_CHECKPOINT FOLDER
 */
#include "tests/unit/engine_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DECISIONS_SIZE = 1 << 20, PIECES_MAX = 1000 };

/* ---- The folder ------------------------------------------------------------------------------ */

/* What idle times have decided, as the file says it; the file goes with `remove`. */
static const char *decisions(bool remove)
{
    static char text[DECISIONS_SIZE];
    const char *folder = getenv("LATENTD_TUNING");
    DIR *dir = opendir(folder);
    text[0] = '\0';
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        char name[PATH_SIZE + 300];
        if (strncmp(entry->d_name, "idle-", 5) != 0)
            continue;
        (void)snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(name, "r");
        if (file) {
            text[fread(text, 1, sizeof text - 1, file)] = '\0';
            (void)fclose(file);
        }
        if (remove)
            (void)unlink(name);
    }
    if (dir)
        (void)closedir(dir);
    return text;
}

/* Shapes of that type that got another kernel than the default. */
static int chosen(const char *text, const char *type)
{
    int count = 0;
    for (const char *line = text; line; line = strchr(line + 1, '\n')) {
        const char *end = strchr(line + 1, '\n');
        const char *fast = strstr(line, "unit own:fast ");
        const char *found = strstr(line, type);
        count += end && fast && fast < end && found && found < end;
    }
    return count;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

static struct ld_engine *open_tuned(const char *precision)
{
    (void)decisions(true);
    fake_gpu_reset();
    fake_gpu.linear_ways = true;
    engine_tune_idle = true;
    return open_engine_with(path, "", precision);
}

/* All that waits for idle times; false if it does not end. */
static bool rest(struct ld_engine *engine)
{
    struct ld_error err = {0};
    enum ld_idle left = LD_IDLE_MORE;
    for (int i = 0; i < PIECES_MAX && left == LD_IDLE_MORE; i++)
        if (ld_engine_idle(engine, &left, &err) != LD_OK)
            return false;
    return left == LD_IDLE_DONE;
}

/* Weights that take the text's encoding out of fp16's range. */
static void ask_too_much(struct ld_request *request)
{
    ask(request);
    request->prompt = "(cat:3000000)";
    request->syntax = LD_SYNTAX_A1111;
    request->emphasis = LD_EMPHASIS_NO_NORM;
}

static void both_engines_are_measured(void)
{
    struct listener before;
    struct listener after;
    struct listener wide;
    struct listener wide_after;
    struct ld_request request;
    struct ld_request greedy;
    struct ld_engine *engine = open_tuned("");
    ask(&request);
    ask_too_much(&greedy);
    bool good = engine && paint(engine, &request, &before) && before.code == LD_OK && rest(engine);
    const char *found = decisions(false);
    report("what fp16 ran is measured",
           good && chosen(found, " f16 ") > 0 && chosen(found, " bf16 ") == 0);
    good = good && paint(engine, &greedy, &wide) && wide.code == LD_OK && wide.repainted == 1 &&
           rest(engine);
    found = decisions(false);
    report("what the second engine ran is measured too, and the file keeps both",
           good && chosen(found, " f16 ") > 0 && chosen(found, " bf16 ") > 0);
    good = good && paint(engine, &request, &after) && paint(engine, &greedy, &wide_after);
    report("both paint the same bytes as before",
           good && after.digest[0] == before.digest[0] && wide_after.digest[0] == wide.digest[0]);
    ld_engine_destroy(engine);
    report("and nothing is left on the device", fake_gpu.live_allocations == 0);
}

static void an_engine_of_bf16_is_measured(void)
{
    struct listener before;
    struct listener after;
    struct ld_request request;
    struct ld_engine *engine = open_tuned("bf16");
    ask(&request);
    bool good = engine && paint(engine, &request, &before) && before.code == LD_OK && rest(engine);
    const char *found = decisions(false);
    report("what bf16 ran is measured",
           good && chosen(found, " bf16 ") > 0 && chosen(found, " f16 ") == 0);
    good = good && paint(engine, &request, &after);
    report("and paints the same bytes after", good && after.digest[0] == before.digest[0]);
    ld_engine_destroy(engine);
    (void)decisions(true);
}

int main(int argc, char **argv)
{
    static const engine_claim claims[] = {both_engines_are_measured, an_engine_of_bf16_is_measured};
    return run_claims(argc, argv, claims, sizeof claims / sizeof claims[0]);
}
