#include "runtime/text/list.h"

#include "runtime/base/arena.h"

struct ld_list ld_list_make(size_t count_limit)
{
    struct ld_list list = {.count_limit = count_limit};
    return list;
}

void ld_list_deinit(struct ld_list *list)
{
    ld_heap_free(list->data);
    memset(list, 0, sizeof *list);
}

void ld_list_clear(struct ld_list *list)
{
    list->count = 0;
    list->failed = false;
}

static bool reserve(struct ld_list *list, size_t more)
{
    size_t needed;
    if (list->failed)
        return false;
    if (!ld_add_ok(list->count, more, &needed) || needed > list->count_limit) {
        list->failed = true;
        return false;
    }
    if (needed <= list->capacity)
        return true;
    size_t capacity = list->capacity ? list->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    size_t bytes;
    uint32_t *data =
        ld_mul_ok(capacity, sizeof *data, &bytes) ? ld_heap_resize(list->data, bytes) : NULL;
    if (!data) {
        list->failed = true;
        return false;
    }
    list->data = data;
    list->capacity = capacity;
    return true;
}

void ld_list_add(struct ld_list *list, uint32_t value)
{
    if (reserve(list, 1))
        list->data[list->count++] = value;
}

void ld_list_add_all(struct ld_list *list, const uint32_t *values, size_t count)
{
    if (count == 0 || !reserve(list, count))
        return;
    memcpy(list->data + list->count, values, count * sizeof *values);
    list->count += count;
}

void ld_list_add_utf8(struct ld_list *list, struct ld_span text)
{
    for (size_t pos = 0; pos < text.size && !list->failed;)
        ld_list_add(list, ld_utf8_next(text.data, text.size, &pos));
}

void ld_list_swap(struct ld_list *a, struct ld_list *b)
{
    const struct ld_list held = *a;
    *a = *b;
    *b = held;
}

bool ld_list_equal(const struct ld_list *a, const struct ld_list *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->data, b->data, a->count * sizeof *a->data) == 0);
}
