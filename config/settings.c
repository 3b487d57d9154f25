/* The table of settings, one value into one setting, and what would be unsafe together. */
#include "config/settings.h"

#include "config/limits.h"
#include "config/nearest.h"

#include <arpa/inet.h>

/* ---- Rows ------------------------------------------------------------------------------------ */

#define PLACE(type, member)                                                                        \
    (offsetof(struct ld_settings, member) +                                                        \
     0 * sizeof(char[_Generic(((struct ld_settings *)0)->member, type : 1, default                 \
                              : -1)]))
#define ROW(k, s, n, f, d, ...)                                                                    \
    {.kind = LD_SETTING_##k, .section = #s, .key = #n, .flag = f, .doc = d, __VA_ARGS__},
#define INT(s, n, m, v, lo, hi, u, f, d)                                                           \
    ROW(INT, s, n, f, d, .offset = PLACE(int64_t, m), .default_integer = v, .default_text = "",    \
        .min = lo, .max = hi, .unit = u, .words = "")
#define BOOL(s, n, m, v, f, d)                                                                     \
    ROW(BOOL, s, n, f, d, .offset = PLACE(bool, m), .default_integer = v, .default_text = "",      \
        .unit = "", .words = "")
#define TEXT(s, n, m, v, f, d)                                                                     \
    ROW(TEXT, s, n, f, d, .offset = PLACE(const char *, m), .default_text = v, .unit = "",         \
        .words = "")
#define LIST(s, n, m, v, f, d)                                                                     \
    ROW(LIST, s, n, f, d, .offset = PLACE(const char *, m), .default_text = v, .unit = "",         \
        .words = "")
#define WORD(s, n, m, v, w, f, d)                                                                  \
    ROW(WORD, s, n, f, d, .offset = PLACE(const char *, m), .default_text = v, .unit = "",         \
        .words = w)

static const struct ld_setting rows[] = {
#include "config/settings.def"
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };
_Static_assert((int)ROW_COUNT <= (int)LD_SETTINGS_MAX, "every row has an origin");

const struct ld_setting *ld_setting_table(uint32_t *count)
{
    if (count)
        *count = ROW_COUNT;
    return rows;
}

/* "server-port", where '_' of keys is '-' too. */
static void long_flag(const struct ld_setting *row, char out[64])
{
    (void)ld_fmt(out, 64, "%s-%s", row->section, row->key);
    for (char *c = out; *c; c++)
        if (*c == '_')
            *c = '-';
}

const struct ld_setting *ld_setting_by_flag(const char *flag)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        char name[64];
        long_flag(&rows[i], name);
        if ((rows[i].flag[0] && strcmp(rows[i].flag, flag) == 0) || strcmp(name, flag) == 0)
            return &rows[i];
    }
    return NULL;
}

const char *ld_setting_flag_like(const char *flag)
{
    struct ld_nearest nearest = ld_nearest_to(ld_span_text(flag));
    for (uint32_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].flag[0])
            ld_nearest_offer(&nearest, rows[i].flag);
    return nearest.best;
}

void ld_settings_init(struct ld_settings *settings, struct ld_arena *arena)
{
    memset(settings, 0, sizeof *settings);
    settings->arena = arena;
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        void *place = (char *)settings + rows[i].offset;
        switch (rows[i].kind) {
        case LD_SETTING_INT:
            *(int64_t *)place = rows[i].default_integer;
            break;
        case LD_SETTING_BOOL:
            *(bool *)place = rows[i].default_integer != 0;
            break;
        case LD_SETTING_TEXT:
        case LD_SETTING_LIST:
        case LD_SETTING_WORD:
            *(const char **)place = rows[i].default_text;
            break;
        }
    }
}

/* ---- Setting --------------------------------------------------------------------------------- */

