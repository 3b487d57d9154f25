/* The table of request fields as rows with offsets, look-up in it, and defaults. */
#include "runtime/params.h"

#include "config/limits.h"

#include <math.h>

#define LD_SCALE_MODES                                                                             \
    "constant|linear_down|cosine_down|half_cosine_down|linear_up|cosine_up|half_cosine_up|"        \
    "power_up|power_down|linear_repeating|cosine_repeating|sawtooth"
#define LD_UPSCALERS                                                                               \
    "latent-bislerp|latent-nearest|latent-nearest-exact|latent-bilinear|latent-bicubic|"           \
    "latent-area|latent-bilinear-aa|latent-bicubic-aa|" LD_PIXEL_UPSCALERS
#define LD_PIXEL_UPSCALERS                                                                         \
    "pixel-nearest-exact|pixel-bilinear|pixel-bicubic|pixel-area|pixel-lanczos"

/* ---- Rows ------------------------------------------------------------------------------------ */

/* The offset of a member, and a compile error when it does not have the row's type. */
#define PLACE(base, type, member)                                                                  \
    (offsetof(struct base, member) +                                                               \
     0 * sizeof(char[_Generic(((struct base *)0)->member, type : 1, default                        \
                              : -1)]))
#define AT(type, member) PLACE(ld_request, type, member)
#define SEED_MAX         18446744073709551615.0 /* 2^64-1 as far as a double can say it */
#define SIZE_OF(member)  sizeof(((struct ld_request *)0)->member)

