add_executable(golden_check
  golden_check/main.c golden_check/gc.c golden_check/gc_coverage.c
  golden_check/gc_text.c golden_check/gc_weights.c golden_check/gc_model.c
  golden_check/gc_schedule.c golden_check/gc_noise.c golden_check/gc_guidance.c
  golden_check/gc_traj.c)
target_link_libraries(golden_check PRIVATE ld_runtime PkgConfig::JANSSON)

# One family alone, not built by default: `cmake --build build --target gc_text`.
function(ld_golden_family family)
  add_executable(gc_${family} EXCLUDE_FROM_ALL golden_check/main.c golden_check/gc.c
    golden_check/gc_coverage.c golden_check/gc_${family}.c)
  target_compile_definitions(gc_${family} PRIVATE GC_ONLY=gc_kinds_${family})
  target_link_libraries(gc_${family} PRIVATE ${ARGN} ld_kernels PkgConfig::JANSSON)
endfunction()
ld_golden_family(text ld_text)
ld_golden_family(weights ld_weights)
ld_golden_family(model ld_model ld_text ld_sample ld_gpu)
ld_golden_family(schedule ld_sample)
ld_golden_family(noise ld_sample)
target_sources(gc_noise PRIVATE golden_check/gc_guidance.c)
target_sources(gc_schedule PRIVATE golden_check/gc_traj.c)
