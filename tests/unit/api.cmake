ld_unit_test(test_json_scan ld_api PkgConfig::JANSSON)
ld_unit_test(test_fields ld_api)
ld_unit_test(test_native ld_api)

# Documents that come from tables: `gen_contract SOURCE --write` renews them.
add_executable(gen_contract tools/gen_contract.c)
target_link_libraries(gen_contract PRIVATE ld_api PkgConfig::JANSSON)
add_test(NAME unit/documents_are_in_step COMMAND gen_contract ${CMAKE_SOURCE_DIR})
set_tests_properties(unit/documents_are_in_step PROPERTIES LABELS fast TIMEOUT 60)
