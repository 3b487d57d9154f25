# The backend's logic over a fake GPU of plain memory and plain loops.
add_library(ld_fake_gpu STATIC cuda/fake_gpu.c cuda/fake_kernels.c)
target_link_libraries(ld_fake_gpu PUBLIC ld_kernels)

ld_unit_test(test_cuda_backend ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_cuda_backend PRIVATE unit/network_fixture.c)
# Whole networks through a fake GPU: 10 s as built for use, minutes under sanitizers.
set_tests_properties(unit/test_cuda_backend PROPERTIES LABELS fast TIMEOUT 700)
ld_unit_test(test_device ld_cuda_backend ld_fake_gpu ld_kernels)
target_sources(test_device PRIVATE ../runtime/gpu/device.c)
target_compile_definitions(test_device PRIVATE LATENTD_WITH_CUDA=1)

# The engine over the same: sources of the fake come before the libraries that hold the real ones.
if(TARGET ld_gpu_host)
  add_executable(test_engine_device unit/test_engine_device.c cuda/fake_gpu.c cuda/fake_kernels.c)
  set_target_properties(test_engine_device PROPERTIES LD_HOST_CUDA ON LINKER_LANGUAGE C)
  target_link_libraries(test_engine_device PRIVATE ld_runtime)
  add_test(NAME unit/test_engine_device
    COMMAND test_engine_device $<TARGET_FILE:make_checkpoint> ${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(unit/test_engine_device PROPERTIES LABELS fast TIMEOUT 120)
endif()
