/*
 * What stands around the grammar of weights in a prompt: `AND` between composed prompts and
 * `<lora:...>` mentions (model.md 4.2, 4.5).
 */
#ifndef LD_TEXT_PARTS_H
#define LD_TEXT_PARTS_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LD_AND_PARTS_MAX = 16, /* each part is a row of every UNet pass */
    LD_NETWORKS_MAX = 64,
    LD_NETWORK_ARGS_MAX = 16
};

/* ---- AND ------------------------------------------------------------------------------------- */

struct ld_and_part {
    struct ld_span text; /* within the text that was split */
    double weight;       /* 1 if none is written */
    bool weighted;       /* a trailing `: number` was taken as the weight */
};

struct ld_and_parts {
    struct ld_and_part items[LD_AND_PARTS_MAX];
    uint32_t count;
};

/*
 * Split at each word AND. A trailing `: number` of a part is its weight, also after an emphasis
 * colon; white space at the end of a part is dropped, at its start it stays.
 * Errors   LD_E_TOO_LARGE (parts), LD_E_RANGE (a weight that is not finite).
 */
enum ld_code ld_and_split(struct ld_span text, struct ld_and_parts *out,
                          struct ld_error *err) LD_MUST_USE;

/* ---- Extra networks -------------------------------------------------------------------------- */

/* `<type:a:b:key=value>`: positional "a", "b", named key = value. */
struct ld_network {
    struct ld_span mention; /* from `<` to `>`, within the text that was read */
    const char *type;
    const char *positional[LD_NETWORK_ARGS_MAX];
    uint32_t positional_count;
    const char *names[LD_NETWORK_ARGS_MAX], *values[LD_NETWORK_ARGS_MAX];
    uint32_t named_count;
};

struct ld_networks {
    struct ld_network *items; /* in the order of the text */
    uint32_t count;
};

/*
 * Take all mentions out of `text`; `rest` is what is left, with nothing in their places.
 * Owner    everything in `arena`.
 * Errors   LD_E_TOO_LARGE (mentions, arguments), LD_E_NOMEM.
 */
enum ld_code ld_networks_extract(struct ld_arena *arena, struct ld_span text, struct ld_span *rest,
                                 struct ld_networks *out, struct ld_error *err) LD_MUST_USE;

/* A network read as an adapter mention. */
struct ld_lora_mention {
    const char *name;
    double text_weight, unet_weight;
    uint32_t rank; /* of dynamic rank reduction, 0 if none */
};

/* True for the types lora, lyco and locon. */
bool ld_network_is_lora(const struct ld_network *network);

/*
 * First argument the name, then text encoder weight (1), unet weight (the former), rank; or te=,
 * unet=, dyn=. The name may hold `/` but no `..` part, `\`, control character or leading `/`.
 * Errors   LD_E_INVALID with the mention's name, or without one for a bad name.
 */
enum ld_code ld_network_lora(const struct ld_network *network, struct ld_lora_mention *out,
                             struct ld_error *err) LD_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
