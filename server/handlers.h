/*
 * All handlers, for the route table.
 */
#ifndef LD_SERVER_HANDLERS_H
#define LD_SERVER_HANDLERS_H

#include "server/exchange.h"

/* handle_jobs.c */
enum ld_handled ld_handle_job_post(struct ld_exchange *ex);
enum ld_handled ld_handle_job_list(struct ld_exchange *ex);
enum ld_handled ld_handle_job_get(struct ld_exchange *ex);
enum ld_handled ld_handle_job_cancel(struct ld_exchange *ex);
enum ld_handled ld_handle_job_delete(struct ld_exchange *ex);

/* handle_events.c */
enum ld_handled ld_handle_job_events(struct ld_exchange *ex);
enum ld_handled ld_handle_all_events(struct ld_exchange *ex);

/* handle_images.c */
enum ld_handled ld_handle_image_get(struct ld_exchange *ex);
enum ld_handled ld_handle_upload(struct ld_exchange *ex);
enum ld_handled ld_handle_upload_list(struct ld_exchange *ex);

/* handle_png.c */
enum ld_handled ld_handle_png_info(struct ld_exchange *ex);
enum ld_handled ld_handle_replay(struct ld_exchange *ex);

/* handle_plan.c */
enum ld_handled ld_handle_plan(struct ld_exchange *ex);
enum ld_handled ld_handle_prompt_parse(struct ld_exchange *ex);

/* handle_listings.c */
enum ld_handled ld_handle_models(struct ld_exchange *ex);
enum ld_handled ld_handle_adapters(struct ld_exchange *ex);
enum ld_handled ld_handle_embeddings(struct ld_exchange *ex);
enum ld_handled ld_handle_samplers(struct ld_exchange *ex);
enum ld_handled ld_handle_schedulers(struct ld_exchange *ex);
enum ld_handled ld_handle_resolutions(struct ld_exchange *ex);

/* handle_tags.c */
enum ld_handled ld_handle_tags(struct ld_exchange *ex);

/* handle_meta.c */
enum ld_handled ld_handle_health(struct ld_exchange *ex);
enum ld_handled ld_handle_ready(struct ld_exchange *ex);
enum ld_handled ld_handle_version(struct ld_exchange *ex);
enum ld_handled ld_handle_openapi(struct ld_exchange *ex);
enum ld_handled ld_handle_page(struct ld_exchange *ex);

#endif