/* NULL after setting `err`. */
static const struct ld_setting *find_row(const char *section, const char *key, struct ld_error *err)
{
    struct ld_nearest sections = ld_nearest_to(ld_span_text(section));
    struct ld_nearest keys = ld_nearest_to(ld_span_text(key));
    bool known = false;
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        ld_nearest_offer(&sections, rows[i].section);
        if (strcmp(rows[i].section, section) != 0)
            continue;
        known = true;
        ld_nearest_offer(&keys, rows[i].key);
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    }
    const char *near = known ? keys.best : sections.best;
    if (known)
        LD_FAIL(err, LD_E_NOT_FOUND, "unknown key %.64s in [%s]%s%s%s", key, section,
                near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    else
        LD_FAIL(err, LD_E_NOT_FOUND, "unknown section [%.64s]%s%s%s", section,
                near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

static enum ld_code set_integer(const struct ld_setting *row, int64_t *place, const char *value,
                                struct ld_error *err)
{
    int64_t integer;
    if (!ld_parse_i64(ld_span_text(value), &integer))
        return LD_FAIL(err, LD_E_INVALID, "%s.%s must be an integer", row->section, row->key);
    if (integer < row->min || integer > row->max)
        return LD_FAIL(err, LD_E_RANGE, "%s.%s must be between %lld and %lld%s%s", row->section,
                       row->key, (long long)row->min, (long long)row->max, row->unit[0] ? " " : "",
                       row->unit);
    *place = integer;
    return LD_OK;
}

static enum ld_code set_bool(const struct ld_setting *row, bool *place, const char *value,
                             struct ld_error *err)
{
    static const char *const yes[] = {"true", "on", "yes", "1"};
    static const char *const no[] = {"false", "off", "no", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
            *place = strcmp(value, yes[i]) == 0;
            return LD_OK;
        }
    }
    return LD_FAIL(err, LD_E_INVALID, "%s.%s must be true or false", row->section, row->key);
}

static enum ld_code check_word(const struct ld_setting *row, const char *value,
                               struct ld_error *err)
{
    const size_t size = strlen(value);
    for (const char *word = row->words; *word;) {
        const size_t word_size = strcspn(word, "|");
        if (size == word_size && memcmp(word, value, size) == 0)
            return LD_OK;
        word += word_size + (word[word_size] ? 1 : 0);
    }
    return LD_FAIL(err, LD_E_INVALID, "%s.%s must be one of %s", row->section, row->key,
                   row->words);
}

enum ld_code ld_settings_set(struct ld_settings *settings, const char *section, const char *key,
                             const char *value, enum ld_setting_origin origin, struct ld_error *err)
{
    const struct ld_setting *row = find_row(section, key, err);
    struct ld_settings trial = *settings; /* a value is checked even where a stronger one stands */
    enum ld_code code = LD_OK;
    if (!row)
        return LD_E_NOT_FOUND;
    void *place = (char *)&trial + row->offset;
    switch (row->kind) {
    case LD_SETTING_INT:
        code = set_integer(row, place, value, err);
        break;
    case LD_SETTING_BOOL:
        code = set_bool(row, place, value, err);
        break;
    case LD_SETTING_WORD:
        code = check_word(row, value, err);
        break;
    case LD_SETTING_TEXT:
    case LD_SETTING_LIST:
        break;
    }
    if (code != LD_OK || settings->origins[row - rows] > origin)
        return code;
    if (row->kind != LD_SETTING_INT && row->kind != LD_SETTING_BOOL) {
        *(const char **)place = ld_arena_strdup(settings->arena, value);
        if (!*(const char **)place)
            return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    }
    trial.origins[row - rows] = (uint8_t)origin;
    *settings = trial;
    return LD_OK;
}

enum ld_code ld_settings_set_flag(struct ld_settings *settings, const char *flag, const char *value,
                                  struct ld_error *err)
{
    const struct ld_setting *row = ld_setting_by_flag(flag);
    const char *near = row ? NULL : ld_setting_flag_like(flag);
    if (!row)
        return LD_FAIL(err, LD_E_NOT_FOUND, "there is no flag --%.64s%s%s%s", flag,
                       near ? "; did you mean --" : "", near ? near : "", near ? "?" : "");
    return ld_settings_set(settings, row->section, row->key, value, LD_ORIGIN_FLAG, err);
}

/* ---- Unsafe sets ----------------------------------------------------------------------------- */

bool ld_address_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(address, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, address, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    return false;
}

enum ld_code ld_settings_check(const struct ld_settings *settings, bool has_keys,
                               struct ld_error *err)
{
    if (settings->unix_socket[0] || ld_address_is_loopback(settings->bind))
        return LD_OK;
    if (!has_keys && !settings->allow_anonymous)
        return LD_FAIL(err, LD_E_FORBIDDEN,
                       "server.bind is not a loopback address and no key exists: give "
                       "--allow-anonymous if everybody who reaches it may use it");
    if (!settings->behind_proxy)
        return LD_FAIL(err, LD_E_FORBIDDEN,
                       "server.bind is not a loopback address: put a proxy in front "
                       "(deploy/nginx.conf) and give --behind-proxy");
    return LD_OK;
}

bool ld_settings_list_next(const char *list, size_t *pos, struct ld_span *item)
{
    while (list[*pos] == ',' || list[*pos] == ' ' || list[*pos] == '\t')
        ++*pos;
    if (list[*pos] == '\0')
        return false;
    size_t size = strcspn(list + *pos, ",");
    const size_t whole = size;
    while (size > 0 && (list[*pos + size - 1] == ' ' || list[*pos + size - 1] == '\t'))
        size--;
    *item = ld_span_of(list + *pos, size);
    *pos += whole;
    return true;
}
