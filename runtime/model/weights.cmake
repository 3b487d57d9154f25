add_library(ld_weights STATIC placeholder.c)
target_link_libraries(ld_weights PUBLIC ld_kernels ld_base)
