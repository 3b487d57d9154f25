# The borders of the server: frames between front and worker, request heads, results of a worker,
# sockets, URLs to be called, the job store beside a model of it; built only with clang and
# LATENTD_FUZZ.
foreach(border frame http_guard store_ops webhook_url ws)
  add_executable(fuzz_${border} fuzz/fuzz_${border}.c)
  target_link_libraries(fuzz_${border} PRIVATE ld_server)
  target_compile_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
endforeach()
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
target_link_libraries(fuzz_webhook_url PRIVATE PkgConfig::CURL)
