#include "server/handlers.h"

#include "server/front.h"

enum { LIMIT_DEFAULT = 20, TEXT_SIZE = 2 * LD_TAG_NAME_BYTES_MAX + 3 };

/* Query of GET /v1/tags. */
struct question {
    const char *prefix;
    uint32_t limit;
    bool escaped; /* brackets are written with a backslash */
    const struct ld_manifest *manifest;
};

/* False after a refusal was written. */
static bool read_question(struct ld_exchange *ex, struct question *question,
                          enum ld_handled *refused)
{
    const char *q = ld_exchange_query(ex, "q");
    const char *prefix = ld_exchange_query(ex, "prefix");
    const char *limit = ld_exchange_query(ex, "limit");
    const char *syntax = ld_exchange_query(ex, "syntax");
    const char *model = ld_exchange_query(ex, "model");
    uint64_t number = LIMIT_DEFAULT;
    question->prefix = q ? q : prefix ? prefix : "";
    question->escaped = !syntax || strcmp(syntax, "a1111") == 0 || strcmp(syntax, "comfy") == 0;
    question->manifest =
        ld_manifests_for(&ld_guides_now(ex->front->guides)->manifests, model ? model : "");
    if (!question->prefix[0] || strlen(question->prefix) > LD_TAG_NAME_BYTES_MAX)
        *refused = ld_exchange_refuse(ex, LD_E_RANGE, 0, "q must have 1 to 255 bytes");
    else if (limit && (!ld_parse_u64(ld_span_text(limit), &number) || number < 1 ||
                       number > LD_TAG_MATCHES_MAX))
        *refused = ld_exchange_refuse(ex, LD_E_RANGE, 0, "limit must be between 1 and 100");
    else if (syntax && !question->escaped && strcmp(syntax, "novelai") != 0 &&
             strcmp(syntax, "plain") != 0)
        *refused =
            ld_exchange_refuse(ex, LD_E_RANGE, 0, "syntax must be a1111, novelai, comfy or plain");
    else
        return ld_narrow_u32((int64_t)number, &question->limit);
    return false;
}

static void write_match(const struct question *question, const struct ld_tag_match *match,
                        bool first, struct ld_buffer *out)
{
    char text[TEXT_SIZE];
    char plain[TEXT_SIZE];
    const struct ld_tag *tag = match->tag;
    ld_buffer_text(out, first ? "{\"name\":" : ",{\"name\":");
    ld_buffer_json_string(out, tag->name);
    ld_buffer_text(out, ",\"text\":");
    ld_buffer_json_string(
        out, ld_tag_text(tag->name, question->escaped, text, sizeof text) ? text : tag->name);
    ld_buffer_format(out, ",\"category\":\"%s\",\"count\":", ld_tag_category(tag->category));
    if (tag->count)
        ld_buffer_format(out, "%u", tag->count);
    else
        ld_buffer_text(out, "null");
    if (match->alias) {
        ld_buffer_text(out, ",\"alias\":");
        ld_buffer_json_string(out, match->alias);
    }
    const char *renamed = question->manifest && ld_tag_text(tag->name, false, plain, sizeof plain)
                              ? ld_manifest_renamed(question->manifest, plain)
                              : NULL;
    if (renamed) {
        ld_buffer_text(out, ",\"renamed\":");
        ld_buffer_json_string(out, renamed);
    }
    ld_buffer_byte(out, '}');
}

enum ld_handled ld_handle_tags(struct ld_exchange *ex)
{
    struct ld_tag_match matches[LD_TAG_MATCHES_MAX];
    struct question question;
    enum ld_handled refused = 0;
    if (!read_question(ex, &question, &refused))
        return refused;
    const uint32_t count = ld_tags_complete(ld_guides_now(ex->front->guides)->tags, question.prefix,
                                            matches, question.limit);
    ld_buffer_text(&ex->reply.body, "{\"tags\":[");
    for (uint32_t i = 0; i < count; i++)
        write_match(&question, &matches[i], i == 0, &ex->reply.body);
    ld_buffer_text(&ex->reply.body, "]}");
    return ld_exchange_json(ex, 200);
}
