/* What may change while a server runs. */
#include "config/settings.h"

/* Sections and keys that are looked at anew each time they matter. */
static bool may_change(const struct ld_setting *row)
{
    static const char *const keys[][2] = {
        {"server", "wait_s"},
        {"server", "drain_s"},
        {"store", "retention_days"},
        {"store", "result_mib_per_key"},
        {"log", "level"},
        {"log", "format"},
        {"log", "prompts"},
    };
    if (strcmp(row->section, "limits") == 0)
        return true;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(row->section, keys[i][0]) == 0 && strcmp(row->key, keys[i][1]) == 0)
            return true;
    return false;
}

/* Nobody set it, so it says what lies beside the checkpoints: workers find that out at each scan.
 */
static bool follows_disk(const struct ld_setting *row, uint8_t fresh, uint8_t running)
{
    static const char *const keys[] = {"adapter_dir", "embedding_dir", "vae_dir", "controlnet_dir",
                                       "wildcard_dir"};
    if (fresh != LD_ORIGIN_DEFAULT || running != LD_ORIGIN_DEFAULT ||
        strcmp(row->section, "models") != 0)
        return false;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(row->key, keys[i]) == 0)
            return true;
    return false;
}

static bool keep_one(const struct ld_setting *row, void *fresh, const void *running)
{
    bool differs = false;
    switch (row->kind) {
    case LD_SETTING_INT:
        differs = *(int64_t *)fresh != *(const int64_t *)running;
        *(int64_t *)fresh = *(const int64_t *)running;
        break;
    case LD_SETTING_BOOL:
        differs = *(bool *)fresh != *(const bool *)running;
        *(bool *)fresh = *(const bool *)running;
        break;
    case LD_SETTING_TEXT:
    case LD_SETTING_LIST:
    case LD_SETTING_WORD:
        differs = strcmp(*(const char **)fresh, *(const char *const *)running) != 0;
        *(const char **)fresh = *(const char *const *)running;
        break;
    }
    return differs;
}

void ld_settings_keep(struct ld_settings *fresh, const struct ld_settings *running,
                      void (*kept)(void *ctx, const char *section, const char *key), void *ctx)
{
    uint32_t count;
    const struct ld_setting *rows = ld_setting_table(&count);
    for (uint32_t i = 0; i < count; i++) {
        if (may_change(&rows[i]) || follows_disk(&rows[i], fresh->origins[i], running->origins[i]))
            continue;
        fresh->origins[i] = running->origins[i];
        if (keep_one(&rows[i], (char *)fresh + rows[i].offset,
                     (const char *)running + rows[i].offset))
            kept(ctx, rows[i].section, rows[i].key);
    }
}
