#include "api/dialect_a1111_scripts.h"

#include "api/dialect_a1111_control.h"
#include "config/limits.h"

#include <strings.h>

/* Arguments stand in a list without names. */
typedef void put_script(struct ld_translation *t, const struct ld_json_tree *tree,
                        const struct ld_json_node *args);

static const struct ld_json_node *argument(const struct ld_json_tree *tree,
                                           const struct ld_json_node *args, uint32_t index)
{
    const struct ld_json_node *node = ld_json_first(tree, args);
    while (node && index-- > 0)
        node = ld_json_after(tree, node);
    return node && node->kind != LD_JSON_NULL ? node : NULL;
}

static const char *text_argument(const struct ld_translation *t, const struct ld_json_tree *tree,
                                 const struct ld_json_node *args, uint32_t index)
{
    const struct ld_json_node *node = argument(tree, args, index);
    const char *text = node ? ld_lenient_text(node, t->native->arena) : NULL;
    return text ? text : "";
}

/* ---- Deep shrink ----------------------------------------------------------------------------- */

/* enabled, block, factor, start, end, after_skip, downscale, upscale */
static void put_deep_shrink(struct ld_translation *t, const struct ld_json_tree *tree,
                            const struct ld_json_node *args)
{
    static const struct ld_dialect_row rows[] = {
        {"", LD_DIALECT_READ, NULL},
        {"block", LD_DIALECT_WHOLE, "deep_shrink.block"},
        {"factor", LD_DIALECT_NUMBER, "deep_shrink.factor"},
        {"start", LD_DIALECT_NUMBER, "deep_shrink.start"},
        {"end", LD_DIALECT_NUMBER, "deep_shrink.end"},
        {"after_skip", LD_DIALECT_FLAG, "deep_shrink.after_skip"},
        {"downscale", LD_DIALECT_TEXT, "deep_shrink.downscale"},
        {"upscale", LD_DIALECT_TEXT, "deep_shrink.upscale"},
    };
    ld_recipe_put_integer(&t->fields, "deep_shrink.block", 3);
    for (uint32_t i = 1; i < sizeof rows / sizeof rows[0]; i++) {
        const struct ld_json_node *node = argument(tree, args, i);
        if (node)
            ld_translate_value(t, node, &rows[i]);
    }
}

/* ---- TIPO ------------------------------------------------------------------------------------ */

enum tipo_argument {
    TIPO_ENABLED,
    TIPO_TIMING, /* wildcards are always expanded first here */
    TIPO_SEED,
    TIPO_LENGTH,
    TIPO_TEXT_LENGTH,
    TIPO_BANNED,
    TIPO_FORMAT,
    TIPO_FORMAT_TEXT, /* of the format "custom" */
    TIPO_TEMPERATURE,
    TIPO_TOP_P,
    TIPO_TOP_K,
    TIPO_MODEL, /* here the server's */
    TIPO_ON_CPU,
    TIPO_UNFORMATTED,
    TIPO_TEXT
};

/* "very short" is very_short. */
static void put_length(struct ld_translation *t, const char *length, const char *text_length)
{
    char word[16];
    if (*length && ld_fmt(word, sizeof word, "%s", length)) {
        for (char *c = word; *c; c++)
            *c = *c == ' ' ? '_' : *c;
        ld_recipe_put_string(&t->fields, "tipo.length", word);
    } else if (*length) {
        ld_translation_refuse(t, "/alwayson_scripts", "TIPO: there is no length '%.40s'", length);
    }
    if (*text_length && strcmp(text_length, length) != 0)
        ld_translation_warn(t, "TIPO: one length holds for tags and sentences here, that of tags");
}

/* The formats of its list begin with what they hold; one's own says it by its places. */
static const char *kind_of_format(const char *name, const char *own)
{
    if (strcasecmp(name, "custom") != 0)
        return strncasecmp(name, "tag only", 8) == 0  ? "tags"
               : strncasecmp(name, "NL only", 7) == 0 ? "text"
                                                      : "both";
    const bool text = strstr(own, "<|extended|>") || strstr(own, "<|generated|>");
    const bool tags = strstr(own, "<|general|>") || strstr(own, "<|special|>");
    return text && tags ? "both" : text ? "text" : "tags";
}

/*
 * There a banned word is a regular expression from the start of a tag, or any part of one. A plain
 * word becomes "*word*", and of expressions `.*` alone is taken over: "official.*" becomes
 * "official*". False for any other expression.
 */
static bool put_banned_word(struct ld_span word, struct ld_buffer *out)
{
    const bool pattern = memmem(word.data, word.size, ".*", 2) != NULL;
    ld_buffer_text(out, out->size > 0 ? "," : "");
    ld_buffer_text(out, pattern ? "" : "*");
    for (size_t i = 0; i < word.size; i++) {
        if (strchr("()[]{}+?^$|\\", word.data[i]))
            return false;
        if (word.data[i] == '.' && i + 1 < word.size && word.data[i + 1] == '*')
            continue;
        ld_buffer_byte(out, (char)word.data[i]);
    }
    if (out->size > 0 && out->data[out->size - 1] != '*')
        ld_buffer_byte(out, '*'); /* an expression need not reach the tag's end */
    return true;
}