#define ROW(k, p, d, w, u, ...)                                                                    \
    {.kind = LD_FIELD_##k, .path = p, .doc = d, .words = w, .unit = u, __VA_ARGS__},
#define OBJECT(p, f, d)       ROW(OBJECT, p, d, "", "", .flags = f)
#define OBJECT_ON(p, m, f, d) ROW(OBJECT_ON, p, d, "", "", .flag_offset = AT(bool, m), .flags = f)
#define OBJECT_BY(p, s, f, d) ROW(OBJECT_ON, p, d, "", "", .switch_path = s, .flags = f)
#define INT(p, m, v, lo, hi, u, f, d)                                                              \
    ROW(INT, p, d, "", u, .offset = AT(int32_t, m), .default_number = v, .min = lo, .max = hi,     \
        .flags = f)
#define INT_SWITCH(p, m, g, lo, hi, u, d)                                                          \
    ROW(INT, p, d, "", u, .offset = AT(int32_t, m), .given_number = g, .min = lo, .max = hi,       \
        .flags = LD_FIELD_SWITCH)
#define NUMBER(p, m, v, lo, hi, u, f, d)                                                           \
    ROW(NUMBER, p, d, "", u, .offset = AT(double, m), .default_number = (double)(v), .min = lo,    \
        .max = hi, .flags = f)
#define SEED(p, m, r, d)                                                                           \
    ROW(SEED, p, d, "", "", .offset = AT(uint64_t, m), .flag_offset = AT(bool, r), .min = -1,      \
        .max = SEED_MAX)
#define SEED_ON(p, m, g, d)                                                                        \
    ROW(SEED, p, d, "", "", .offset = AT(uint64_t, m), .flag_offset = AT(bool, g), .max = SEED_MAX)
#define OFFSET(p, m, v, lo, hi, d)                                                                 \
    ROW(OFFSET, p, d, "", "", .offset = AT(int64_t, m), .default_number = v, .min = (double)(lo),  \
        .max = (double)(hi))
#define BOOL(p, m, v, f, d)                                                                        \
    ROW(BOOL, p, d, "", "", .offset = AT(bool, m), .default_number = v, .flags = f)
#define TRISTATE(p, m, w, d)                                                                       \
    ROW(TRISTATE, p, d, w, "", .offset = AT(enum ld_tristate, m), .default_number = LD_UNSET)
#define CHOICE(p, m, v, w, f, d)                                                                   \
    ROW(CHOICE, p, d, w, "", .offset = offsetof(struct ld_request, m), .size = SIZE_OF(m),         \
        .default_number = v, .flags = f)
#define WORD(p, m, v, w, f, d)                                                                     \
    ROW(WORD, p, d, w, "", .offset = AT(const char *, m), .default_text = v, .flags = f)
#define WORDS(p, m, w, f, d) ROW(WORDS, p, d, w, "", .offset = AT(uint32_t, m), .flags = f)
#define WORD_SWITCH(p, m, g, w, d)                                                                 \
    ROW(WORD, p, d, w, "", .offset = AT(const char *, m), .given_text = g, .flags = LD_FIELD_SWITCH)
#define TEXT(p, m, hi, f, d)                                                                       \
    ROW(TEXT, p, d, "", "bytes", .offset = AT(const char *, m), .max = hi, .flags = f)
#define NAME(p, m, f, d)                                                                           \
    ROW(NAME, p, d, "", "bytes", .offset = AT(const char *, m), .min = 1,                          \
        .max = LD_NAME_BYTES_MAX, .flags = f)
#define PRESET(p, m, v, f, d)                                                                      \
    ROW(PRESET, p, d, "", "bytes", .offset = AT(const char *, m), .min = 1, .max = 32,             \
        .default_text = v, .flags = f)
#define SIZE(p, d)           ROW(SIZE, p, d, "", "", .min = LD_SIDE_MIN, .max = LD_SIDE_MAX)
#define SIGMAS(p, lo, hi, d) ROW(SIGMAS, p, d, "", "", .min = lo, .max = hi)
#define LIST(p, m, n, g, hi, f, d)                                                                 \
    ROW(LIST, p, d, "", "", .offset = offsetof(struct ld_request, m),                              \
        .size = sizeof(((struct ld_request *)0)->m[0]), .count_offset = AT(uint32_t, n),           \
        .flag_offset = AT(bool, g), .max = hi, .flags = f)
#define ITEM_NAME(p, s, m, f, d)                                                                   \
    ROW(NAME, p, d, "", "bytes", .offset = PLACE(s, const char *, m), .min = 1,                    \
        .max = LD_NAME_BYTES_MAX, .flags = (f) | LD_FIELD_ITEM)
#define ITEM_IMAGE(p, s, m, f, d)                                                                  \
    ROW(IMAGE, p, d, "", "", .offset = PLACE(s, const char *, m), .flags = (f) | LD_FIELD_ITEM)
#define ITEM_NUMBER(p, s, m, v, lo, hi, u, f, d)                                                   \
    ROW(NUMBER, p, d, "", u, .offset = PLACE(s, double, m), .default_number = (double)(v),         \
        .min = lo, .max = hi, .flags = (f) | LD_FIELD_ITEM)
#define ITEM_CHOICE(p, s, m, v, w, f, d)                                                           \
    ROW(CHOICE, p, d, w, "", .offset = offsetof(struct s, m), .size = sizeof(((struct s *)0)->m),  \
        .default_number = v, .flags = (f) | LD_FIELD_ITEM)
#define IMAGE(p, m, f, d) ROW(IMAGE, p, d, "", "", .offset = AT(const char *, m), .flags = f)
#define USER_DATA(p, m, hi, d)                                                                     \
    ROW(USER_DATA, p, d, "", "bytes", .offset = AT(const char *, m), .max = hi,                    \
        .flags = LD_FIELD_DELIVERY)
#define SWEEP(p, m, hi, d)                                                                         \
    ROW(USER_DATA, p, d, "", "bytes", .offset = AT(const char *, m), .max = hi, .flags = 0)
#define UNBUILT(p, d) ROW(UNBUILT, p, d, "", "", .flags = 0)

static const struct ld_field rows[] = {
#include "config/fields.def"
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };
_Static_assert((int)ROW_COUNT <= (int)LD_REQUEST_FIELDS_MAX, "`given` has a bit for every row");
_Static_assert((int)LD_REQUEST_LORAS_MAX == (int)LD_LORAS_MAX, "params.h and limits.h agree");
_Static_assert((int)LD_REQUEST_CONTROLS_MAX == (int)LD_CONTROLS_MAX, "params.h and limits.h agree");
_Static_assert((int)LD_REQUEST_SIGMAS_MAX >= (int)LD_SIGMAS_MAX, "params.h and limits.h agree");

/* ---- Look-up --------------------------------------------------------------------------------- */

const struct ld_field *ld_fields(uint32_t *count)
{
    if (count)
        *count = ROW_COUNT;
    return rows;
}

int32_t ld_field_row(const struct ld_field *field)
{
    LD_ASSERT(field >= rows && field < rows + ROW_COUNT);
    return (int32_t)(field - rows);
}

/* '.', '_' and '-' are one letter here, so a path and its flag are the same name. */
static bool same_name(const char *path, const char *name)
{
    for (; *path && *name; path++, name++) {
        const bool path_joint = *path == '.' || *path == '_';
        const bool name_joint = *name == '.' || *name == '_' || *name == '-';
        if (path_joint != name_joint || (!path_joint && *path != *name))
            return false;
    }
    return *path == *name;
}

bool ld_field_is_set_by_name(const struct ld_field *field)
{
    return !(field->flags & LD_FIELD_ITEM) || (ld_field_parent(field)->flags & LD_FIELD_LAST) != 0;
}

const struct ld_field *ld_field_find(const char *path)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].path, path) == 0)
            return &rows[i];
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (same_name(rows[i].path, path) && ld_field_is_set_by_name(&rows[i]))
            return &rows[i];
    return NULL;
}

