ld_unit_test(test_noise ld_sample)
