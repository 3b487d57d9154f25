# The borders of language model files and of what such a model answers; built only with clang and
# LATENTD_FUZZ.
foreach(name fuzz_gguf fuzz_tipo)
  add_executable(${name} fuzz/${name}.c)
  target_link_libraries(${name} PRIVATE ld_tipo)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
