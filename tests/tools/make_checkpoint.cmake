# Random checkpoints; tests/gpu includes this without the other tests.
add_library(ld_test_tools STATIC
  ${CMAKE_SOURCE_DIR}/tests/tools/checkpoint_write.c
  ${CMAKE_SOURCE_DIR}/tests/tools/demo_vocabulary.c
  ${CMAKE_SOURCE_DIR}/tests/tools/demo_weights.c
  ${CMAKE_SOURCE_DIR}/tests/tools/genweights.c
  ${CMAKE_SOURCE_DIR}/tests/tools/network_values.c)
target_link_libraries(ld_test_tools PUBLIC ld_weights ld_kernels ld_base)

add_executable(make_checkpoint ${CMAKE_SOURCE_DIR}/tests/tools/make_checkpoint.c)
target_link_libraries(make_checkpoint PRIVATE ld_test_tools)
set_target_properties(make_checkpoint PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/tools)
