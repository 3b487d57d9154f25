ld_unit_test(test_sampler ld_sample)
ld_unit_test(test_sampler_flow ld_sample)
ld_unit_test(test_schedule ld_sample)
ld_unit_test(test_smea ld_sample)
