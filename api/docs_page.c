/*
 * The contract as a page for people: every call, its parameters, the fields of its body with their
 * bounds, and its answers, made from api/openapi.json. Plain HTML without a script, so that the
 * strictest content policy holds; nothing in it comes from a request.
 */
#include "api/json_scan.h"
#include "api/respond.h"

#define LD_DOCS_STYLE                                                                              \
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}"                 \
    "main{max-width:60em;margin:auto;padding:1em}h3{margin-top:2em;font-family:monospace}"         \
    "table{border-collapse:collapse;width:100%;font-size:14px}"                                    \
    "td,th{border:1px solid #ccc;padding:.25em .5em;text-align:left;vertical-align:top}"           \
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}"           \
    "td,th{border-color:#444}}"

enum {
    FIELD_DEPTH_MAX = 4,
    REFERENCES_MAX = 8,
    DOCUMENT_DEPTH = 32,
    DOCUMENT_VALUES = 65536,
    TREE_BYTES = 16 << 20
};

struct page {
    struct ld_arena arena;
    struct ld_json_tree tree;
    struct ld_buffer *out;
};

typedef const struct ld_json_node *node_t;

/* ---- Text ------------------------------------------------------------------------------------ */

static void escaped(struct page *page, struct ld_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char c = (char)text.data[i];
        if (c == '<')
            ld_buffer_text(page->out, "&lt;");
        else if (c == '>')
            ld_buffer_text(page->out, "&gt;");
        else if (c == '&')
            ld_buffer_text(page->out, "&amp;");
        else if (c == '"')
            ld_buffer_text(page->out, "&quot;");
        else
            ld_buffer_byte(page->out, c);
    }
}

static node_t member(const struct page *page, node_t object, const char *name)
{
    return object && object->kind == LD_JSON_OBJECT_BEGIN
               ? ld_json_member(&page->tree, object, name)
               : NULL;
}

static struct ld_span text_of(struct page *page, node_t object, const char *name)
{
    struct ld_span text = ld_span_text("");
    const struct ld_json_node *node = member(page, object, name);
    if (!node || node->kind != LD_JSON_STRING || !ld_json_string_text(node, &page->arena, &text))
        return ld_span_text("");
    return text;
}

/* A literal as it stands; a string without its quotes. */
static void value_text(struct page *page, node_t value)
{
    struct ld_span text = value->text;
    if (value->kind == LD_JSON_STRING && !ld_json_string_text(value, &page->arena, &text))
        return;
    escaped(page, text);
}

/* ---- References ------------------------------------------------------------------------------ */

/* Follows "$ref": "#/components/KIND/NAME"; a node without one is itself. `name` (may be NULL) is
 * the last name on the way. */
static node_t follow(struct page *page, node_t node, struct ld_span *name)
{
    for (int turn = 0; node && turn < REFERENCES_MAX; turn++) {
        static const char start[] = "#/components/";
        const struct ld_span reference = text_of(page, node, "$ref");
        char path[160];
        if (reference.size == 0)
            return node;
        if (reference.size < sizeof start || memcmp(reference.data, start, sizeof start - 1) != 0 ||
            !ld_fmt(path, sizeof path, "%.*s", (int)(reference.size - sizeof start + 1),
                    (const char *)reference.data + sizeof start - 1))
            return NULL;
        char *slash = strchr(path, '/');
        if (!slash)
            return NULL;
        *slash = '\0';
        node = member(page, ld_json_root(&page->tree), "components");
        node = member(page, member(page, node, path), slash + 1);
        if (name)
            *name = ld_span_of(reference.data + sizeof start + (size_t)(slash - path),
                               strlen(slash + 1));
    }
    return node;
}

static void link_to(struct page *page, struct ld_span name)
{
    ld_buffer_text(page->out, "<a href=\"#schema-");
    escaped(page, name);
    ld_buffer_text(page->out, "\">");
    escaped(page, name);
    ld_buffer_text(page->out, "</a>");
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static void listed(struct page *page, node_t array, const char *first, const char *between)
{
    if (!array || array->kind != LD_JSON_ARRAY_BEGIN)
        return;
    for (node_t item = ld_json_first(&page->tree, array); item;
         item = ld_json_after(&page->tree, item)) {
        ld_buffer_text(page->out, first);
        value_text(page, item);
        first = between;
    }
}

/* "integer, at least 1, at most 150, default 28" */
static void bounds(struct page *page, node_t schema)
{
    static const struct {
        const char *name, *words;
    } limits[] = {{"minimum", "at least "},       {"maximum", "at most "},
                  {"exclusiveMinimum", "above "}, {"exclusiveMaximum", "below "},
                  {"minLength", "min. length "},  {"maxLength", "max. length "},
                  {"minItems", "min. items "},    {"maxItems", "max. items "},
                  {"multipleOf", "multiple of "}, {"default", "default "}};
    const struct ld_json_node *type = member(page, schema, "type");
    if (type && type->kind == LD_JSON_STRING)
        value_text(page, type);
    listed(page, type, "", " or ");
    listed(page, member(page, schema, "enum"), ": ", " | ");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const struct ld_json_node *limit = member(page, schema, limits[i].name);
        if (!limit || limit->kind == LD_JSON_OBJECT_BEGIN || limit->kind == LD_JSON_ARRAY_BEGIN)
            continue;
        ld_buffer_format(page->out, ", %s", limits[i].words);
        value_text(page, limit);
    }
}