const char *ld_field_key(const struct ld_field *field)
{
    const char *dot = strrchr(field->path, '.');
    return dot ? dot + 1 : field->path;
}

const struct ld_field *ld_field_parent(const struct ld_field *field)
{
    const size_t size = (size_t)(ld_field_key(field) - field->path);
    if (size == 0)
        return NULL;
    for (const struct ld_field *row = field - 1; row >= rows; row--)
        if (strlen(row->path) == size - 1 && memcmp(row->path, field->path, size - 1) == 0)
            return row;
    return NULL;
}

const struct ld_field *ld_field_member(const struct ld_field *parent, struct ld_span name)
{
    const size_t prefix = parent ? strlen(parent->path) + 1 : 0;
    for (const struct ld_field *row = parent ? parent + 1 : rows; row < rows + ROW_COUNT; row++) {
        const size_t size = strlen(row->path);
        if (parent && (size < prefix || memcmp(row->path, parent->path, prefix - 1) != 0 ||
                       row->path[prefix - 1] != '.'))
            return NULL; /* members follow their object without a gap */
        if (name.size > 0 && size == prefix + name.size &&
            memcmp(row->path + prefix, name.data, name.size) == 0 &&
            !memchr(name.data, '.', name.size))
            return row;
    }
    return NULL;
}

bool ld_field_pointer(const struct ld_field *field, int32_t index, char *out, size_t out_size)
{
    const char *key = ld_field_key(field);
    if ((field->flags & LD_FIELD_ITEM) && index >= 0) {
        if (!ld_fmt(out, out_size, "/%.*s/%d/%s", (int)(key - field->path - 1), field->path,
                    (int)index, key))
            return false;
    } else if (!ld_fmt(out, out_size, "/%s", field->path)) {
        return false;
    }
    for (char *c = out; *c; c++)
        if (*c == '.')
            *c = '/';
    return true;
}

bool ld_field_flag_name(const struct ld_field *field, char *out, size_t out_size)
{
    if (!ld_field_is_set_by_name(field) || field->kind == LD_FIELD_UNBUILT ||
        field->kind == LD_FIELD_OBJECT || !ld_fmt(out, out_size, "%s", field->path))
        return false;
    for (char *c = out; *c; c++)
        if (*c == '.' || *c == '_')
            *c = '-';
    return true;
}

