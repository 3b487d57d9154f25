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
enum ld_handled ld_handle_prompt_extend(struct ld_exchange *ex);

/* handle_listings.c */
enum ld_handled ld_handle_models(struct ld_exchange *ex);
enum ld_handled ld_handle_adapters(struct ld_exchange *ex);
enum ld_handled ld_handle_embeddings(struct ld_exchange *ex);
enum ld_handled ld_handle_samplers(struct ld_exchange *ex);
enum ld_handled ld_handle_schedulers(struct ld_exchange *ex);
enum ld_handled ld_handle_resolutions(struct ld_exchange *ex);

enum ld_handled ld_handle_controlnets(struct ld_exchange *ex);
enum ld_handled ld_handle_wildcards(struct ld_exchange *ex);

/* handle_models.c */
enum ld_handled ld_handle_model_load(struct ld_exchange *ex);
enum ld_handled ld_handle_model_unload(struct ld_exchange *ex);
enum ld_handled ld_handle_rescan(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_refresh(struct ld_exchange *ex);

/* handle_build.c */
enum ld_handled ld_handle_build_start(struct ld_exchange *ex);
enum ld_handled ld_handle_build_get(struct ld_exchange *ex);
enum ld_handled ld_handle_build_cancel(struct ld_exchange *ex);

/* handle_tags.c */
enum ld_handled ld_handle_tags(struct ld_exchange *ex);

/* handle_me.c, handle_admin.c */
enum ld_handled ld_handle_me(struct ld_exchange *ex);
enum ld_handled ld_handle_keys_list(struct ld_exchange *ex);
enum ld_handled ld_handle_keys_add(struct ld_exchange *ex);
enum ld_handled ld_handle_keys_revoke(struct ld_exchange *ex);
enum ld_handled ld_handle_admin_queue(struct ld_exchange *ex);
enum ld_handled ld_handle_admin_drain(struct ld_exchange *ex);

/* handle_metrics.c */
enum ld_handled ld_handle_metrics(struct ld_exchange *ex);

/* handle_meta.c */
enum ld_handled ld_handle_health(struct ld_exchange *ex);
enum ld_handled ld_handle_ready(struct ld_exchange *ex);
enum ld_handled ld_handle_version(struct ld_exchange *ex);
enum ld_handled ld_handle_openapi(struct ld_exchange *ex);
enum ld_handled ld_handle_docs(struct ld_exchange *ex);

/* handle_page.c */
enum ld_handled ld_handle_page(struct ld_exchange *ex);
enum ld_handled ld_handle_page_file(struct ld_exchange *ex);

/* handle_comfy.c */
enum ld_handled ld_handle_comfy_prompt(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_prompt_get(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_queue(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_queue_post(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_interrupt(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_free(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_history(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_history_one(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_history_post(struct ld_exchange *ex);

/* handle_comfy_files.c */
enum ld_handled ld_handle_comfy_view(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_upload(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_upload_mask(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_object_info(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_object_info_one(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_embeddings(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_models(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_models_in(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_system_stats(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_features(struct ld_exchange *ex);
enum ld_handled ld_handle_comfy_extensions(struct ld_exchange *ex);

/* handle_comfy_ws.c */
enum ld_handled ld_handle_comfy_ws(struct ld_exchange *ex);

/* handle_novelai.c */
enum ld_handled ld_handle_novelai_generate(struct ld_exchange *ex);
enum ld_handled ld_handle_novelai_stream(struct ld_exchange *ex);
enum ld_handled ld_handle_novelai_tags(struct ld_exchange *ex);
enum ld_handled ld_handle_novelai_subscription(struct ld_exchange *ex);
enum ld_handled ld_handle_novelai_lacked(struct ld_exchange *ex);

/* handle_upscale.c */
enum ld_handled ld_handle_a1111_extra(struct ld_exchange *ex);
enum ld_handled ld_handle_novelai_upscale(struct ld_exchange *ex);

/* handle_openai.c */
enum ld_handled ld_handle_openai_generate(struct ld_exchange *ex);
enum ld_handled ld_handle_openai_edit(struct ld_exchange *ex);
enum ld_handled ld_handle_openai_vary(struct ld_exchange *ex);
enum ld_handled ld_handle_openai_model(struct ld_exchange *ex);

/* handle_a1111.c */
enum ld_handled ld_handle_a1111_txt2img(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_img2img(struct ld_exchange *ex);

/* handle_a1111_lists.c */
enum ld_handled ld_handle_a1111_png_info(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_interrogate(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_samplers(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_schedulers(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_models(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_vaes(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_loras(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_embeddings(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_upscalers(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_latent_modes(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_empty_list(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_scripts(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_script_info(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_memory(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_flags(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_keep(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_models(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_modules(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_types(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_version(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_settings(struct ld_exchange *ex);
enum ld_handled ld_handle_controlnet_detect(struct ld_exchange *ex);

/* handle_a1111_state.c */
enum ld_handled ld_handle_a1111_progress(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_interrupt(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_skip(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_options(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_options_post(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_task_progress(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_tasks(struct ld_exchange *ex);
enum ld_handled ld_handle_a1111_ping(struct ld_exchange *ex);

#endif
