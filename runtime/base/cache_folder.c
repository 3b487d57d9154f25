#include "runtime/base/cache_folder.h"

#include "runtime/base/bytes.h"

#include <stdlib.h>

void ld_cache_folder(char *out, size_t size)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"XDG_CACHE_HOME", "latentd"}, {"HOME", ".cache/latentd"}};
    out[0] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0] && !out[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value && value[0] == '/' && !ld_fmt(out, size, "%s/%s", value, places[i].below))
            out[0] = '\0';
    }
}
