#include "runtime/gpu/plan_mem.h"

#include "runtime/base/arena.h"
#include "runtime/base/bytes.h"

#include <stdlib.h>

/* Values that share one place; in the order of their steps. */
struct group {
    size_t bytes;
    size_t offset;
    int32_t first, last;
    int32_t root, tail; /* first and latest member */
};

/* ---- Groups ---------------------------------------------------------------------------------- */

static enum ld_code round_up(size_t bytes, size_t *out, struct ld_error *err)
{
    size_t sum;
    if (!ld_add_ok(bytes, LD_PLAN_ALIGN - 1, &sum))
        return LD_FAIL(err, LD_E_TOO_LARGE, "an activation does not fit into memory");
    *out = sum & ~(size_t)(LD_PLAN_ALIGN - 1);
    return LD_OK;
}

/*
 * Fill `group_of` (index of each value's group) and `groups`; returns their number. A value joins
 * the group of its in-place source only when it is the source's last reader: a source read later
 * would be found overwritten.
 */
static enum ld_code form_groups(struct ld_plan_value *values, uint32_t count, struct group *groups,
                                uint32_t *group_of, uint32_t *group_count, struct ld_error *err)
{
    *group_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct ld_plan_value *value = &values[i];
        if (value->first > value->last || value->in_place >= (int32_t)i)
            return LD_FAIL(err, LD_E_BUG, "a value of the activation plan has no valid lifetime");
        size_t bytes = 0;
        if (round_up(value->bytes, &bytes, err) != LD_OK)
            return err ? err->code : LD_E_TOO_LARGE;
        value->shares = false;
        if (value->in_place >= 0) {
            const struct ld_plan_value *source = &values[value->in_place];
            struct group *group = &groups[group_of[value->in_place]];
            /* A source born in this very step would be written twice. */
            if (group->tail == value->in_place && source->first < value->first &&
                source->last == value->first && bytes <= group->bytes) {
                value->shares = true;
                group->last = value->last;
                group->tail = (int32_t)i;
                group_of[i] = group_of[value->in_place];
                continue;
            }
        }
        group_of[i] = *group_count;
        groups[(*group_count)++] = (struct group){.bytes = bytes,
                                                  .first = value->first,
                                                  .last = value->last,
                                                  .root = (int32_t)i,
                                                  .tail = (int32_t)i};
    }
    return LD_OK;
}

/* ---- Placement ------------------------------------------------------------------------------- */

/* Largest first; ties in order of creation, so that the order is total. */
static int by_size(const void *a, const void *b)
{
    const struct group *x = *(struct group *const *)a;
    const struct group *y = *(struct group *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return (x->root > y->root) - (x->root < y->root);
}

static bool live_together(const struct group *a, const struct group *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset at which `group` meets none of the placed groups that live with it. `by_offset`
 * holds the placed groups in increasing offset. */
static size_t lowest_gap(const struct group *group, struct group *const *by_offset, uint32_t placed)
{
    size_t candidate = 0;
    for (uint32_t i = 0; i < placed; i++) {
        const struct group *other = by_offset[i];
        if (!live_together(group, other))
            continue;
        if (other->offset >= candidate && other->offset - candidate >= group->bytes)
            break;
        if (other->offset + other->bytes > candidate)
            candidate = other->offset + other->bytes;
    }
    return candidate;
}

static enum ld_code place_all(struct group **order, struct group **by_offset, uint32_t count,
                              size_t *peak, struct ld_error *err)
{
    *peak = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct group *group = order[i];
        size_t end;
        group->offset = lowest_gap(group, by_offset, i);
        if (!ld_add_ok(group->offset, group->bytes, &end))
            return LD_FAIL(err, LD_E_TOO_LARGE, "the activations do not fit into memory");
        *peak = end > *peak ? end : *peak;
        uint32_t at = i;
        for (; at > 0 && by_offset[at - 1]->offset > group->offset; at--)
            by_offset[at] = by_offset[at - 1];
        by_offset[at] = group;
    }
    return LD_OK;
}

enum ld_code ld_plan_memory(struct ld_plan_value *values, uint32_t count, size_t *peak,
                            struct ld_error *err)
{
    enum ld_code code = LD_OK;
    *peak = 0;
    if (count == 0)
        return LD_OK;
    struct group *groups = ld_heap_calloc(count, sizeof *groups);
    uint32_t *group_of = ld_heap_calloc(count, sizeof *group_of);
    struct group **order = ld_heap_calloc(count, sizeof *order);
    struct group **by_offset = ld_heap_calloc(count, sizeof *by_offset);
    uint32_t group_count = 0;
    if (!groups || !group_of || !order || !by_offset) {
        code = LD_FAIL(err, LD_E_NOMEM, "not enough memory to plan the activations");
        goto done;
    }
    code = form_groups(values, count, groups, group_of, &group_count, err);
    if (code != LD_OK)
        goto done;
    for (uint32_t i = 0; i < group_count; i++)
        order[i] = &groups[i];
    qsort(order, group_count, sizeof *order, by_size);
    code = place_all(order, by_offset, group_count, peak, err);
    for (uint32_t i = 0; code == LD_OK && i < count; i++)
        values[i].offset = groups[group_of[i]].offset;
done:
    ld_heap_free(by_offset);
    ld_heap_free(order);
    ld_heap_free(group_of);
    ld_heap_free(groups);
    return code;
}
