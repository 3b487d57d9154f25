# Makers of random checkpoints, and what the golden checks of the networks need of them.
add_library(ld_test_tools STATIC tools/checkpoint_write.c tools/genweights.c)
target_link_libraries(ld_test_tools PUBLIC ld_weights ld_kernels ld_base)

foreach(program golden_check gc_model)
  target_sources(${program} PRIVATE golden_check/gc_models.c golden_check/gc_ops.c)
  target_link_libraries(${program} PRIVATE ld_test_tools)
endforeach()
