add_library(ld_weights STATIC
  safetensors.c safetensors_header.c magic.c hash.c
  arch.c keymap.c alias.c detect_kind.c detect.c
  weights_files.c weights.c weights_scan.c overlay.c)
target_link_libraries(ld_weights PUBLIC ld_kernels ld_base)
