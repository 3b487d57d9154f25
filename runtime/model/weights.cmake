add_library(ld_weights STATIC safetensors.c safetensors_header.c)
target_link_libraries(ld_weights PUBLIC ld_kernels ld_base)
