#include "server/cmd_replay.h"

#include "api/dialect_native.h"
#include "runtime/base/fsx.h"
#include "runtime/base/json_find.h"
#include "runtime/image/picture_read.h"
#include "runtime/image/picture_texts.h"

#include <stdarg.h>
#include <stdio.h>

enum { ARENA_BYTES_MAX = 16 << 20, PICTURE_BYTES_MAX = 80 << 20 };

static struct ld_span bytes_of(const struct ld_buffer *buffer)
{
    return ld_span_of(buffer->data, buffer->size);
}

enum ld_code ld_replay_open(struct ld_replay *replay, const char *path, struct ld_error *err)
{
    struct ld_picture_header header;
    memset(replay, 0, sizeof *replay);
    ld_arena_init(&replay->arena, "replay", ARENA_BYTES_MAX);
    replay->file = ld_buffer_make(PICTURE_BYTES_MAX);
    if (ld_fsx_read_file(path, &replay->file, err) != LD_OK)
        return LD_FAIL(err, err->code, "'%.200s' cannot be read", path);
    if (ld_picture_check_header(&header, bytes_of(&replay->file), err) != LD_OK)
        return LD_FAIL(err, err->code, "'%.200s' is not a picture that can be read here", path);
    enum ld_code code =
        ld_picture_texts_read(&replay->texts, &replay->arena, bytes_of(&replay->file), false, err);
    if (code == LD_OK)
        code = ld_recipe_read(&replay->recipe, &replay->texts, err);
    if (code == LD_OK && replay->recipe.source == LD_RECIPE_NONE)
        code = LD_FAIL(err, LD_E_NOT_FOUND, "'%.200s' does not say how it was made", path);
    return code;
}

void ld_replay_close(struct ld_replay *replay)
{
    ld_recipe_deinit(&replay->recipe);
    ld_buffer_deinit(&replay->file);
    ld_arena_deinit(&replay->arena);
}

enum ld_code ld_replay_request(struct ld_replay *replay, struct ld_request *request,
                               struct ld_error *err)
{
    struct ld_native native;
    ld_native_init(&native, &replay->arena);
    const enum ld_code code = ld_native_decode(&native, bytes_of(&replay->recipe.request), NULL);
    if (code == LD_OK)
        *request = native.request;
    else
        (void)LD_FAIL(err, code, "the picture's request: %.300s", native.problem.detail);
    ld_native_deinit(&native);
    return code;
}

bool ld_replay_unmapped(const struct ld_replay *replay, uint32_t index, char *out, size_t size)
{
    char pointer[16];
    (void)ld_fmt(pointer, sizeof pointer, "/%u", index);
    return ld_json_find_string(bytes_of(&replay->recipe.notes), pointer, out, size);
}

/* ---- What differs ---------------------------------------------------------------------------- */

static void add(struct ld_buffer *out, const char *format, ...) LD_PRINTF(2, 3);

static void add(struct ld_buffer *out, const char *format, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (out->size > 0)
        ld_buffer_byte(out, ',');
    ld_buffer_json_string(out, sentence);
}

/* Channels compared as RGB: nothing here paints transparency. */
static void compare_pixels(const struct ld_picture *old, const struct ld_picture *new,
                           struct ld_buffer *out)
{
    uint64_t different = 0;
    int largest = 0;
    if (old->width != new->width || old->height != new->height) {
        add(out, "the picture was %dx%d and is now %dx%d", old->width, old->height, new->width,
            new->height);
        return;
    }
    const size_t count = (size_t)old->width * (size_t)old->height;
    for (size_t i = 0; i < count; i++) {
        int worst = 0;
        for (size_t c = 0; c < 3; c++) {
            const int distance = (int)old->pixels[i * (size_t)old->channels + c] -
                                 (int)new->pixels[i * (size_t) new->channels + c];
            const int size = distance < 0 ? -distance : distance;
            worst = size > worst ? size : worst;
        }
        different += worst > 0 ? 1 : 0;
        largest = worst > largest ? worst : largest;
    }
    if (different == 0)
        add(out, "every pixel is the same, the file around them differs");
    else
        add(out, "%llu of %zu pixels differ, by %d of 255 at most", (unsigned long long)different,
            count, largest);
}

