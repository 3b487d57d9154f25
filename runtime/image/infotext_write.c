/* A1111's infotext of a request, in Forge's order of fields. */
#include "config/limits.h"
#include "runtime/base/json.h"
#include "runtime/image/infotext.h"
#include "runtime/image/infotext_control.h"
#include "runtime/sample/schedule.h"

#include <math.h>
#include <string.h>

enum { HASH_DIGITS = 10 }; /* what A1111 and Civitai show of a SHA-256 */

struct writer {
    struct ld_buffer *out;
    bool comma;
};

/* ---- Pairs ----------------------------------------------------------------------------------- */

static bool given(const char *text)
{
    return text && text[0];
}

static void put_value(struct ld_buffer *out, const char *value)
{
    if (strpbrk(value, ",:\n\""))
        ld_buffer_json_string(out, value);
    else
        ld_buffer_text(out, value);
}

static void put_key(struct writer *w, const char *key)
{
    if (w->comma)
        ld_buffer_text(w->out, ", ");
    w->comma = true;
    ld_buffer_format(w->out, "%s: ", key);
}

static void put_text(struct writer *w, const char *key, const char *value)
{
    put_key(w, key);
    put_value(w->out, value);
}

/* A double in its shortest form; whole numbers without a fraction. */
static void put_double(struct writer *w, const char *key, double value)
{
    put_key(w, key);
    if (value == rint(value) && fabs(value) < 1e15)
        ld_buffer_format(w->out, "%.0f", value);
    else
        ld_buffer_json_double(w->out, value);
}

static void put_given(struct writer *w, const char *key, double value)
{
    if (!isnan(value))
        put_double(w, key, value);
}

static void put_seed(struct writer *w, const char *key, uint64_t value)
{
    put_key(w, key);
    ld_buffer_format(w->out, "%llu", (unsigned long long)value);
}

