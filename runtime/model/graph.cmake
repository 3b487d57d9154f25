# The networks: operator lists, their memory plan, packed weights, and the model on top.
add_library(ld_model STATIC
  ../gpu/plan_mem.c
  graph.c graph_layers.c graph_ranges.c graph_run.c weight_set.c
  clip.c unet.c unet_blocks.c unet_encoder.c control.c unet_freeu.c unet_sag.c vae_graph.c
  taesd.c plan_cache.c model.c model_text.c model_unet.c model_vae.c model_cost.c model_need.c)
target_link_libraries(ld_model PUBLIC ld_weights ld_sample ld_kernels ld_base)
