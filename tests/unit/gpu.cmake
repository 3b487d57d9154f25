# The backend's logic over a fake GPU of plain memory and plain loops.
add_library(ld_fake_gpu STATIC cuda/fake_gpu.c cuda/fake_kernels.c)
target_link_libraries(ld_fake_gpu PUBLIC ld_kernels)

ld_unit_test(test_cuda_backend ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_cuda_backend PRIVATE unit/network_fixture.c)
ld_unit_test(test_device ld_cuda_backend ld_fake_gpu ld_kernels)
target_sources(test_device PRIVATE ../runtime/gpu/device.c)
target_compile_definitions(test_device PRIVATE LATENTD_WITH_CUDA=1)
