#include "server/rights.h"

#include "config/limits.h"
#include "config/manifest.h"

#include <ctype.h>

/* Tags that name a rating, as booru sites and the models trained on them write it. */
static const struct {
    enum ld_rating rating;
    bool with_colon; /* else a colon ends the tag: a weight, a schedule, "rating:" before it */
    const char *tag;
} rating_tags[] = {
    {LD_RATING_EXPLICIT, false, "nsfw"},
    {LD_RATING_EXPLICIT, false, "explicit"},
    {LD_RATING_EXPLICIT, false, "rating explicit"},
    {LD_RATING_EXPLICIT, true, "rating:e"},
    {LD_RATING_QUESTIONABLE, false, "questionable"},
    {LD_RATING_QUESTIONABLE, false, "rating questionable"},
    {LD_RATING_QUESTIONABLE, true, "rating:q"},
    {LD_RATING_SENSITIVE, false, "sensitive"},
    {LD_RATING_SENSITIVE, false, "rating sensitive"},
    {LD_RATING_SENSITIVE, true, "rating:s"},
};
enum { TAG_COUNT = sizeof rating_tags / sizeof rating_tags[0] };

/* What goes into the negative prompt: one tag a rating. */
static const char *const negative_tags[LD_RATING_COUNT] = {"", "sensitive", "questionable",
                                                           "nsfw, explicit"};

/* ---- Tags in a prompt ------------------------------------------------------------------------ */

static bool ends_tag(const char *at, bool with_colon)
{
    if (*at == ':')
        return !with_colon;
    if (*at == ' ') /* words of the grammars */
        return strncmp(at, " AND ", 5) == 0 || strncmp(at, " BREAK ", 7) == 0;
    return strchr(",;()[]{}|<>\n\r\t\\\"", *at) != NULL; /* the terminating NUL too */
}

/* Past what stands before a tag. */
static const char *next_tag(const char *at)
{
    for (;;) {
        if (strncmp(at, " AND ", 5) == 0)
            at += 5;
        else if (strncmp(at, " BREAK ", 7) == 0)
            at += 7;
        else if (*at && strchr(" _:,;()[]{}|<>\n\r\t\\\"", *at))
            at++;
        else
            return at;
    }
}

static bool is_tag(const char *at, const char *end, const char *tag)
{
    for (; *tag && at < end; tag++, at++) {
        const char c = *at == '_' ? ' ' : (char)tolower((unsigned char)*at);
        if (c != *tag)
            return false;
    }
    return !*tag && at == end;
}

static bool names_rating(enum ld_rating rating, const char *prompt, bool with_colon,
                         const char **tag)
{
    for (const char *at = next_tag(prompt); *at; at = next_tag(at)) {
        const char *end = at;
        while (!ends_tag(end, with_colon))
            end++;
        const char *last = end;
        while (last > at && (last[-1] == ' ' || last[-1] == '_'))
            last--;
        for (size_t i = 0; i < TAG_COUNT; i++) {
            if (rating_tags[i].rating <= rating || rating_tags[i].with_colon != with_colon ||
                !is_tag(at, last, rating_tags[i].tag))
                continue;
            *tag = rating_tags[i].tag;
            return true;
        }
        at = end;
    }
    return false;
}

bool ld_rating_forbids(enum ld_rating rating, const char *prompt, const char **tag)
{
    return names_rating(rating, prompt, false, tag) || names_rating(rating, prompt, true, tag);
}

static void refuse_tag(enum ld_rating rating, const char *prompt, const char *pointer,
                       struct ld_problem *problem)
{
    const char *tag;
    if (prompt && ld_rating_forbids(rating, prompt, &tag))
        (void)ld_problem_add(problem, LD_E_INVALID, pointer,
                             "this key's rating is %s: \"%s\" is not allowed here",
                             ld_rating_name(rating), tag);
}

/* ---- Negative prompts ------------------------------------------------------------------------ */

/* Tags that are there already are added again all the same: they may stand in brackets that weaken
 * them. The result ends with them, so applying it twice is seen. */
static void forbid(enum ld_rating rating, const char **negative, const char *pointer,
                   struct ld_arena *arena, struct ld_problem *problem)
{
    char tags[128] = "";
    for (unsigned i = rating + 1U; i < LD_RATING_COUNT; i++) {
        const size_t used = strlen(tags);
        (void)ld_fmt(tags + used, sizeof tags - used, "%s%s", used ? ", " : "", negative_tags[i]);
    }
    const size_t before = strlen(*negative);
    const size_t added = strlen(tags);
    if (before >= added && strcmp(*negative + before - added, tags) == 0)
        return; /* a replay of what was made here */
    const size_t size = before + added + 3;
    if (size > LD_PROMPT_BYTES_MAX) {
        (void)ld_problem_add(problem, LD_E_RANGE, pointer,
                             "this key's rating needs %zu bytes of the %d that are allowed here",
                             added + 2, LD_PROMPT_BYTES_MAX);
        return;
    }
    char *text = ld_arena_alloc(arena, size);
    if (!text) {
        (void)ld_problem_add(problem, LD_E_NOMEM, "", "out of memory");
        return;
    }
    (void)ld_fmt(text, size, "%s%s%s", *negative, before ? ", " : "", tags);
    *negative = text;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void check_model(const struct ld_key_limits *limits, const struct ld_inventory *inventory,
                        const char *name, const char *pointer, struct ld_problem *problem)
{
    const struct ld_model_view *known = inventory ? ld_inventory_model(inventory, name) : NULL;
    if (!ld_manifest_pattern_fits(limits->models, known ? known->name : name))
        (void)ld_problem_add(problem, LD_E_FORBIDDEN, pointer,
                             "this key may not use the model %.128s", known ? known->name : name);
}

bool ld_rights_apply(const struct ld_caller *caller, const struct ld_inventory *inventory,
                     struct ld_request *request, struct ld_arena *arena, struct ld_problem *problem)
{
    const struct ld_key_limits *limits = &caller->limits;
    if (request->upscale.present) /* no model and no prompt has a part in it */
        return problem->code == LD_OK;
    if (limits->models[0])
        check_model(limits, inventory, request->model, "/model", problem);
    if (limits->models[0] && request->hires.present && request->hires.model[0])
        check_model(limits, inventory, request->hires.model, "/hires/model", problem);
    if (limits->rating >= LD_RATING_EXPLICIT)
        return problem->code == LD_OK;
    refuse_tag(limits->rating, request->prompt, "/prompt", problem);
    forbid(limits->rating, &request->negative_prompt, "/negative_prompt", arena, problem);
    if (request->hires.present) {
        refuse_tag(limits->rating, request->hires.prompt, "/hires/prompt", problem);
        if (request->hires.negative_prompt)
            forbid(limits->rating, &request->hires.negative_prompt, "/hires/negative_prompt", arena,
                   problem);
    }
    return problem->code == LD_OK;
}
