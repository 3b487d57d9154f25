# The tiny checkpoint of the golden cases, made in the build folder by tests/golden/run.sh.
add_executable(make_golden_model ${CMAKE_SOURCE_DIR}/tests/tools/make_golden_model.c)
target_link_libraries(make_golden_model PRIVATE ld_test_tools)
set_target_properties(make_golden_model PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/tools)
