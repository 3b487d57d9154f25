ld_unit_test(test_dtype ld_kernels)
ld_unit_test(test_json ld_base)
