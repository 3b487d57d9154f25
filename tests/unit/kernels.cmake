ld_unit_test(test_cpu_matmul ld_kernels)
ld_unit_test(test_cpu_determinism ld_kernels)
ld_unit_test(test_cpu_attention ld_kernels)
ld_unit_test(test_cpu_norm ld_kernels)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  add_executable(bench_kernels bench/bench_kernels.c)
  target_link_libraries(bench_kernels PRIVATE ld_kernels)
endif()
