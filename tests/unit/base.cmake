ld_unit_test(test_arena ld_base)
ld_unit_test(test_bytes ld_base)
ld_unit_test(test_json_find ld_base)

# The same claims about the code that stands in for GnuTLS in a minimal build.
add_executable(test_id_minimal unit/test_id.c ${CMAKE_SOURCE_DIR}/runtime/base/id_minimal.c)
target_link_libraries(test_id_minimal PRIVATE ld_base PkgConfig::CMOCKA)
add_test(NAME unit/test_id_minimal COMMAND test_id_minimal)
set_tests_properties(unit/test_id_minimal PROPERTIES LABELS fast TIMEOUT 120)
