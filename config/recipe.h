/*
 * How an adapter that changes the number of steps wants to be used: a small INI file beside it,
 * NAME.recipe.conf, or one that comes with the program for adapters of a well-known name.
 *
 *     [recipe]
 *     title = ...          steps = 8          weight = 1
 *     [8 steps]            ; one section a use; its name is what `hyper.recipe` says
 *     steps = 8            sampler = euler    scheduler = sgm_uniform
 *     cfg_scale = 6        cfg_min = 5        cfg_max = 8
 */
#ifndef LD_CONFIG_RECIPE_H
#define LD_CONFIG_RECIPE_H

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

enum { LD_RECIPE_USES_MAX = 8, LD_RECIPE_BYTES_MAX = 8 * 1024 };

#define LD_RECIPE_ENDING ".recipe.conf"

struct ld_recipe_use {
    const char *name;
    int32_t steps;
    const char *sampler, *scheduler; /* "" where the recipe leaves them open */
    double cfg_scale;                /* NAN likewise */
    double cfg_min, cfg_max;
};

/* Texts live in the arena. */
struct ld_recipe {
    const char *title;
    const char *adapters; /* comma-separated patterns over adapter names; of shipped recipes */
    int32_t steps;        /* that the adapter was made for */
    double weight;
    struct ld_recipe_use uses[LD_RECIPE_USES_MAX];
    uint32_t use_count;
};

/* Errors   LD_E_FORMAT, LD_E_RANGE, LD_E_NOT_FOUND (unknown key), each with its line;
 * LD_E_TOO_LARGE, LD_E_NOMEM. */
enum ld_code ld_recipe_parse(struct ld_recipe *recipe, struct ld_span text, struct ld_arena *arena,
                             struct ld_error *err) LD_MUST_USE;

/*
 * The recipe of an adapter: from `text`, the file beside it, or with "" a shipped one that fits its
 * name. Errors   LD_E_NOT_FOUND (it has none), those of ld_recipe_parse.
 */
enum ld_code ld_recipe_of(struct ld_recipe *recipe, const char *adapter, const char *text,
                          struct ld_arena *arena, struct ld_error *err) LD_MUST_USE;

#endif
