/*
 * struct ld_request: the checked, complete description of one generation. `api` builds it from
 * bytes, everything inside takes it as true. Names and bounds: config/fields.def and api.md 1.
 * All strings are UTF-8, NUL-terminated, owned by the request's arena; "" where absent unless a
 * comment says NULL.
 */
#ifndef LD_RUNTIME_PARAMS_H
#define LD_RUNTIME_PARAMS_H

#include "runtime/base/arena.h"
#include "runtime/base/buffer.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ld_preview_decoder { LD_PREVIEW_AUTO, LD_PREVIEW_LATENT, LD_PREVIEW_TAESD };
enum ld_syntax { LD_SYNTAX_A1111, LD_SYNTAX_NOVELAI, LD_SYNTAX_COMFY, LD_SYNTAX_PLAIN };
enum ld_profile { LD_PROFILE_COMFY, LD_PROFILE_A1111 };
/* What a TIPO model writes, and how many tags (or sentences) there shall be in the end. */
enum ld_tipo_write { LD_TIPO_TAGS, LD_TIPO_TEXT, LD_TIPO_BOTH };
enum ld_tipo_length { LD_TIPO_VERY_SHORT, LD_TIPO_SHORT, LD_TIPO_LONG, LD_TIPO_VERY_LONG };
enum ld_noise_kind { LD_NOISE_CPU, LD_NOISE_PHILOX };
enum ld_emphasis {
    LD_EMPHASIS_ORIGINAL,
    LD_EMPHASIS_NO_NORM,
    LD_EMPHASIS_IGNORE,
    LD_EMPHASIS_NONE
};
enum ld_vae_tiling { LD_VAE_AUTO, LD_VAE_EXACT, LD_VAE_ESTIMATED, LD_VAE_PLAIN };
/* How a picture comes to a size: stretched, cut or padded to it, or (upscale only) in its own shape
 * and large enough to cover it. */
enum ld_fit { LD_FIT_STRETCH, LD_FIT_CROP, LD_FIT_PAD, LD_FIT_COVER };
/* Which pixels of a mask are painted anew. */
enum ld_mask_from { LD_MASK_WHITE, LD_MASK_BLACK, LD_MASK_TRANSPARENT, LD_MASK_OPAQUE };
enum ld_init_area { LD_INIT_WHOLE, LD_INIT_MASKED };
enum ld_smea_mode { LD_SMEA_OFF, LD_SMEA_ON, LD_SMEA_AUTO };
/* How a ControlNet and the prompt share the say: evenly, or with less of it in the finer maps, or
 * so and beside the positive prompt alone. */
enum ld_control_mode { LD_CONTROL_BALANCED, LD_CONTROL_PROMPT, LD_CONTROL_HINT };
/* What makes a hint of a picture (runtime/image/hint.h). */
enum ld_hint_kind {
    LD_HINT_NONE, /* it is one */
    LD_HINT_CANNY,
    LD_HINT_SCRIBBLE,
    LD_HINT_LINEART,
    LD_HINT_INVERT,
    LD_HINT_THRESHOLD,
    LD_HINT_LUMINANCE,
    LD_HINT_BLUR,
    LD_HINT_TILE,
    LD_HINT_INPAINT
};
/* Which passes a ControlNet takes part in, where there are two. */
enum ld_control_passes { LD_CONTROL_BOTH, LD_CONTROL_FIRST, LD_CONTROL_SECOND };
enum ld_dora_choice { LD_DORA_CHOICE_MERGED, LD_DORA_CHOICE_COMFY }; /* as enum ld_dora_norm */
enum ld_tristate { LD_UNSET = -1, LD_FALSE = 0, LD_TRUE = 1 };

enum {
    LD_REQUEST_LORAS_MAX = 16,
    LD_REQUEST_CONTROLS_MAX = 3,
    LD_LORA_RANGES_MAX = 8, /* each takes weights of its own */
    LD_REQUEST_SIGMAS_MAX = 152,
    LD_REQUEST_FIELDS_MAX = 256 /* rows config/fields.def may have */
};

struct ld_request_lora {
    const char *name;
    double weight, text_weight, start, end;
};

/* NAN in a double means "not given: the scheduler's or sampler's own". */
struct ld_request_sampler_options {
    double eta, s_noise, s_churn, s_tmin, s_tmax, gamma, r, rtol, atol, h_init;
    const char *solver;        /* "", "midpoint", "heun" */
    const char *ancestral_rng; /* "", "philox", "cpu" */
    const char *brownian_rng;  /* "", "philox", "cpu" */
    int64_t ensd;
    int32_t order;
    bool extrapolate_last;
    enum ld_tristate discard_penultimate;
};

