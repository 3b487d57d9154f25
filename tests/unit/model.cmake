ld_unit_test(test_plan_mem ld_model)
ld_unit_test(test_model_graph ld_model)
