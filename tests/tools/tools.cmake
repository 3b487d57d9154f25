include(tools/make_checkpoint.cmake)

# What the golden checks of the networks need beside their own family's file.
foreach(program golden_check gc_model)
  target_sources(${program} PRIVATE golden_check/gc_models.c golden_check/gc_ops.c
    golden_check/gc_model_text.c)
  target_link_libraries(${program} PRIVATE ld_test_tools)
endforeach()

# The networks' cases through the CUDA kernels on the host: tests/cuda/golden.sh.
if(TARGET ld_gpu_host)
  add_executable(gc_model_hostcuda golden_check/main.c golden_check/gc.c golden_check/gc_coverage.c
    golden_check/gc_model.c golden_check/gc_models.c golden_check/gc_ops.c
    golden_check/gc_model_text.c)
  target_compile_definitions(gc_model_hostcuda PRIVATE GC_ONLY=gc_kinds_model)
  set_target_properties(gc_model_hostcuda PROPERTIES LINKER_LANGUAGE C)
  target_link_libraries(gc_model_hostcuda PRIVATE ld_test_tools ld_model ld_text ld_sample
    ld_gpu_host PkgConfig::JANSSON)
endif()

add_executable(cpu_vs_torch EXCLUDE_FROM_ALL bench/cpu_vs_torch.c)
target_link_libraries(cpu_vs_torch PRIVATE ld_model)

add_executable(bench_host_step EXCLUDE_FROM_ALL bench/host_step.c)
target_link_libraries(bench_host_step PRIVATE ld_runtime)
add_executable(bench_host_batch EXCLUDE_FROM_ALL bench/host_batch.c)
target_link_libraries(bench_host_batch PRIVATE ld_runtime)

add_executable(bench_variant EXCLUDE_FROM_ALL bench/variant.c)
target_link_libraries(bench_variant PRIVATE ld_model)

add_executable(bench_pack EXCLUDE_FROM_ALL bench/pack.c)
target_link_libraries(bench_pack PRIVATE ld_cuda_backend ld_fake_gpu ld_model)

add_executable(picture_cost EXCLUDE_FROM_ALL tools/picture_cost.c)
target_link_libraries(picture_cost PRIVATE ld_image)