struct ld_request_scheduler_options {
    double rho, sigma_min, sigma_max, coefficient, alpha, beta, mu, b;
};

struct ld_request_init {
    bool present;
    const char *image; /* id of an uploaded image; the bytes travel beside the request */
    const char *mask;  /* id or "" */
    enum ld_mask_from mask_from;
    double strength;
    double noise;
    enum ld_fit resize;
    enum ld_init_area area;
    int32_t mask_blur, mask_padding;
    bool paste_back, color_correction;
    int32_t outpaint_left, outpaint_top, outpaint_right, outpaint_bottom; /* 0: none */
};

/* A ControlNet and the picture that it follows. */
struct ld_request_control {
    const char *model;
    const char *image; /* id of an uploaded image, whose bytes travel beside the request; "": the
                          picture of init */
    double weight;
    double start, end; /* active in these shares of the steps, start <= share < end */
    enum ld_control_mode mode;
    enum ld_hint_kind preprocess;
    double low,
        high; /* canny's thresholds; `high` is threshold's too; 0..255, NAN: the usual ones */
    enum ld_fit resize;
    enum ld_control_passes passes;
};

/* A finished picture, enlarged by a filter alone. */
struct ld_request_upscale {
    bool present;
    const char *image; /* id of an uploaded image; the bytes travel beside the request */
    double scale;
    int32_t width, height; /* 0: from scale, until the picture's size is known */
    enum ld_fit resize;
    const char *upscaler; /* "pixel-lanczos", ... */
};

struct ld_request_hires {
    bool present;
    double scale;
    int32_t width, height; /* 0: from scale */
    const char *upscaler;  /* "latent-bislerp", ... */
    int32_t steps;         /* 0: the first pass's */
    double strength;
    const char *sampler, *scheduler;      /* "": the first pass's */
    double cfg_scale;                     /* NAN: the first pass's */
    const char *prompt, *negative_prompt; /* NULL: the first pass's */
    const char *model;                    /* "": the first pass's */
    struct ld_request_lora loras[LD_REQUEST_LORAS_MAX];
    uint32_t lora_count;
    bool loras_given; /* false: the first pass's */
};

struct ld_request_tipo {
    bool present;
    enum ld_tipo_write write;
    enum ld_tipo_length length;
    const char *text;  /* the picture in words, for the model alone; "" */
    const char *avoid; /* tags it must not add, comma separated; "" */
    double temperature, top_p, min_p;
    int32_t top_k; /* 0: off */
    bool seeded;
    uint64_t seed;
};

struct ld_request_deep_shrink {
    bool present;
    int32_t block;
    double factor, start, end;
    bool after_skip;
    const char *downscale, *upscale;
};

struct ld_request_guidance {
    double rescale; /* 0: off */
    bool uncond_zero;
    double uncond_zero_scale, uncond_zero_pre_scale;
    bool uncond_zero_pre_fix;
    const char *auto_cfg; /* "" or hard, hard_squared, soft, range */
    bool auto_cfg_boost;
    bool dynamic_threshold;
    double dt_mimic_scale, dt_percentile, dt_phi;
    const char *dt_mimic_mode, *dt_cfg_mode, *dt_start, *dt_variability;
    double dt_mimic_min, dt_cfg_min, dt_sched_value;
    bool dt_per_channel;
    double skip_above_sigma, skip_below_sigma; /* NAN: off */
    double ngms;                               /* 0: off */
    double skip_early;                         /* 0: off */
    double uncond_scale;                       /* 1 */
    double pag, sag, sag_blur;                 /* 0: off */
    const char *freeu;                         /* "" or v1, v2 */
    double freeu_b1, freeu_b2, freeu_s1, freeu_s2;
    bool apg;
    double apg_eta, apg_threshold, apg_momentum;
    double perp_neg;                     /* 0: off; else w */
    double epsilon_scale;                /* 1 */
    double negative_start, negative_end; /* range of the negative prompt, 0..1 */
};

