ld_unit_test(test_fields ld_api)
ld_unit_test(test_native ld_api)
