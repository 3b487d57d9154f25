/*
 * What the job store notes of a start: a range of event ids of its own, and whether the machine has
 * been started anew since the last.
 */
#include "server/store_internal.h"

/* ---- Notes ----------------------------------------------------------------------------------- */

/* "" where there is none. */
static enum ld_code get_note(struct ld_store *store, const char *name, char *text, size_t size,
                             struct ld_error *err)
{
    bool row;
    struct ld_db_query *query = ld_store_use(store, SQL_NOTE_GET, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, name);
    const enum ld_code code = ld_db_step(query, &row, err);
    (void)ld_fmt(text, size, "%s", code == LD_OK && row ? ld_db_text(query, 0) : "");
    ld_db_done(query);
    return code;
}

static enum ld_code put_note(struct ld_store *store, const char *name, const char *text,
                             struct ld_error *err)
{
    struct ld_db_query *query = ld_store_use(store, SQL_NOTE_PUT, err);
    if (!query)
        return err->code;
    ld_db_bind_text(query, 1, name);
    ld_db_bind_text(query, 2, text);
    return ld_store_step_once(query, err);
}

/* ---- A start --------------------------------------------------------------------------------- */

/* Every start has its own range of event ids, above all earlier ones, without a write per event. */
static enum ld_code number_events(struct ld_store *store, struct ld_error *err)
{
    char text[24];
    uint64_t boot = 0;
    const enum ld_code code = get_note(store, "boot", text, sizeof text, err);
    if (code != LD_OK)
        return code;
    (void)ld_parse_u64(ld_span_text(text), &boot);
    boot++;
    (void)ld_fmt(text, sizeof text, "%llu", (unsigned long long)boot);
    store->event_next = (boot << 32) + 1; /* 2^21 starts fit the integers of JavaScript */
    atomic_store(&store->event_newest, boot << 32);
    return put_note(store, "boot", text, err);
}

/* What still runs by the store's account ran when the machine went down, if it has been started
 * anew since. */
static enum ld_code look_at_machine(struct ld_store *store, struct ld_error *err)
{
    char before[LD_STORE_MACHINE_BYTES];
    const char *now = store->config.machine_start;
    const enum ld_code code = get_note(store, "machine", before, sizeof before, err);
    if (code != LD_OK || !now || !*now || strcmp(before, now) == 0)
        return code;
    store->machine_died = *before != '\0';
    return put_note(store, "machine", now, err);
}

enum ld_code ld_store_boot(struct ld_store *store, struct ld_error *err)
{
    const enum ld_code code = number_events(store, err);
    return code == LD_OK ? look_at_machine(store, err) : code;
}
