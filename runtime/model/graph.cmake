add_library(ld_model STATIC placeholder.c)
target_link_libraries(ld_model PUBLIC ld_weights ld_kernels ld_base)
