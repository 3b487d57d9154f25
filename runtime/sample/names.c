#include "runtime/sample/names.h"

#include <string.h>
#include <strings.h>

bool ld_name_in_list(const char *list, const char *name)
{
    const size_t length = strlen(name);
    if (length == 0)
        return false;
    for (const char *entry = list; *entry;) {
        const char *comma = strchr(entry, ',');
        const size_t size = comma ? (size_t)(comma - entry) : strlen(entry);
        if (size == length && strncasecmp(entry, name, length) == 0)
            return true;
        entry += comma ? size + 1 : size;
    }
    return false;
}