static void table_head(struct page *page, const char *what)
{
    ld_buffer_format(page->out,
                     "<table><tr><th>%s</th><th>type and bounds</th><th>meaning</th></tr>\n", what);
}

static void row(struct page *page, const char *path, node_t schema, struct ld_span doc)
{
    ld_buffer_text(page->out, "<tr><td><code>");
    escaped(page, ld_span_text(path));
    ld_buffer_text(page->out, "</code></td><td>");
    bounds(page, schema);
    ld_buffer_text(page->out, "</td><td>");
    escaped(page, doc);
    ld_buffer_text(page->out, "</td></tr>\n");
}

/* The properties of an object, and of the objects in them, on a stack of FIELD_DEPTH_MAX. */
static void fields(struct page *page, node_t schema)
{
    struct level {
        node_t at;
        char path[128];
    } stack[FIELD_DEPTH_MAX];
    const struct ld_json_node *properties = member(page, schema, "properties");
    int depth = 0;
    if (!properties)
        return;
    memset(stack, 0, sizeof stack);
    stack[0].at = ld_json_first(&page->tree, properties);
    table_head(page, "field");
    while (depth >= 0) {
        struct level *level = &stack[depth];
        const struct ld_json_node *raw = level->at;
        char path[128];
        if (!raw) {
            depth--;
            continue;
        }
        level->at = ld_json_after(&page->tree, raw);
        const struct ld_json_node *child = follow(page, raw, NULL);
        const struct ld_json_node *items = follow(page, member(page, child, "items"), NULL);
        if (!child || !ld_fmt(path, sizeof path, "%s%.*s%s", level->path, (int)raw->key.size,
                              (const char *)raw->key.data, items ? "[]" : ""))
            continue;
        row(page, path, child, text_of(page, child, "description"));
        const struct ld_json_node *inner = member(page, items ? items : child, "properties");
        if (!inner || depth + 1 == FIELD_DEPTH_MAX ||
            !ld_fmt(stack[depth + 1].path, sizeof stack[0].path, "%s.", path))
            continue;
        stack[++depth].at = ld_json_first(&page->tree, inner);
    }
    ld_buffer_text(page->out, "</table>\n");
}

/* ---- One call -------------------------------------------------------------------------------- */

static void parameter_rows(struct page *page, node_t list)
{
    for (node_t item = list ? ld_json_first(&page->tree, list) : NULL; item;
         item = ld_json_after(&page->tree, item)) {
        const struct ld_json_node *parameter = follow(page, item, NULL);
        const struct ld_span name = text_of(page, parameter, "name");
        const struct ld_span place = text_of(page, parameter, "in");
        char both[96];
        if (ld_fmt(both, sizeof both, "%.*s (%.*s)", (int)name.size, (const char *)name.data,
                   (int)place.size, (const char *)place.data))
            row(page, both, follow(page, member(page, parameter, "schema"), NULL),
                text_of(page, parameter, "description"));
    }
}

/* Those of all calls of the path, then the call's own. */
static void parameters(struct page *page, node_t shared, node_t own)
{
    if ((!shared || shared->child_count == 0) && (!own || own->child_count == 0))
        return;
    table_head(page, "parameter");
    parameter_rows(page, shared);
    parameter_rows(page, own);
    ld_buffer_text(page->out, "</table>\n");
}

/* Media types with the documents they carry; those without a name are told in full. */
static void content(struct page *page, node_t holder, const char *before, bool in_full)
{
    const struct ld_json_node *types = member(page, holder, "content");
    if (!types)
        return;
    for (node_t media = ld_json_first(&page->tree, types); media;
         media = ld_json_after(&page->tree, media)) {
        struct ld_span name = ld_span_text("");
        const struct ld_json_node *schema = follow(page, member(page, media, "schema"), &name);
        ld_buffer_format(page->out, "%s<code>", before);
        escaped(page, media->key);
        ld_buffer_text(page->out, "</code> ");
        if (name.size > 0)
            link_to(page, name);
        ld_buffer_byte(page->out, '\n');
        if (name.size == 0 && in_full)
            fields(page, schema);
    }
}

