#include "runtime/image/picture_kind.h"

#include <strings.h>

static const struct {
    const char *name, *type, *ending, *library;
    int32_t side_max;
} kinds[LD_PICTURE_KINDS] = {
    [LD_PICTURE_PNG] = {"png", "image/png", ".png", "libpng", INT32_MAX},
    [LD_PICTURE_JPEG] = {"jpeg", "image/jpeg", ".jpg", "libjpeg", 65500},
    [LD_PICTURE_WEBP] = {"webp", "image/webp", ".webp", "libwebp", 16383},
};

bool ld_picture_kind_built(enum ld_picture_kind kind)
{
#ifdef LATENTD_JPEG
    if (kind == LD_PICTURE_JPEG)
        return true;
#endif
#ifdef LATENTD_WEBP
    if (kind == LD_PICTURE_WEBP)
        return true;
#endif
    return kind == LD_PICTURE_PNG;
}

const char *ld_picture_kind_name(enum ld_picture_kind kind)
{
    return kinds[kind].name;
}

const char *ld_picture_kind_type(enum ld_picture_kind kind)
{
    return kinds[kind].type;
}

const char *ld_picture_kind_ending(enum ld_picture_kind kind)
{
    return kinds[kind].ending;
}

const char *ld_picture_kind_library(enum ld_picture_kind kind)
{
    return kinds[kind].library;
}

int32_t ld_picture_kind_side_max(enum ld_picture_kind kind)
{
    return kinds[kind].side_max;
}

bool ld_picture_kind_find(const char *name, enum ld_picture_kind *kind)
{
    for (int i = 0; i < LD_PICTURE_KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = (enum ld_picture_kind)i;
            return true;
        }
    }
    return false;
}

bool ld_picture_kind_of_path(const char *path, enum ld_picture_kind *kind)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    for (int i = 0; dot && i < LD_PICTURE_KINDS; i++) {
        if (strcasecmp(kinds[i].ending, dot) == 0 || strcasecmp(kinds[i].name, dot + 1) == 0) {
            *kind = (enum ld_picture_kind)i;
            return true;
        }
    }
    return false;
}

enum ld_picture_kind ld_picture_kind_of(struct ld_span file)
{
    if (file.size >= 3 && memcmp(file.data, "\xFF\xD8\xFF", 3) == 0)
        return LD_PICTURE_JPEG;
    if (file.size >= 12 && memcmp(file.data, "RIFF", 4) == 0 &&
        memcmp(file.data + 8, "WEBP", 4) == 0)
        return LD_PICTURE_WEBP;
    return LD_PICTURE_PNG;
}
