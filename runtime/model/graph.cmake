# The networks: operator lists, their memory plan, packed weights, and the model on top.
add_library(ld_model STATIC
  ../gpu/plan_mem.c
  clip.c graph.c graph_layers.c graph_run.c
  unet.c unet_blocks.c unet_freeu.c vae_graph.c weight_set.c)
target_link_libraries(ld_model PUBLIC ld_weights ld_kernels ld_base)
