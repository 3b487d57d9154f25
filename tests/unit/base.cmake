ld_unit_test(test_arena ld_base)
ld_unit_test(test_bytes ld_base)
ld_unit_test(test_json_find ld_base)