static void put_hash(struct writer *w, const char *key, const char *sha256)
{
    if (!given(sha256))
        return;
    put_key(w, key);
    ld_buffer_format(w->out, "%.*s", HASH_DIGITS, sha256);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static const char *sampler_label(const char *name)
{
    const struct ld_sampler_info *info = ld_sampler_info_find(name);
    return info ? info->label : name;
}

static const char *scheduler_label(const char *name)
{
    const struct ld_scheduler_info *info = ld_scheduler_info_find(name);
    return info ? info->label : name;
}

/* A1111's name of an upscaler, or our own. */
static const char *upscaler_label(const char *name)
{
    static const char *const map[][2] = {
        {"latent-bilinear", "Latent"},
        {"latent-bilinear-aa", "Latent (antialiased)"},
        {"latent-bicubic", "Latent (bicubic)"},
        {"latent-bicubic-aa", "Latent (bicubic antialiased)"},
        {"latent-nearest", "Latent (nearest)"},
        {"latent-nearest-exact", "Latent (nearest-exact)"},
    };
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        if (strcmp(map[i][0], name) == 0)
            return map[i][1];
    return name;
}

/* ---- Groups of fields ------------------------------------------------------------------------ */

/* A prompt with the adapters as A1111 writes them into it. */
static void put_tagged(struct ld_buffer *out, const char *prompt,
                       const struct ld_request_lora *loras, uint32_t count)
{
    ld_buffer_text(out, prompt);
    for (uint32_t i = 0; i < count; i++) {
        const struct ld_request_lora *lora = &loras[i];
        const double text = isnan(lora->text_weight) ? lora->weight : lora->text_weight;
        ld_buffer_format(out, " <lora:%s:", lora->name);
        if (text != lora->weight) {
            ld_buffer_json_double(out, text);
            ld_buffer_byte(out, ':');
        }
        ld_buffer_json_double(out, lora->weight);
        ld_buffer_byte(out, '>');
    }
}

static void put_prompts(struct ld_buffer *out, const struct ld_request *r)
{
    put_tagged(out, r->prompt, r->loras, r->lora_count);
    ld_buffer_byte(out, '\n');
    if (given(r->negative_prompt))
        ld_buffer_format(out, "Negative prompt: %s\n", r->negative_prompt);
}

static void put_sampling(struct writer *w, const struct ld_request *r,
                         const struct ld_infotext_facts *facts)
{
    put_double(w, "Steps", r->steps);
    put_text(w, "Sampler", sampler_label(r->sampler));
    put_text(w, "Schedule type", scheduler_label(r->scheduler));
    put_double(w, "CFG scale", r->cfg_scale);
    put_seed(w, "Seed", r->seed);
    put_key(w, "Size");
    ld_buffer_format(w->out, "%dx%d", r->width, r->height);
    put_hash(w, "Model hash", facts->model_sha256);
    if (given(facts->model_name))
        put_text(w, "Model", facts->model_name);
    put_hash(w, "VAE hash", facts->vae_sha256);
    if (given(r->vae))
        put_text(w, "VAE", r->vae);
    if (r->variation_strength != 0) {
        put_seed(w, "Variation seed", r->variation_seed);
        put_double(w, "Variation seed strength", r->variation_strength);
    }
    if (r->init.present)
        put_double(w, "Denoising strength", r->init.strength);
    else if (r->hires.present)
        put_double(w, "Denoising strength", r->hires.strength);
    if (r->init.present && r->init.mask_blur > 0)
        put_double(w, "Mask blur", r->init.mask_blur);
    if (r->clip_skip > 1) /* readers take its absence for 1 */
        put_double(w, "Clip skip", r->clip_skip);
}

static void put_options(struct writer *w, const struct ld_request *r)
{
    static const char *const emphasis[] = {"Original", "No norm", "Ignore", "None"};
    const struct ld_request_sampler_options *o = &r->sampler_options;
    const struct ld_request_scheduler_options *s = &r->scheduler_options;
    if (o->ensd != 0)
        put_double(w, "ENSD", (double)o->ensd);
    put_given(w, "Eta", o->eta);
    put_given(w, "Sigma churn", o->s_churn);
    put_given(w, "Sigma tmin", o->s_tmin);
    put_given(w, "Sigma tmax", o->s_tmax);
    put_given(w, "Sigma noise", o->s_noise);
    put_given(w, "Schedule rho", s->rho);
    put_given(w, "Schedule min sigma", s->sigma_min);
    put_given(w, "Schedule max sigma", s->sigma_max);
    put_given(w, "Beta schedule alpha", s->alpha);
    put_given(w, "Beta schedule beta", s->beta);
    if (o->discard_penultimate != LD_UNSET)
        put_text(w, "Discard penultimate sigma", o->discard_penultimate ? "True" : "False");
    put_text(w, "RNG", r->noise == LD_NOISE_CPU ? "CPU" : "NV");
    if (r->emphasis != LD_EMPHASIS_ORIGINAL)
        put_text(w, "Emphasis", emphasis[r->emphasis]);
    if (r->pad_context)
        put_text(w, "Pad conds", "True");
    if (r->guidance.ngms > 0)
        put_double(w, "NGMS", r->guidance.ngms);
    if (r->guidance.skip_early > 0)
        put_double(w, "Skip Early CFG", r->guidance.skip_early);
}

/* "name [hash]", A1111's short title of a checkpoint. */
static void put_hires_model(struct writer *w, const struct ld_infotext_facts *facts)
{
    struct ld_buffer title = ld_buffer_make(4096);
    if (!given(facts->hires_model_name))
        return;
    ld_buffer_text(&title, facts->hires_model_name);
    if (given(facts->hires_model_sha256))
        ld_buffer_format(&title, " [%.*s]", HASH_DIGITS, facts->hires_model_sha256);
    if (!title.failed)
        put_text(w, "Hires checkpoint", title.data);
    ld_buffer_deinit(&title);
}

/* A1111 reads the second pass's adapters from its prompt; without one the first pass's prompt holds
 * with all that is in it. */
static void put_hires_prompt(struct writer *w, const struct ld_request *r)
{
    const struct ld_request_hires *h = &r->hires;
    struct ld_buffer text = ld_buffer_make(2 * LD_PROMPT_BYTES_MAX);
    if (!h->prompt && !h->loras_given)
        return;
    put_tagged(&text, h->prompt ? h->prompt : r->prompt, h->loras_given ? h->loras : r->loras,
               h->loras_given ? h->lora_count : r->lora_count);
    if (!text.failed)
        put_text(w, "Hires prompt", text.data);
    w->out->failed = w->out->failed || text.failed;
    ld_buffer_deinit(&text);
}

static void put_hires(struct writer *w, const struct ld_request *r,
                      const struct ld_infotext_facts *facts)
{
    const struct ld_request_hires *h = &r->hires;
    if (!h->present)
        return;
    if (h->width > 0 && h->height > 0) {
        put_key(w, "Hires resize");
        ld_buffer_format(w->out, "%dx%d", h->width, h->height);
    } else {
        put_double(w, "Hires upscale", h->scale);
    }
    if (h->steps > 0)
        put_double(w, "Hires steps", h->steps);
    put_text(w, "Hires upscaler", upscaler_label(h->upscaler));
    put_hires_model(w, facts);
    if (given(h->sampler))
        put_text(w, "Hires sampler", sampler_label(h->sampler));
    if (given(h->scheduler))
        put_text(w, "Hires schedule type", scheduler_label(h->scheduler));
    put_given(w, "Hires CFG Scale", h->cfg_scale);
    put_hires_prompt(w, r);
    if (h->negative_prompt)
        put_text(w, "Hires negative prompt", h->negative_prompt);
}

static void put_controls(struct writer *w, const struct ld_request *r,
                         const struct ld_infotext_facts *facts)
{
    for (uint32_t i = 0; i < r->control_count; i++) {
        struct ld_buffer unit = ld_buffer_make(4096);
        char key[24];
        (void)ld_fmt(key, sizeof key, "ControlNet %u", i);
        if (ld_infotext_write_control(&unit, r, i, facts->control_sha256[i]) && !unit.failed)
            put_text(w, key, unit.data);
        w->out->failed = w->out->failed || unit.failed;
        ld_buffer_deinit(&unit);
    }
}

/* ---- Hashes ---------------------------------------------------------------------------------- */

enum { FILES_MAX = LD_REQUEST_LORAS_MAX, NAME_SIZE = 160, SHA256_SIZE = 65 };

struct file_fact {
    char name[NAME_SIZE];
    char hash[HASH_DIGITS + 1];
};

/* A string member into out[size]; false for another kind or one that does not fit. */
static bool copy_string(const struct ld_json_token *token, char *out, size_t size)
{
    size_t used;
    if (token->kind != LD_JSON_STRING || !ld_json_unescape(token, out, size - 1, &used))
        return false;
    out[used] = '\0';
    return true;
}

/* One object's name and hash; its brace has been read. Leaves them empty where they are missing. */
static enum ld_code read_file(struct ld_json *json, struct file_fact *file)
{
    char digest[SHA256_SIZE];
    struct ld_json_token key, value;
    for (;;) {
        enum ld_code code = ld_json_next(json, &key, NULL);
        if (code != LD_OK || key.kind != LD_JSON_KEY)
            return code;
        code = ld_json_next(json, &value, NULL);
        if (code != LD_OK)
            return code;
        if (ld_json_is(&key, "name") && !copy_string(&value, file->name, sizeof file->name))
            file->name[0] = '\0';
        if (ld_json_is(&key, "sha256") && copy_string(&value, digest, sizeof digest))
            (void)ld_fmt(file->hash, sizeof file->hash, "%.*s", HASH_DIGITS, digest);
        code = ld_json_skip(json, &value, NULL);
        if (code != LD_OK)
            return code;
    }
}

/* Those of a JSON list that have both; how many. */
static size_t read_files(const char *text, struct file_fact files[FILES_MAX])
{
    struct ld_json json;
    struct ld_json_token token;
    size_t count = 0;
    if (!given(text))
        return 0;
    ld_json_init(&json, ld_span_text(text), 8, 4096);
    if (ld_json_next(&json, &token, NULL) != LD_OK || token.kind != LD_JSON_ARRAY_BEGIN)
        return 0;
    while (count < FILES_MAX && ld_json_next(&json, &token, NULL) == LD_OK &&
           token.kind == LD_JSON_OBJECT_BEGIN) {
        memset(&files[count], 0, sizeof files[count]);
        if (read_file(&json, &files[count]) != LD_OK)
            break;
        count += files[count].name[0] && files[count].hash[0];
    }
    return count;
}

/* "name: hash, name: hash" in quotes, as A1111's own extensions write it. */
static void put_hash_list(struct writer *w, const char *key, const struct file_fact *files,
                          size_t count)
{
    struct ld_buffer list = ld_buffer_make(16 * 1024);
    for (size_t i = 0; i < count; i++)
        ld_buffer_format(&list, "%s%s: %s", i ? ", " : "", files[i].name, files[i].hash);
    if (count > 0 && !list.failed) {
        put_key(w, key);
        ld_buffer_json_string(w->out, list.data);
    }
    ld_buffer_deinit(&list);
}

static void put_hash_entry(struct ld_buffer *out, const char *kind, const char *name,
                           const char *hash)
{
    char key[NAME_SIZE + 16], digits[HASH_DIGITS + 1];
    if (!given(hash))
        return;
    (void)ld_fmt(key, sizeof key, "%s%s%s", kind, name ? ":" : "", name ? name : "");
    (void)ld_fmt(digits, sizeof digits, "%s", hash);
    if (out->size > 1)
        ld_buffer_text(out, ", ");
    ld_buffer_json_string(out, key);
    ld_buffer_text(out, ": ");
    ld_buffer_json_string(out, digits);
}

/* Lists of their own, then Civitai's form: {"model": "...", "lora:name": "...", "embed:...": ...}.
 */
static void put_hashes(struct writer *w, const struct ld_infotext_facts *facts)
{
    struct file_fact adapters[FILES_MAX], embeddings[FILES_MAX];
    const size_t adapter_count = read_files(facts->adapters_json, adapters);
    const size_t embedding_count = read_files(facts->embeddings_json, embeddings);
    put_hash_list(w, "Lora hashes", adapters, adapter_count);
    put_hash_list(w, "TI hashes", embeddings, embedding_count);

    struct ld_buffer json = ld_buffer_make(16 * 1024);
    ld_buffer_byte(&json, '{');
    put_hash_entry(&json, "model", NULL, facts->model_sha256);
    put_hash_entry(&json, "vae", NULL, facts->vae_sha256);
    for (size_t i = 0; i < adapter_count; i++)
        put_hash_entry(&json, "lora", adapters[i].name, adapters[i].hash);
    for (size_t i = 0; i < embedding_count; i++)
        put_hash_entry(&json, "embed", embeddings[i].name, embeddings[i].hash);
    ld_buffer_byte(&json, '}');
    if (json.size > 2 && !json.failed) {
        put_key(w, "Hashes");
        ld_buffer_text(w->out, json.data);
    }
    ld_buffer_deinit(&json);
}

void ld_infotext_write(struct ld_buffer *out, const struct ld_request *request,
                       const struct ld_infotext_facts *facts)
{
    struct writer w = {.out = out};
    put_prompts(out, request);
    put_sampling(&w, request, facts);
    put_options(&w, request);
    put_hires(&w, request, facts);
    put_controls(&w, request, facts);
    put_hashes(&w, facts);
    if (request->profile == LD_PROFILE_A1111)
        put_text(&w, "Profile", "a1111");
    put_text(&w, "Version", given(facts->version) ? facts->version : "latentd");
}
