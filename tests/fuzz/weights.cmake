# The borders of model files and of JSON; built only with clang and LATENTD_FUZZ.
foreach(border json safetensors adapter pickle)
  add_executable(fuzz_${border} fuzz/fuzz_${border}.c)
  target_link_libraries(fuzz_${border} PRIVATE ld_weights PkgConfig::JANSSON)
  target_compile_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
endforeach()
target_link_libraries(fuzz_adapter PRIVATE ld_model_fixture)