static void text_of(const struct ld_png_texts *texts, const char *pointer, char *out, size_t size)
{
    const char *own = ld_png_text_find(texts, "latentd");
    if (!own || !ld_json_find_string(ld_span_text(own), pointer, out, size))
        out[0] = '\0';
}

/* What computed them, as far as it decides the last bits (runtime/numerics.h). Other kernels follow
 * from another device or precision and are told only where nothing else explains the bits. */
static void compare_numerics(const struct ld_png_texts *before, const struct ld_png_texts *now,
                             struct ld_buffer *out)
{
    static const struct {
        const char *pointer, *what;
        bool follows;
    } facts[] = {
        {"/numerics/backend", "the backend", false},
        {"/numerics/device", "the device", false},
        {"/numerics/precision", "the precision", false},
        {"/numerics/vae_precision", "the VAE's precision", false},
        {"/numerics/unet", "the order in which the UNet's kernels sum", true},
        {"/numerics/vae", "the order in which the VAE's kernels sum", true},
    };
    bool explained = false;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        char old[160];
        char new[160];
        text_of(before, facts[i].pointer, old, sizeof old);
        text_of(now, facts[i].pointer, new, sizeof new);
        if (strcmp(old, new) == 0 || (facts[i].follows && explained) || (!old[0] && i == 0))
            explained = explained || strcmp(old, new) != 0; /* an older file says nothing */
        else {
            add(out, "%s was %s and is %s", facts[i].what, old[0] ? old : "another",
                new[0] ? new : "another");
            explained = true;
        }
    }
}

/* What the two files say about themselves, as far as it explains other pixels. */
static void compare_facts(const struct ld_replay *replay, const struct ld_png_texts *texts,
                          const struct ld_recipe *recipe, struct ld_buffer *out)
{
    char old[96];
    char new[96];
    const size_t known = strlen(replay->recipe.model_hash);
    if (replay->recipe.source != LD_RECIPE_LATENTD)
        add(out, "the picture was made by another program");
    if (known > 0 && recipe->model_hash[0] &&
        strncmp(replay->recipe.model_hash, recipe->model_hash, known) != 0)
        add(out, "the model is another one: %.10s then, %.10s now", replay->recipe.model_hash,
            recipe->model_hash);
    text_of(&replay->texts, "/version", old, sizeof old);
    text_of(texts, "/version", new, sizeof new);
    if (old[0] && new[0] && strcmp(old, new) != 0)
        add(out, "it was made by version %.60s, this is %.60s", old, new);
    compare_numerics(&replay->texts, texts, out);
    if (replay->recipe.source == LD_RECIPE_LATENTD && new[0] &&
        !ld_span_equal(bytes_of(&replay->recipe.request), bytes_of(&recipe->request)))
        add(out, "the request reads otherwise than the one that ran");
}

enum ld_code ld_replay_compare(const struct ld_replay *replay, struct ld_span painted,
                               bool *identical, struct ld_buffer *out, struct ld_error *err)
{
    struct ld_arena arena;
    struct ld_png_texts texts = {0};
    struct ld_recipe recipe = {0};
    struct ld_picture old = {0};
    struct ld_picture new = {0};
    *identical = ld_span_equal(bytes_of(&replay->file), painted);
    if (*identical)
        return LD_OK;
    ld_arena_init(&arena, "replay", ARENA_BYTES_MAX);
    enum ld_code code = ld_picture_texts_read(&texts, &arena, painted, false, err);
    if (code == LD_OK)
        code = ld_recipe_read(&recipe, &texts, err);
    if (code == LD_OK)
        code = ld_picture_read(&old, bytes_of(&replay->file), err);
    if (code == LD_OK)
        code = ld_picture_read(&new, painted, err);
    if (code == LD_OK) {
        compare_pixels(&old, &new, out);
        compare_facts(replay, &texts, &recipe, out);
    }
    ld_picture_deinit(&new);
    ld_picture_deinit(&old);
    ld_recipe_deinit(&recipe);
    ld_arena_deinit(&arena);
    return code;
}