struct ld_request {
    const char *model;
    const char *prompt, *negative_prompt;
    enum ld_syntax syntax;
    enum ld_profile profile;
    const char *quality_tags; /* "" or a preset name */
    const char *undesired;    /* "none", "light", "heavy", ... */
    int32_t year;             /* 0: none */
    const char *rating;       /* "" or a preset name */
    int32_t width, height;
    int32_t images;
    int32_t batch_size;  /* 0: no batch; else rows of one draw of noise, of which */
    int32_t batch_index; /* picture 0 is this one */
    int32_t steps;
    double cfg_scale;
    const char *sampler, *scheduler;
    struct ld_request_sampler_options sampler_options;
    struct ld_request_scheduler_options scheduler_options;
    double sigmas[LD_REQUEST_SIGMAS_MAX];
    uint32_t sigma_count; /* 0: scheduler and steps decide */
    uint64_t seed;        /* of the first picture */
    bool seed_random;     /* asked for -1 and not yet drawn */
    enum ld_noise_kind noise;
    uint64_t variation_seed;
    bool variation_seed_random; /* asked for -1; drawn by ld_request_resolve */
    double variation_strength;  /* 0: off */
    int32_t clip_skip;
    struct ld_request_lora loras[LD_REQUEST_LORAS_MAX];
    uint32_t lora_count;
    bool loras_given;
    struct ld_request_control controls[LD_REQUEST_CONTROLS_MAX];
    uint32_t control_count;
    bool controls_given;
    int32_t hyper_steps; /* 0: off */
    double hyper_weight;
    const char *vae;
    enum ld_vae_tiling vae_tiling;
    enum ld_emphasis emphasis;
    enum ld_dora_choice dora_norm;
    bool pad_context;
    bool wildcards;
    bool wildcards_seeded;
    uint64_t wildcards_seed;
    struct ld_request_tipo tipo;
    struct ld_request_deep_shrink deep_shrink;
    enum ld_smea_mode smea;
    double smea_scale; /* NAN: not yet resolved */
    struct ld_request_guidance guidance;
    struct ld_request_init init;
    struct ld_request_hires hires;
    struct ld_request_upscale upscale;
    const char *sweep; /* JSON text of an object (api/sweep.h), "" if absent */
    int32_t priority;
    int32_t preview_every, preview_size;
    enum ld_preview_decoder preview_decoder;
    const char *preview_format; /* "png", "jpeg", "webp" */
    const char *webhook_url;    /* "": none */
    uint32_t webhook_events;    /* bit i: word i of its row; 0: not given */
    const char *output_format;  /* "png", "webp", "jpeg" */
    int32_t output_quality;     /* 0: default, 1..100 */
    bool output_lossless;
    bool metadata_full;
    int32_t compression; /* 0: default, 1..12 libdeflate */
    enum ld_tristate cancel_on_disconnect;
    const char *tag;
    const char *user_data; /* JSON text of an object, "" if absent */
    uint8_t
        given[LD_REQUEST_FIELDS_MAX / 8]; /* bit i: row i of ld_fields() was set, not defaulted */
};

/* ---- The table of fields (config/fields.def) ------------------------------------------------- */

enum ld_field_kind {
    LD_FIELD_OBJECT,    /* always there */
    LD_FIELD_OBJECT_ON, /* presence is a bool member or another row (`switch_path`) */
    LD_FIELD_INT,       /* int32_t */
    LD_FIELD_OFFSET,    /* int64_t */
    LD_FIELD_NUMBER,    /* double, NAN = not given */
    LD_FIELD_SEED,      /* uint64_t with a bool beside it */
    LD_FIELD_BOOL,
    LD_FIELD_TRISTATE,  /* enum ld_tristate */
    LD_FIELD_CHOICE,    /* C enum or bool, by word */
    LD_FIELD_WORD,      /* const char *, out of `words` */
    LD_FIELD_WORDS,     /* uint32_t, bit i: word i of `words` is in the list */
    LD_FIELD_TEXT,      /* const char * */
    LD_FIELD_NAME,      /* const char *, a name the server knows */
    LD_FIELD_PRESET,    /* const char *, name or true or false */
    LD_FIELD_IMAGE,     /* const char *, id of an uploaded image */
    LD_FIELD_SIZE,      /* width and height as one word */
    LD_FIELD_SIGMAS,    /* list of numbers */
    LD_FIELD_LIST,      /* list of objects whose members are the rows behind it */
    LD_FIELD_USER_DATA, /* a JSON object kept as its text */
    LD_FIELD_UNBUILT    /* known, refused */
};

