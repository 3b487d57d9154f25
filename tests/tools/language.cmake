# A language model from the command line, for the tests of tests/pipeline that know it in numpy.
add_executable(language ${CMAKE_SOURCE_DIR}/tests/tools/language.c)
target_link_libraries(language PRIVATE ld_tipo)
set_target_properties(language PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/tools)
