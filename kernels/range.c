#include "kernels/range.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME_SIZE = 128 };

void ld_range_push(const struct ld_ranges *ranges, const char *format, ...)
{
    char name[NAME_SIZE];
    va_list args;
    if (!ranges)
        return;
    va_start(args, format);
    (void)vsnprintf(name, sizeof name, format, args);
    va_end(args);
    ranges->push(name);
}

void ld_range_pop(const struct ld_ranges *ranges)
{
    if (ranges)
        ranges->pop();
}

uint64_t ld_range_start(const struct ld_ranges *ranges, const char *format, ...)
{
    char name[NAME_SIZE];
    va_list args;
    if (!ranges)
        return 0;
    va_start(args, format);
    (void)vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return ranges->start(name);
}

void ld_range_end(const struct ld_ranges *ranges, uint64_t range)
{
    if (ranges)
        ranges->end(range);
}