bool ld_field_flag_is_switch(const struct ld_field *field)
{
    return field->kind == LD_FIELD_BOOL || field->kind == LD_FIELD_OBJECT_ON ||
           (field->kind == LD_FIELD_PRESET && !(field->flags & LD_FIELD_NAMED)) ||
           (field->kind == LD_FIELD_TRISTATE && field->words[0] == '\0');
}

bool ld_request_has(const struct ld_request *request, const char *path)
{
    const struct ld_field *field = ld_field_find(path);
    LD_ASSERT(field);
    const uint32_t row = (uint32_t)ld_field_row(field);
    return (request->given[row / 8] >> (row % 8)) & 1U;
}

void ld_request_mark(struct ld_request *request, const struct ld_field *field)
{
    const uint32_t row = (uint32_t)ld_field_row(field);
    request->given[row / 8] = (uint8_t)(request->given[row / 8] | (1U << (row % 8)));
}

/* ---- Defaults -------------------------------------------------------------------------------- */

static void set_default(void *base, const struct ld_field *field)
{
    void *place = (char *)base + field->offset;
    switch (field->kind) {
    case LD_FIELD_INT:
        *(int32_t *)place = (int32_t)field->default_number;
        break;
    case LD_FIELD_OFFSET:
        *(int64_t *)place = (int64_t)field->default_number;
        break;
    case LD_FIELD_NUMBER:
        *(double *)place = field->default_number;
        break;
    case LD_FIELD_BOOL:
        *(bool *)place = field->default_number != 0.0;
        break;
    case LD_FIELD_TRISTATE:
        *(enum ld_tristate *)place = LD_UNSET;
        break;
    case LD_FIELD_CHOICE:
        if (field->size == sizeof(bool))
            *(bool *)place = field->default_number != 0.0;
        else
            *(int32_t *)place = (int32_t)field->default_number;
        break;
    case LD_FIELD_WORD:
    case LD_FIELD_TEXT:
    case LD_FIELD_NAME:
    case LD_FIELD_PRESET:
    case LD_FIELD_IMAGE:
    case LD_FIELD_USER_DATA:
        *(const char **)place = field->default_text                  ? field->default_text
                                : (field->flags & LD_FIELD_NULLABLE) ? NULL
                                                                     : "";
        break;
    case LD_FIELD_OBJECT:
    case LD_FIELD_OBJECT_ON:
    case LD_FIELD_SEED:
    case LD_FIELD_SIZE:
    case LD_FIELD_SIGMAS:
    case LD_FIELD_WORDS:
    case LD_FIELD_LIST:
    case LD_FIELD_UNBUILT:
        break; /* zero is their default */
    }
}

