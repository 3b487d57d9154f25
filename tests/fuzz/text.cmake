# The prompt border; built only with clang and LATENTD_FUZZ.
add_executable(fuzz_prompt fuzz/fuzz_prompt.c)
target_link_libraries(fuzz_prompt PRIVATE ld_text)
target_compile_options(fuzz_prompt PRIVATE -fsanitize=fuzzer)
target_link_options(fuzz_prompt PRIVATE -fsanitize=fuzzer)
