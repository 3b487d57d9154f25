# The borders of requests in every dialect, uploads and files of settings; built only with clang and LATENTD_FUZZ.
foreach(border dialect json_request upload settings)
  add_executable(fuzz_${border} fuzz/fuzz_${border}.c)
  target_link_libraries(fuzz_${border} PRIVATE ld_api)
  target_compile_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
endforeach()
