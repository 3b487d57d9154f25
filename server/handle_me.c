/* A caller's own name, scopes, limits and use so far: GET /v1/me. */
#include "server/handlers.h"

#include "api/respond.h"
#include "config/limits.h"
#include "server/front.h"

/* Work units as millions of pixels times steps. */
static double megapixel_steps(int64_t work)
{
    return (double)work * LD_WORK_UNIT_PIXELS / 1e6;
}

static void write_usage(const char *name, const struct ld_store_usage *usage, struct ld_buffer *out)
{
    ld_buffer_format(out, ",\"%s\":{\"jobs\":%lld,\"images\":%lld,\"megapixel_steps\":", name,
                     (long long)usage->jobs, (long long)usage->images);
    ld_buffer_json_double(out, megapixel_steps(usage->work));
    ld_buffer_format(out, ",\"compute_ms\":%lld}", (long long)(usage->compute_us / 1000));
}

void ld_front_write_standing(const struct ld_store_standing *standing, struct ld_buffer *out)
{
    ld_buffer_format(out, "{\"queued\":%lld,\"running\":%lld", (long long)standing->queued,
                     (long long)standing->running);
    write_usage("today", &standing->today, out);
    write_usage("total", &standing->total, out);
    ld_buffer_byte(out, '}');
}

/* What a caller may know about itself. */
enum ld_handled ld_handle_me(struct ld_exchange *ex)
{
    struct ld_store_standing standing;
    struct ld_error err = {0};
    struct ld_buffer *out = &ex->reply.body;
    if (ld_store_standing(ex->front->store, ex->tenant, &standing, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_buffer_text(out, "{\"name\":");
    ld_buffer_json_string(out, ex->caller.name);
    ld_buffer_format(out, ",\"id\":\"%s\",\"anonymous\":%s,", ex->tenant,
                     ex->caller.anonymous ? "true" : "false");
    ld_key_write_rights(ex->caller.scopes, &ex->caller.limits, out);
    ld_buffer_text(out, ",\"usage\":");
    ld_front_write_standing(&standing, out);
    ld_buffer_byte(out, '}');
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, 200);
}