static void put_banned(struct ld_translation *t, const char *words)
{
    struct ld_buffer out = ld_buffer_make(8 * LD_TIPO_TEXT_BYTES_MAX);
    for (const char *at = words; *at;) {
        const size_t size = strcspn(at, ",\n");
        const struct ld_span word = ld_span_trimmed(ld_span_of(at, size));
        const size_t before = out.size;
        if (word.size > 0 && !put_banned_word(word, &out)) {
            out.size = before;
            ld_translation_warn(t,
                                "TIPO: of expressions in banned tags only .* is understood: %.*s",
                                word.size > 64 ? 64 : (int)word.size, (const char *)word.data);
        }
        at += size + (at[size] != '\0');
    }
    if (out.size > 0)
        ld_recipe_put_text(&t->fields, "tipo.avoid", ld_span_of(out.data, out.size));
    ld_buffer_deinit(&out);
}

static void put_tipo(struct ld_translation *t, const struct ld_json_tree *tree,
                     const struct ld_json_node *args)
{
    static const struct {
        enum tipo_argument argument;
        struct ld_dialect_row row;
    } numbers[] = {{TIPO_SEED, {"seed", LD_DIALECT_SEED, "tipo.seed"}},
                   {TIPO_TEMPERATURE, {"temperature", LD_DIALECT_NUMBER, "tipo.temperature"}},
                   {TIPO_TOP_P, {"top_p", LD_DIALECT_NUMBER, "tipo.top_p"}},
                   {TIPO_TOP_K, {"top_k", LD_DIALECT_WHOLE, "tipo.top_k"}},
                   {TIPO_TEXT, {"text", LD_DIALECT_TEXT, "tipo.text"}}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct ld_json_node *node = argument(tree, args, numbers[i].argument);
        if (node)
            ld_translate_value(t, node, &numbers[i].row);
    }
    put_length(t, text_argument(t, tree, args, TIPO_LENGTH),
               text_argument(t, tree, args, TIPO_TEXT_LENGTH));
    put_banned(t, text_argument(t, tree, args, TIPO_BANNED));
    ld_recipe_put_string(&t->fields, "tipo.write",
                         kind_of_format(text_argument(t, tree, args, TIPO_FORMAT),
                                        text_argument(t, tree, args, TIPO_FORMAT_TEXT)));
}

/* ---- All of them ----------------------------------------------------------------------------- */

static bool is_off(const struct ld_json_tree *tree, const struct ld_json_node *args)
{
    const struct ld_json_node *first =
        args && args->kind == LD_JSON_ARRAY_BEGIN ? ld_json_first(tree, args) : args;
    if (!first)
        return true;
    if (first->kind == LD_JSON_OBJECT_BEGIN) { /* units, each with a switch */
        for (const struct ld_json_node *unit = first; unit; unit = ld_json_after(tree, unit)) {
            const struct ld_json_node *on = ld_lenient_member(tree, unit, "enabled");
            if (!on || on->kind != LD_JSON_FALSE)
                return unit->kind == LD_JSON_OBJECT_BEGIN && unit->child_count == 0;
        }
        return true;
    }
    return ld_lenient_is_empty(first);
}

static put_script *script_called(struct ld_span name)
{
    /* A1111 itself looks for titles in lower case. */
    static const struct {
        const char *title;
        put_script *put;
    } scripts[] = {{"Kohya HRFix Integrated", put_deep_shrink}, {"TIPO", put_tipo}};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        const size_t size = strlen(scripts[i].title);
        if (name.size == size && strncasecmp((const char *)name.data, scripts[i].title, size) == 0)
            return scripts[i].put;
    }
    return NULL;
}

void ld_a1111_translate_scripts(struct ld_translation *t, const struct ld_json_tree *tree,
                                const struct ld_json_node *scripts)
{
    if (scripts && scripts->kind != LD_JSON_OBJECT_BEGIN) {
        if (!ld_lenient_is_empty(scripts))
            ld_translation_refuse(t, "/alwayson_scripts", "alwayson_scripts must be an object");
        return;
    }
    for (const struct ld_json_node *node = scripts ? ld_json_first(tree, scripts) : NULL; node;
         node = ld_json_after(tree, node)) {
        const struct ld_json_node *args = ld_lenient_member(tree, node, "args");
        if (ld_a1111_is_control(node->key)) /* translated by itself */
            continue;
        if (is_off(tree, args))
            continue;
        put_script *const put = script_called(node->key);
        if (put && args->kind == LD_JSON_ARRAY_BEGIN)
            put(t, tree, args);
        else
            ld_translation_refuse(
                t, "/alwayson_scripts", "alwayson_scripts: latentd has no script called %.*s",
                node->key.size > 64 ? 64 : (int)node->key.size, (const char *)node->key.data);
    }
}
