#include "runtime/text/grammar.h"

static enum ld_code parse_plain(struct ld_arena *arena, struct ld_span text,
                                struct ld_segments *out, struct ld_error *err)
{
    struct ld_segment_builder builder;
    ld_segment_builder_init(&builder, text.size);
    ld_segment_add(&builder, text, 1.0);
    const enum ld_code code = ld_segments_finish(&builder, false, arena, out, err);
    ld_segment_builder_deinit(&builder);
    return code;
}

enum ld_code ld_grammar_parse(struct ld_arena *arena, enum ld_syntax syntax, struct ld_span text,
                              struct ld_segments *out, struct ld_error *err)
{
    switch (syntax) {
    case LD_SYNTAX_A1111:
        return ld_grammar_a1111(arena, text, out, err);
    case LD_SYNTAX_COMFY:
        return ld_grammar_comfy(arena, text, out, err);
    case LD_SYNTAX_NOVELAI:
        return ld_grammar_novelai(arena, text, out, err);
    case LD_SYNTAX_PLAIN:
        break;
    }
    return parse_plain(arena, text, out, err);
}
