/*
 * JSON text to a tree of borrowed spans. A first pass with the allocation-free tokenizer refuses
 * what is malformed, too deep, too many or out of the range of numbers; only then is memory taken,
 * once, for exactly as many nodes as were counted. Texts stay where they are in the body, so a
 * base64 image of 30 MB is never copied; duplicate keys are refused.
 *
 *     ld_json_scan(&tree, body, LD_JSON_DEPTH, LD_JSON_VALUES, arena, &err);
 *     const struct ld_json_node *prompt = ld_json_member(&tree, ld_json_root(&tree), "prompt");
 */
#ifndef LD_API_JSON_SCAN_H
#define LD_API_JSON_SCAN_H

#include "runtime/base/arena.h"
#include "runtime/base/json.h"

/* `kind` is OBJECT_BEGIN, ARRAY_BEGIN or a scalar's. Links are indices into the tree, 0 = none (the
 * root is nobody's child or sibling). */
struct ld_json_node {
    enum ld_json_kind kind;
    bool escaped; /* `text` has backslashes */
    bool key_escaped;
    struct ld_span key; /* escapes resolved; empty in arrays */
    /* Raw: the literal, what is between the quotes of a string, a container with its brackets. */
    struct ld_span text;
    uint32_t child, next;
    uint32_t child_count;
    uint32_t parent;
};

/* Borrows the scanned bytes. */
struct ld_json_tree {
    struct ld_span input;
    const struct ld_json_node *nodes;
    uint32_t count;
};

/*
 * Errors   LD_E_FORMAT (400) with line and column for malformed text, invalid UTF-8, lone
 *          surrogates, depth, count, duplicate keys, integers beyond 64 bits and reals beyond a
 *          double; err->pointer names the place. LD_E_NOMEM.
 */
enum ld_code ld_json_scan(struct ld_json_tree *tree, struct ld_span input, uint32_t depth_max,
                          uint32_t values_max, struct ld_arena *arena,
                          struct ld_error *err) LD_MUST_USE;

/* The same, and integers up to 2^64-1 are well-formed (their node is an INTEGER that
 * ld_json_integer does not read): clients of other programs send such seeds. */
enum ld_code ld_json_scan_wide(struct ld_json_tree *tree, struct ld_span input, uint32_t depth_max,
                               uint32_t values_max, struct ld_arena *arena,
                               struct ld_error *err) LD_MUST_USE;

const struct ld_json_node *ld_json_root(const struct ld_json_tree *tree);
/* NULL when there is none. */
const struct ld_json_node *ld_json_first(const struct ld_json_tree *tree,
                                         const struct ld_json_node *container);
const struct ld_json_node *ld_json_after(const struct ld_json_tree *tree,
                                         const struct ld_json_node *node);
const struct ld_json_node *ld_json_member(const struct ld_json_tree *tree,
                                          const struct ld_json_node *object, const char *key);

/* A string with its escapes resolved; it lies in the body where it has none. False without memory.
 * The text may hold U+0000. */
bool ld_json_string_text(const struct ld_json_node *node, struct ld_arena *arena,
                         struct ld_span *text) LD_MUST_USE;
bool ld_json_string_is(const struct ld_json_node *node, const char *text);

/* False when the node is not such a number. A real is never an integer, not even 20.0, and a
 * literal -0 is neither: nothing in a request has a use for it. */
bool ld_json_integer(const struct ld_json_node *node, int64_t *out);
bool ld_json_number(const struct ld_json_node *node, double *out);
bool ld_json_is_negative_zero(const struct ld_json_node *node);

/* "/loras/0/name" of a node, cut with "..." when it does not fit. */
void ld_json_pointer(const struct ld_json_tree *tree, const struct ld_json_node *node, char *out,
                     size_t out_size);

/* "object", "string", "integer", "number", ... for messages. */
const char *ld_json_kind_name(enum ld_json_kind kind);

#endif
