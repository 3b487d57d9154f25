/*
 * Documents out, field by field (api.md 1). Writers append to a buffer; its `failed` tells at the
 * end whether all of it fitted.
 */
#ifndef LD_API_RESPOND_H
#define LD_API_RESPOND_H

#include "api/job_view.h"
#include "runtime/base/buffer.h"

/* "2026-11-25T13:30:00.123Z"; out_size >= 25. */
void ld_time_text(int64_t us, char *out, size_t out_size);

/* The job document. Absent parts are left out, an `error` above all. */
void ld_respond_job(const struct ld_job_view *job, struct ld_buffer *out);

/* {"jobs":[...],"next":"cursor"}; `cursor` NULL or "" where the list ends. */
void ld_respond_jobs(const struct ld_job_view *jobs, uint32_t count, const char *cursor,
                     struct ld_buffer *out);

/* ---- Lists: {"samplers":[...]} and so on ----------------------------------------------------- */

void ld_respond_samplers(const struct ld_sampler_view *items, uint32_t count,
                         struct ld_buffer *out);
void ld_respond_schedulers(const struct ld_scheduler_view *items, uint32_t count,
                           struct ld_buffer *out);
/* OpenAI's shape with native fields beside: {"object":"list","data":[{"id","object":"model",...}]}.
 */
void ld_respond_models(const struct ld_model_view *items, uint32_t count, struct ld_buffer *out);
void ld_respond_adapters(const struct ld_adapter_view *items, uint32_t count,
                         struct ld_buffer *out);
void ld_respond_embeddings(const struct ld_embedding_view *items, uint32_t count,
                           struct ld_buffer *out);
void ld_respond_controlnets(const struct ld_controlnet_view *items, uint32_t count,
                            struct ld_buffer *out);
void ld_respond_resolutions(const struct ld_size_view *items, uint32_t count,
                            struct ld_buffer *out);

void ld_respond_plan(const struct ld_plan_view *plan, struct ld_buffer *out);
void ld_respond_upload(const struct ld_upload_view *upload, struct ld_buffer *out);

/* ---- Events: the JSON after "data: " --------------------------------------------------------- */

void ld_respond_event_status(const char *job_id, enum ld_job_status status, int64_t position,
                             struct ld_buffer *out);
void ld_respond_event_progress(const char *job_id, const struct ld_progress_view *progress,
                               int64_t eta_ms, struct ld_buffer *out);
/* `picture` are the bytes of the preview, written as base64. */
void ld_respond_event_preview(const char *job_id, uint32_t image, uint32_t step,
                              const char *content_type, struct ld_span picture,
                              struct ld_buffer *out);
void ld_respond_event_image(const char *job_id, const struct ld_image_view *image,
                            struct ld_buffer *out);
/* A whole server-sent event: "id: N\nevent: NAME\ndata: JSON\n\n". `json` has no line breaks. */
void ld_respond_event(uint64_t id, const char *name, const char *json, struct ld_buffer *out);

/* The OpenAPI 3.1 document, embedded at build time. */
struct ld_span ld_openapi_document(void);

/* The same as a page of plain HTML for people. Errors   LD_E_NOMEM. */
enum ld_code ld_docs_page_write(struct ld_buffer *out, struct ld_error *err) LD_MUST_USE;
/* The page's only style sheet, whose digest its content policy names. */
const char *ld_docs_style(void);

#endif