enum ld_field_flag {
    LD_FIELD_REQUIRED = 1 << 0,   /* within its object */
    LD_FIELD_NEUTRAL = 1 << 1,    /* left out of canonical JSON when at its default */
    LD_FIELD_KEEP_EMPTY = 1 << 2, /* written even when empty */
    LD_FIELD_NULLABLE = 1 << 3,   /* a text whose absence is NULL, not "" */
    LD_FIELD_MULTIPLE_8 = 1 << 4,
    LD_FIELD_ZERO_OFF = 1 << 5, /* 0 is the default and means "not given" */
    LD_FIELD_NO_TRUE = 1 << 6,  /* an object that `true` cannot stand for */
    LD_FIELD_DELIVERY = 1 << 7, /* does not change the picture */
    LD_FIELD_SWITCH = 1 << 8,   /* `given_*` when its object is given without it */
    LD_FIELD_MEMBER = 1 << 9,   /* lies in an object */
    LD_FIELD_ITEM = 1 << 10,    /* lies in an item of the list before it */
    LD_FIELD_NAMED = 1 << 11,   /* a preset that is chosen by name only; `true` means none */
    LD_FIELD_LAST = 1 << 12     /* a list whose members have flags: they set its last item's */
};

struct ld_field {
    const char *path; /* "hires.scale" */
    const char *doc;
    const char *unit;
    const char *words;       /* "a|b" for CHOICE, WORD, TRISTATE; "" otherwise */
    const char *switch_path; /* OBJECT_ON whose presence is another row; else NULL */
    const char *default_text;
    const char *given_text;
    double default_number;
    double given_number;
    double min, max;     /* value, bytes of a text, or (max) items of a list */
    size_t offset;       /* of the member */
    size_t size;         /* of it; of a list: of one item */
    size_t count_offset; /* of a list's count */
    size_t flag_offset;  /* of the bool beside a SEED, an OBJECT_ON or a list; 0: none */
    enum ld_field_kind kind;
    uint32_t flags; /* enum ld_field_flag */
    int32_t parent; /* row of the enclosing object, -1 at the top */
};

/* All rows in the order of canonical JSON; `count` may be NULL. Static storage. */
const struct ld_field *ld_fields(uint32_t *count);

/* By path ("hires.scale"), or by flag ("hires-scale"); NULL if there is none. */
const struct ld_field *ld_field_find(const char *path);
/* The enclosing object or list; NULL at the top. */
const struct ld_field *ld_field_parent(const struct ld_field *field);
/* The member `name` of an object or list row (NULL: the top level); NULL if there is none. */
const struct ld_field *ld_field_member(const struct ld_field *parent, struct ld_span name);
/* The last part of the path: "scale" of "hires.scale". */
const char *ld_field_key(const struct ld_field *field);
/* Index into ld_fields(). */
int32_t ld_field_row(const struct ld_field *field);
/* "/hires/scale"; `index` >= 0 for a row of a list ("/loras/0/name"). False if it does not fit. */
bool ld_field_pointer(const struct ld_field *field, int32_t index, char *out, size_t out_size);
/* Whether ld_request_set_text takes it: members of lists only where LD_FIELD_LAST says so. */
bool ld_field_is_set_by_name(const struct ld_field *field);
/* "--hires-scale" without the dashes; false for rows that have no flag (members of most lists). */
bool ld_field_flag_name(const struct ld_field *field, char *out, size_t out_size);
/* Whether the flag stands alone ("--wildcards", "--pad-context"), with an optional value. */
bool ld_field_flag_is_switch(const struct ld_field *field);

/* The first item of the list that a LD_FIELD_LIST row stands for, and its count. */
void *ld_request_list(struct ld_request *request, const struct ld_field *list, uint32_t **count);
/* One more item at its end, with every member at its default; NULL where the list is full. */
void *ld_request_list_add(struct ld_request *request, const struct ld_field *list);
/* The last item; NULL where there is none. */
void *ld_request_list_last(struct ld_request *request, const struct ld_field *list);

/* Was it set, by JSON, flag or dialect, and not by default? Unknown paths are a broken invariant.
 */
bool ld_request_has(const struct ld_request *request, const char *path);
void ld_request_mark(struct ld_request *request, const struct ld_field *field);

/* ---- Setting --------------------------------------------------------------------------------
 * One value into one field, with every check the table has. `base` is the struct ld_request, or the
 * item of the list for rows with LD_FIELD_ITEM. A failure leaves the field as it was; the
 * sentence names field and bound.
 * Owner    texts are copied into `arena`.
 * Errors   LD_E_INVALID (wrong kind of value, unknown word), LD_E_RANGE, LD_E_NOMEM,
 *          LD_E_UNSUPPORTED (not built).
 */
enum ld_code ld_field_set_integer(void *base, const struct ld_field *field, int64_t value,
                                  struct ld_error *err) LD_MUST_USE;
enum ld_code ld_field_set_seed(void *base, const struct ld_field *field, uint64_t value,
                               struct ld_error *err) LD_MUST_USE;
enum ld_code ld_field_set_number(void *base, const struct ld_field *field, double value,
                                 struct ld_error *err) LD_MUST_USE;
