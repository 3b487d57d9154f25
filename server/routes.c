#include "server/handlers.h"
#include "server/router.h"

static const struct ld_route routes[] = {
    {"POST", "/v1/jobs", LD_SCOPE_GENERATE, LD_BODY_JSON_BIG, false, ld_handle_job_post},
    {"GET", "/v1/jobs", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_job_list},
    {"GET", "/v1/jobs/{id}", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_job_get},
    {"DELETE", "/v1/jobs/{id}", LD_SCOPE_GENERATE, LD_BODY_NONE, false, ld_handle_job_delete},
    {"POST", "/v1/jobs/{id}/cancel", LD_SCOPE_GENERATE, LD_BODY_JSON, true, ld_handle_job_cancel},
    {"GET", "/v1/jobs/{id}/events", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_job_events},
    {"GET", "/v1/jobs/{id}/images/{n}", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_image_get},
    {"GET", "/v1/events", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_all_events},
    {"POST", "/v1/images", LD_SCOPE_GENERATE, LD_BODY_IMAGE, false, ld_handle_upload},
    {"GET", "/v1/images", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_upload_list},
    {"POST", "/v1/plan", LD_SCOPE_GENERATE, LD_BODY_JSON_BIG, false, ld_handle_plan},
    {"POST", "/v1/png-info", LD_SCOPE_READ, LD_BODY_IMAGE, false, ld_handle_png_info},
    {"POST", "/v1/replay", LD_SCOPE_GENERATE, LD_BODY_IMAGE, false, ld_handle_replay},
    {"POST", "/v1/prompt/parse", LD_SCOPE_READ, LD_BODY_JSON, false, ld_handle_prompt_parse},
    {"POST", "/v1/prompt/extend", LD_SCOPE_GENERATE, LD_BODY_JSON, false, ld_handle_prompt_extend},
    {"GET", "/v1/models", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_models},
    {"GET", "/v1/adapters", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_adapters},
    {"GET", "/v1/embeddings", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_embeddings},
    {"GET", "/v1/controlnets", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_controlnets},
    {"GET", "/v1/samplers", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_samplers},
    {"GET", "/v1/schedulers", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_schedulers},
    {"GET", "/v1/resolutions", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_resolutions},
    {"GET", "/v1/me", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_me},
    {"GET", "/v1/admin/keys", LD_SCOPE_ADMIN, LD_BODY_NONE, false, ld_handle_keys_list},
    {"POST", "/v1/admin/keys", LD_SCOPE_ADMIN, LD_BODY_JSON, false, ld_handle_keys_add},
    {"DELETE", "/v1/admin/keys", LD_SCOPE_ADMIN, LD_BODY_NONE, false, ld_handle_keys_revoke},
    {"GET", "/v1/admin/queue", LD_SCOPE_ADMIN, LD_BODY_NONE, false, ld_handle_admin_queue},
    {"POST", "/v1/admin/drain", LD_SCOPE_ADMIN, LD_BODY_NONE, false, ld_handle_admin_drain},
    {"GET", "/v1/tags", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_tags},
    {"POST", "/v1/admin/models/{model}/load", LD_SCOPE_ADMIN, LD_BODY_NONE, false,
     ld_handle_model_load},
    {"POST", "/v1/admin/models/{model}/unload", LD_SCOPE_ADMIN, LD_BODY_NONE, false,
     ld_handle_model_unload},
    {"POST", "/v1/admin/rescan", LD_SCOPE_ADMIN, LD_BODY_NONE, false, ld_handle_rescan},
    {"POST", "/v1/admin/models", LD_SCOPE_ADMIN, LD_BODY_JSON, false, ld_handle_build_start},
    {"GET", "/v1/admin/models/{model}/build", LD_SCOPE_ADMIN, LD_BODY_NONE, false,
     ld_handle_build_get},
    {"DELETE", "/v1/admin/models/{model}/build", LD_SCOPE_ADMIN, LD_BODY_NONE, false,
     ld_handle_build_cancel},
    {"GET", "/v1/wildcards", LD_SCOPE_READ, LD_BODY_NONE, false, ld_handle_wildcards},
    {"GET", "/healthz", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_health},
    {"GET", "/readyz", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_ready},
    {"GET", "/metrics", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_metrics},
    {"GET", "/version", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_version},
    {"GET", "/openapi.json", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_openapi},
    {"GET", "/docs", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_docs},
    {"GET", "/", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_page},
    {"GET", "/page/{name}", LD_SCOPE_OPEN, LD_BODY_NONE, false, ld_handle_page_file},
#include "server/routes_dialects.def"
};

const struct ld_route *ld_routes(uint32_t *count)
{
    *count = sizeof routes / sizeof routes[0];
    return routes;
}
