/* Calls for administrators: the keys, the whole queue, the end of the server. */
#include "server/handlers.h"

#include "api/respond.h"
#include "config/limits.h"
#include "runtime/base/log.h"
#include "server/front.h"
#include "server/keyring.h"

#include <signal.h>
#include <unistd.h>

/* ---- Keys ------------------------------------------------------------------------------------ */

static enum ld_code load_keys(struct ld_exchange *ex, struct ld_arena *arena, struct ld_key **keys,
                              uint32_t *count, struct ld_error *err)
{
    ld_arena_init(arena, "keys", 64 << 20);
    return ld_keyring_list(ex->front->keys, arena, keys, count, err);
}

enum ld_handled ld_handle_keys_list(struct ld_exchange *ex)
{
    struct ld_arena arena;
    struct ld_key *keys;
    struct ld_error err = {0};
    struct ld_buffer *out = &ex->reply.body;
    uint32_t count = 0;
    const enum ld_code code = load_keys(ex, &arena, &keys, &count, &err);
    ld_buffer_text(out, "{\"keys\":[");
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        ld_buffer_text(out, i ? "," : "");
        ld_key_write_view(&keys[i], ex->front->settings, out);
    }
    ld_buffer_text(out, "]}");
    ld_arena_deinit(&arena);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, 200);
}

/* The body's members into the key; false after a refusal. */
static bool read_key(struct ld_exchange *ex, struct ld_key *key)
{
    struct ld_json_tree tree;
    struct ld_problem problem;
    struct ld_error err = {0};
    if (ld_json_scan(&tree, ex->body, LD_JSON_DEPTH, LD_JSON_VALUES, &ex->arena, &err) != LD_OK) {
        (void)ld_exchange_fail(ex, &err);
        return false;
    }
    ld_problem_init(&problem, &ex->arena);
    (void)(ld_key_apply(key, &tree, ld_json_root(&tree), &ex->arena, &problem) == LD_OK);
    if (problem.code == LD_OK && !key->name[0])
        (void)ld_problem_add(&problem, LD_E_INVALID, "/name", "name is needed");
    if (problem.code != LD_OK)
        (void)ld_exchange_problem(ex, &problem);
    return problem.code == LD_OK;
}

/* The only answer that ever holds a key. */
enum ld_handled ld_handle_keys_add(struct ld_exchange *ex)
{
    struct ld_key key;
    char text[LD_KEY_TEXT_SIZE];
    struct ld_error err = {0};
    struct ld_buffer *out = &ex->reply.body;
    ld_key_make(&key, text);
    if (!read_key(ex, &key))
        return LD_HANDLED;
    if (ld_keys_add(ex->front->state_dir, &key, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_format(out, "{\"secret\":\"%s\",\"key\":", text);
    ld_key_write_view(&key, ex->front->settings, out);
    ld_buffer_byte(out, '}');
    explicit_bzero(text, sizeof text);
    LD_LOG(LD_LOG_INFO, "keys", "a key was made", ld_log_text("key_id", key.id),
           ld_log_text("by", ex->tenant));
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, 201);
}

enum ld_handled ld_handle_keys_revoke(struct ld_exchange *ex)
{
    struct ld_key key;
    struct ld_error err = {0};
    const char *who = ld_exchange_query(ex, "id");
    if (!who || !*who)
        return ld_exchange_refuse(ex, LD_E_INVALID, 0, "id must be that of a key, or its name");
    if (ld_keys_revoke(ex->front->state_dir, who, &key, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_front_end_revoked(ex->front);
    LD_LOG(LD_LOG_INFO, "keys", "a key was revoked", ld_log_text("key_id", key.id),
           ld_log_text("by", ex->tenant));
    return ld_exchange_empty(ex, 204);
}

/* ---- The queue ------------------------------------------------------------------------------- */

static enum ld_code write_line(struct ld_exchange *ex, const char *id, const char *name,
                               int64_t weight, bool *first, struct ld_error *err)
{
    struct ld_store_standing standing;
    struct ld_buffer *out = &ex->reply.body;
    const enum ld_code code = ld_store_standing(ex->front->store, id, &standing, err);
    if (code != LD_OK || standing.total.jobs + standing.queued + standing.running == 0)
        return code;
    ld_buffer_format(out, "%s{\"id\":\"%s\",\"name\":", *first ? "" : ",", id);
    ld_buffer_json_string(out, name);
    ld_buffer_format(out, ",\"weight\":%lld,\"usage\":", (long long)weight);
    ld_front_write_standing(&standing, out);
    ld_buffer_byte(out, '}');
    *first = false;
    return LD_OK;
}

enum ld_handled ld_handle_admin_queue(struct ld_exchange *ex)
{
    struct ld_arena arena;
    struct ld_key *keys;
    struct ld_store_queue queue;
    struct ld_key_limits limits;
    struct ld_error err = {0};
    struct ld_buffer *out = &ex->reply.body;
    char oldest[25] = "";
    bool first = true;
    uint32_t count = 0;
    enum ld_code code = ld_store_queue(ex->front->store, &queue, &err);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_format(out, "{\"queued\":%lld,\"running\":%lld,\"queued_max\":%lld",
                     (long long)queue.queued, (long long)queue.running,
                     (long long)ex->front->settings->queued_max);
    if (queue.oldest_queued_us > 0) {
        ld_time_text(queue.oldest_queued_us, oldest, sizeof oldest);
        ld_buffer_format(out, ",\"oldest_queued_at\":\"%s\"", oldest);
    }
    ld_buffer_text(out, ",\"keys\":[");
    ld_key_limits_effective(NULL, ex->front->settings, &limits);
    code = write_line(ex, LD_CALLER_ANONYMOUS, LD_CALLER_ANONYMOUS, limits.weight, &first, &err);
    if (code == LD_OK)
        code = load_keys(ex, &arena, &keys, &count, &err);
    else
        ld_arena_init(&arena, "keys", 0);
    for (uint32_t i = 0; code == LD_OK && i < count; i++) {
        ld_key_limits_effective(&keys[i].limits, ex->front->settings, &limits);
        code = write_line(ex, keys[i].id, keys[i].name, limits.weight, &first, &err);
    }
    ld_arena_deinit(&arena);
    if (code != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_text(out, "]}");
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, 200);
}

/* As SIGTERM does: no new work, running jobs may end, what waits stays for the next start. */
enum ld_handled ld_handle_admin_drain(struct ld_exchange *ex)
{
    LD_LOG(LD_LOG_WARN, "serve", "an administrator ends the server",
           ld_log_text("key_id", ex->tenant));
    ld_buffer_text(&ex->reply.body, "{\"status\":\"draining\"}");
    ex->reply.close = true;
    (void)kill(getpid(), SIGTERM);
    return ld_exchange_json(ex, 202);
}
