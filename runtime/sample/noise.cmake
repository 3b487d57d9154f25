# Random numbers, guidance and resampling: the part of ld_sample that holds no sampler.
set(LD_SAMPLE_NOISE_SOURCES
  brownian.c mt19937.c noise.c noise_normal.c philox.c seed_sequence.c slerp.c
  guidance.c guidance_area.c guidance_attention.c guidance_freeu.c guidance_math.c
  guidance_range.c guidance_threshold.c
  deep_shrink.c resize.c resize_bislerp.c resize_taps.c)

# Its loops over eight lanes are worth vectorising, which gcc leaves out at -O2.
set_source_files_properties(noise_normal.c PROPERTIES COMPILE_OPTIONS "-O3")
