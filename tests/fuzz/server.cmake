# The borders of the server: frames between front and worker, request heads, results of a worker;
# built only with clang and LATENTD_FUZZ.
foreach(border frame http_guard png_strip)
  add_executable(fuzz_${border} fuzz/fuzz_${border}.c)
  target_link_libraries(fuzz_${border} PRIVATE ld_server)
  target_compile_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
endforeach()
