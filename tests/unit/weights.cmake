add_library(ld_model_fixture STATIC EXCLUDE_FROM_ALL unit/model_fixture.c)
target_link_libraries(ld_model_fixture PUBLIC ld_weights)

ld_unit_test(test_dtype ld_kernels)
ld_unit_test(test_json ld_base)
ld_unit_test(test_safetensors ld_model_fixture)
ld_unit_test(test_weights ld_model_fixture)
ld_unit_test(test_adapter ld_model_fixture)
ld_unit_test(test_keymap ld_weights PkgConfig::JANSSON)
# Full lists for comparison, where the specification lies beside the checkout.
target_compile_definitions(test_keymap PRIVATE LD_SPEC_DIR="${CMAKE_SOURCE_DIR}/../shared/spec")