enum ld_code ld_field_set_bool(void *base, const struct ld_field *field, bool value,
                               struct ld_error *err) LD_MUST_USE;
enum ld_code ld_field_set_text(void *base, const struct ld_field *field, struct ld_arena *arena,
                               struct ld_span value, struct ld_error *err) LD_MUST_USE;
/* Refuse a value of the wrong kind: "steps must be an integer". Returns the code. */
enum ld_code ld_field_refuse_kind(const struct ld_field *field, struct ld_error *err);
/* A list of words begins anew, then takes one more; a repeated one is refused. An empty list leaves
 * the field as if it were absent, so readers refuse it. Errors   LD_E_INVALID. */
void ld_field_clear_words(void *base, const struct ld_field *field);
enum ld_code ld_field_add_word(void *base, const struct ld_field *field, struct ld_span word,
                               struct ld_error *err) LD_MUST_USE;
/* Walk "a|b|c": false at the end; *pos starts at 0. */
bool ld_words_next(const char *words, size_t *pos, struct ld_span *word);
/* Sigmas: 2..151 finite values, strictly decreasing. */
enum ld_code ld_request_set_sigmas(struct ld_request *request, const double *sigmas, uint32_t count,
                                   struct ld_error *err) LD_MUST_USE;
/* An object was given (or taken away): presence, and the default of its switch. */
void ld_request_set_object(struct ld_request *request, const struct ld_field *field, bool given);
bool ld_request_object_present(const struct ld_request *request, const struct ld_field *field);

/* Can `name` be a name at all: 1..128 bytes of UTF-8 without control bytes, '\\', empty or dotted
 * parts or a leading '/'. Whether it exists is the registry's business. */
bool ld_name_is_plausible(struct ld_span name);

/*
 * As the command line gives it: `name` is a path or a flag, `value` the text after it ("true" for a
 * flag that stood alone). `--lora NAME[:WEIGHT[:TEXT_WEIGHT]][@START-END]` (also --loras) adds one
 * adapter, `--hires-loras` one of the second pass ("none": that pass has none),
 * `--control MODEL[:WEIGHT][@START-END]` one ControlNet, and `--control-preprocess WORD` and its
 * like set what the last one has, `--sigmas 14.6,7,0`, `--size 832x1216`, `--webhook-events
 * image,done`. Setting a member turns its object on.
 * Errors   LD_E_NOT_FOUND (no such field; names the nearest), LD_E_INVALID also for a member of a
 *          list that has no item yet, and those of the setters.
 */
enum ld_code ld_request_set_text(struct ld_request *request, struct ld_arena *arena,
                                 const char *name, const char *value,
                                 struct ld_error *err) LD_MUST_USE;

/*
 * The steps of a pass fall into ranges in which the same adapters act: the shares of the steps at
 * which one begins, ascending, the first 0. `starts` (NULL: only count) holds LD_LORA_RANGES_MAX;
 * more are counted, not kept. An adapter acts where start <= share < end.
 */
uint32_t ld_lora_ranges(const struct ld_request_lora *loras, uint32_t count, double *starts);

/* ---- Whole requests -------------------------------------------------------------------------- */

/* Every field at its default; no memory is taken. */
void ld_request_default(struct ld_request *request);

/* Whether a field has a meaning where a picture is only enlarged (`upscale`): its own, the file's
 * and the delivery's. */
bool ld_field_goes_with_upscale(const struct ld_field *field);

/* Size of the second pass, multiples of 8: explicit, else the first times `scale` as the profile
 * rounds it (sampling.md 7). The first pass's without a second one; an enlarged picture's own. */
void ld_request_final_size(const struct ld_request *request, int64_t *width, int64_t *height);

/*
 * Canonical JSON: keys in the order of the table, everything that is set, doubles in their shortest
 * exact form, seeds above 2^63-1 as decimal strings. Decoding it gives the same request, so it is
 * what the store keeps and a worker is sent.
 */
void ld_request_write_json(const struct ld_request *request, struct ld_buffer *out);

/* Takes over what changes no picture (LD_FIELD_DELIVERY) from another request; texts are borrowed.
 */
void ld_request_take_delivery(struct ld_request *request, const struct ld_request *from);

/* The same without what does not change the picture (priority, previews, tag, user_data): equal
 * pictures carry equal text. For the metadata of a PNG. */
void ld_request_write_replay_json(const struct ld_request *request, struct ld_buffer *out);

/* Only what was set, for a server that fills in the rest from its own model's manifest. */
void ld_request_write_given_json(const struct ld_request *request, struct ld_buffer *out);

#ifdef __cplusplus
}
#endif
#endif
