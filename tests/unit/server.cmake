ld_unit_test(test_clock ld_base)
ld_unit_test(test_id ld_base)
ld_unit_test(test_log ld_base PkgConfig::JANSSON)
ld_unit_test(test_fsx ld_base)