static void operation(struct page *page, node_t path, node_t node)
{
    struct ld_buffer *out = page->out;
    ld_buffer_text(out, "<h3 id=\"");
    escaped(page, text_of(page, node, "operationId"));
    ld_buffer_text(out, "\">");
    for (size_t i = 0; i < node->key.size; i++) {
        const char c = (char)node->key.data[i];
        ld_buffer_byte(out, (char)(c >= 'a' && c <= 'z' ? c - 32 : c));
    }
    ld_buffer_byte(out, ' ');
    escaped(page, path->key);
    ld_buffer_text(out, "</h3>\n<p>");
    escaped(page, text_of(page, node, "summary"));
    ld_buffer_text(out, "</p>\n<p>");
    escaped(page, text_of(page, node, "description"));
    ld_buffer_text(out, "</p>\n");
    parameters(page, member(page, path, "parameters"), member(page, node, "parameters"));
    content(page, follow(page, member(page, node, "requestBody"), NULL), "<p>Body: ", true);
    ld_buffer_text(out, "<ul>\n");
    const struct ld_json_node *answers = member(page, node, "responses");
    for (node_t item = ld_json_first(&page->tree, answers); item;
         item = ld_json_after(&page->tree, item)) {
        const struct ld_json_node *answer = follow(page, item, NULL);
        ld_buffer_text(out, "<li><b>");
        escaped(page, item->key);
        ld_buffer_text(out, "</b> ");
        escaped(page, text_of(page, answer, "description"));
        content(page, answer, " · ", false);
        ld_buffer_text(out, "</li>\n");
    }
    ld_buffer_text(out, "</ul>\n");
}

/* ---- The page -------------------------------------------------------------------------------- */

static void head(struct page *page)
{
    const struct ld_json_node *info = member(page, ld_json_root(&page->tree), "info");
    ld_buffer_text(page->out,
                   "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                   "<meta name=\"viewport\" content=\"width=device-width\"><title>latentd: the "
                   "interface</title>\n<style>" LD_DOCS_STYLE "</style></head><body><main>\n<h1>");
    escaped(page, text_of(page, info, "title"));
    ld_buffer_byte(page->out, ' ');
    escaped(page, text_of(page, info, "version"));
    ld_buffer_text(page->out, "</h1>\n<p>");
    escaped(page, text_of(page, info, "description"));
    ld_buffer_text(page->out,
                   " The same as data: <a href=\"/openapi.json\">openapi.json</a>.</p>\n");
}

static void write_page(struct page *page)
{
    const struct ld_json_node *root = ld_json_root(&page->tree);
    const struct ld_json_node *paths = member(page, root, "paths");
    const struct ld_json_node *schemas = member(page, member(page, root, "components"), "schemas");
    head(page);
    for (node_t path = ld_json_first(&page->tree, paths); path;
         path = ld_json_after(&page->tree, path)) {
        for (node_t node = ld_json_first(&page->tree, path); node;
             node = ld_json_after(&page->tree, node)) {
            if (member(page, node, "responses"))
                operation(page, path, node);
        }
    }
    ld_buffer_text(page->out, "<h2>Documents</h2>\n");
    for (node_t schema = ld_json_first(&page->tree, schemas); schema;
         schema = ld_json_after(&page->tree, schema)) {
        ld_buffer_text(page->out, "<h3 id=\"schema-");
        escaped(page, schema->key);
        ld_buffer_text(page->out, "\">");
        escaped(page, schema->key);
        ld_buffer_text(page->out, "</h3>\n<p>");
        escaped(page, text_of(page, schema, "description"));
        ld_buffer_text(page->out, "</p>\n");
        fields(page, schema);
    }
    ld_buffer_text(page->out, "</main></body></html>\n");
}

enum ld_code ld_docs_page_write(struct ld_buffer *out, struct ld_error *err)
{
    struct page page = {.out = out};
    ld_arena_init(&page.arena, "docs", TREE_BYTES);
    const enum ld_code code = ld_json_scan(&page.tree, ld_openapi_document(), DOCUMENT_DEPTH,
                                           DOCUMENT_VALUES, &page.arena, err);
    if (code == LD_OK)
        write_page(&page);
    ld_arena_deinit(&page.arena);
    return code == LD_OK && out->failed ? LD_FAIL(err, LD_E_NOMEM, "out of memory") : code;
}

const char *ld_docs_style(void)
{
    return LD_DOCS_STYLE;
}
