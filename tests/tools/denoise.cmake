# A denoiser from the command line, for the tests of tests/pipeline that know it in numpy.
add_executable(denoise ${CMAKE_SOURCE_DIR}/tests/tools/denoise.c)
target_link_libraries(denoise PRIVATE ld_model)
set_target_properties(denoise PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/tools)
