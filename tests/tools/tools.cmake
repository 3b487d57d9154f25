include(tools/make_checkpoint.cmake)

# What the golden checks of the networks need beside their own family's file.
foreach(program golden_check gc_model)
  target_sources(${program} PRIVATE golden_check/gc_models.c golden_check/gc_ops.c
    golden_check/gc_model_text.c)
  target_link_libraries(${program} PRIVATE ld_test_tools)
endforeach()

add_executable(cpu_vs_torch EXCLUDE_FROM_ALL bench/cpu_vs_torch.c)
target_link_libraries(cpu_vs_torch PRIVATE ld_model)
