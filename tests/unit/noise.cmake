ld_unit_test(test_noise ld_sample)
ld_unit_test(test_guidance ld_sample)
ld_unit_test(test_resize ld_sample)
