/*
 * A growing array of 32-bit values with a ceiling: code points, token ids. Like ld_buffer, a write
 * beyond the ceiling or without memory is remembered in `failed` and the caller checks once.
 *
 *     struct ld_list ids = ld_list_make(4096);
 *     ld_list_add(&ids, 320);
 *     ...
 *     ld_list_deinit(&ids);
 */
#ifndef LD_TEXT_LIST_H
#define LD_TEXT_LIST_H

#include "runtime/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Owned by one thread. Zero-initialised is a valid list that holds nothing and can hold nothing. */
struct ld_list {
    uint32_t *data;
    size_t count;
    size_t capacity;
    size_t count_limit;
    bool failed;
};

struct ld_list ld_list_make(size_t count_limit);
void ld_list_deinit(struct ld_list *list);
/* Forget the content, keep memory and ceiling. */
void ld_list_clear(struct ld_list *list);

void ld_list_add(struct ld_list *list, uint32_t value);
void ld_list_add_all(struct ld_list *list, const uint32_t *values, size_t count);

/* Code points of UTF-8 `text`; malformed bytes become U+FFFD. */
void ld_list_add_utf8(struct ld_list *list, struct ld_span text);

/* Exchange the contents of two lists. */
void ld_list_swap(struct ld_list *a, struct ld_list *b);

/* Same values in the same order. */
bool ld_list_equal(const struct ld_list *a, const struct ld_list *b);

#ifdef __cplusplus
}
#endif
#endif
