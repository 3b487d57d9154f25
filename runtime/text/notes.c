#include "runtime/text/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ld_notes_add(struct ld_notes *notes, const char *format, ...)
{
    char sentence[320];
    va_list args;
    if (!notes || notes->count == LD_WARNINGS_MAX)
        return;
    va_start(args, format);
    const int length = vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (length < 0)
        return;
    for (uint32_t i = 0; i < notes->count; i++)
        if (strcmp(notes->items[i], sentence) == 0)
            return;
    const char *copy = ld_arena_strdup(notes->arena, sentence);
    if (copy)
        notes->items[notes->count++] = copy;
}