void ld_request_default(struct ld_request *request)
{
    memset(request, 0, sizeof *request);
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (!(rows[i].flags & LD_FIELD_ITEM))
            set_default(request, &rows[i]);
    request->sampler = "euler_ancestral"; /* sampling.md 0: the most stable one */
    request->scheduler = "simple";
    request->seed_random = true;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

void *ld_request_list(struct ld_request *request, const struct ld_field *list, uint32_t **count)
{
    LD_ASSERT(list->kind == LD_FIELD_LIST);
    *count = (uint32_t *)(void *)((char *)request + list->count_offset);
    return (char *)request + list->offset;
}

void *ld_request_list_last(struct ld_request *request, const struct ld_field *list)
{
    uint32_t *count;
    char *items = ld_request_list(request, list, &count);
    return *count > 0 ? items + (*count - 1) * list->size : NULL;
}

void *ld_request_list_add(struct ld_request *request, const struct ld_field *list)
{
    uint32_t *count;
    (void)ld_request_list(request, list, &count);
    if ((double)*count >= list->max)
        return NULL;
    *count += 1;
    void *item = ld_request_list_last(request, list);
    memset(item, 0, list->size);
    for (const struct ld_field *row = list + 1;
         row < rows + ROW_COUNT && (row->flags & LD_FIELD_ITEM); row++)
        set_default(item, row);
    return item;
}

/* ---- Whole requests -------------------------------------------------------------------------- */

uint32_t ld_lora_ranges(const struct ld_request_lora *loras, uint32_t count, double *starts)
{
    double edges[2 * LD_REQUEST_LORAS_MAX + 1] = {0};
    uint32_t found = 1;
    for (uint32_t i = 0; i < 2 * count; i++) {
        const double edge = i % 2 ? loras[i / 2].end : loras[i / 2].start;
        uint32_t at = 0;
        while (at < found && edges[at] < edge)
            at++;
        if (edge >= 1 || (at < found && edges[at] <= edge))
            continue; /* never reached, or known */
        memmove(edges + at + 1, edges + at, (found - at) * sizeof *edges);
        edges[at] = edge;
        found++;
    }
    for (uint32_t i = 0; starts && i < found && i < LD_LORA_RANGES_MAX; i++)
        starts[i] = edges[i];
    return found;
}

/* Is the path `object` or one of its members'? */
static bool is_within(const char *path, const char *object)
{
    const size_t size = strlen(object);
    return strncmp(path, object, size) == 0 && (path[size] == '\0' || path[size] == '.');
}

/* `comfy` rounds on the latent, `a1111` truncates pixels and then the latent. */
static int64_t enlarged(const struct ld_request *request, int32_t side)
{
    const double scale = request->hires.scale;
    if (request->profile == LD_PROFILE_A1111)
        return (int64_t)((double)side * scale) / LD_SIDE_STEP * LD_SIDE_STEP;
    return (int64_t)nearbyint((double)(side / LD_SIDE_STEP) * scale) * LD_SIDE_STEP;
}

bool ld_field_goes_with_upscale(const struct ld_field *field)
{
    return (field->flags & LD_FIELD_DELIVERY) || is_within(field->path, "upscale") ||
           is_within(field->path, "output");
}

void ld_request_final_size(const struct ld_request *request, int64_t *width, int64_t *height)
{
    if (request->upscale.present) {
        *width = request->upscale.width;
        *height = request->upscale.height;
        return;
    }
    *width = request->width;
    *height = request->height;
    if (!request->hires.present)
        return;
    if (request->hires.width > 0 && request->hires.height > 0) {
        *width = request->hires.width;
        *height = request->hires.height;
    } else {
        *width = enlarged(request, request->width);
        *height = enlarged(request, request->height);
    }
}

void ld_request_take_delivery(struct ld_request *request, const struct ld_request *from)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        const size_t offset = rows[i].offset;
        void *to = (char *)request + offset;
        const void *its = (const char *)from + offset;
        if (!(rows[i].flags & LD_FIELD_DELIVERY) || rows[i].kind == LD_FIELD_OBJECT)
            continue;
        if (rows[i].kind == LD_FIELD_INT)
            *(int32_t *)to = *(const int32_t *)its;
        else if (rows[i].kind == LD_FIELD_TRISTATE)
            *(enum ld_tristate *)to = *(const enum ld_tristate *)its;
        else if (rows[i].kind == LD_FIELD_WORDS)
            *(uint32_t *)to = *(const uint32_t *)its;
        else if (rows[i].kind == LD_FIELD_TEXT || rows[i].kind == LD_FIELD_WORD ||
                 rows[i].kind == LD_FIELD_USER_DATA)
            *(const char **)to = *(const char *const *)its;
        else if (rows[i].kind == LD_FIELD_CHOICE)
            memcpy(to, its, rows[i].size);
        else
            LD_ASSERT(false); /* the first row of its kind that changes no picture */
    }
}
