# Sources of kernels/cuda that tests build in over another device.
set(tuner_sources ../kernels/cuda/tuned.c ../kernels/cuda/tuned_bench.c ../kernels/cuda/tuned_candidates.c
  ../kernels/cuda/tuned_operands.c)
set(libs_sources ../kernels/cuda/libs.c ../kernels/cuda/libs_conv.c ../kernels/cuda/libs_matmul.c)

# The backend's logic over a fake GPU of plain memory and plain loops.
add_library(ld_fake_gpu STATIC cuda/fake_gpu.c cuda/fake_kernels.c cuda/fake_tuner.c)
target_link_libraries(ld_fake_gpu PUBLIC ld_kernels)

ld_unit_test(test_cuda_backend ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_cuda_backend PRIVATE unit/network_fixture.c)
# Whole networks through a fake GPU: 10 s as built for use, minutes under sanitizers.
set_tests_properties(unit/test_cuda_backend PROPERTIES LABELS fast TIMEOUT 700)
ld_unit_test(test_cuda_ring ld_kernels)
ld_unit_test(test_cuda_stream ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_cuda_stream PRIVATE unit/network_fixture.c)
set_tests_properties(unit/test_cuda_stream PROPERTIES TIMEOUT 700) # as test_cuda_backend
ld_unit_test(test_device ld_cuda_backend ld_fake_gpu ld_kernels)
target_sources(test_device PRIVATE ../runtime/gpu/device.c ${libs_sources})
target_link_libraries(test_device PRIVATE ${CMAKE_DL_LIBS})
target_compile_definitions(test_device PRIVATE LATENTD_WITH_CUDA=1)

ld_unit_test(test_taesd ld_cuda_backend ld_fake_gpu ld_model)

# The real tuner over the same, with a cuBLASLt of plain loops where its header is.
foreach(test test_libs test_tuner_idle)
  ld_unit_test(${test} ld_cuda_backend ld_kernels)
  target_sources(${test} PRIVATE unit/tuner_fixture.c unit/folder_fixture.c cuda/fake_gpu.c
    cuda/fake_kernels.c ${tuner_sources} ${libs_sources})
  target_link_libraries(${test} PRIVATE ${CMAKE_DL_LIBS})
endforeach()
if(LATENTD_CUDA_INCLUDE)
  file(STRINGS ${LATENTD_CUDA_INCLUDE}/cublas_api.h major REGEX "^#define CUBLAS_VER_MAJOR ")
  string(REGEX REPLACE "[^0-9]" "" major "${major}")
  add_library(fake_cublaslt SHARED cuda/fake_cublaslt.c)
  target_link_libraries(fake_cublaslt PRIVATE ld_options)
  set_target_properties(fake_cublaslt PROPERTIES OUTPUT_NAME cublasLt SUFFIX .so.${major}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fake_libs)
  target_include_directories(fake_cublaslt SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
  foreach(test test_libs test_tuner_idle)
    target_include_directories(${test} SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
    set_target_properties(${test} PROPERTIES ENABLE_EXPORTS ON)
    add_dependencies(${test} fake_cublaslt)
    set_tests_properties(unit/${test} PROPERTIES
      ENVIRONMENT LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/fake_libs)
  endforeach()
endif()

# The same tuner, with libraries that do nothing.
ld_unit_test(test_tuner_plans ld_cuda_backend ld_kernels)
target_sources(test_tuner_plans PRIVATE unit/folder_fixture.c cuda/fake_gpu.c cuda/fake_kernels.c ${tuner_sources})

# What the real libraries say of our calls, where they are. cuDNN opens the driver, for which the toolkit's
# stub will do as long as nothing is compiled, and keeps memory that nothing frees.
ld_unit_test(test_libs_real ld_fake_gpu ld_cuda_backend ld_kernels)
target_sources(test_libs_real PRIVATE unit/cudnn_fixture.c ${libs_sources})
target_link_libraries(test_libs_real PRIVATE ${CMAKE_DL_LIBS})
set_tests_properties(unit/test_libs_real PROPERTIES ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
if(LATENTD_CUDA_INCLUDE)
  target_include_directories(test_libs_real SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
  find_file(LATENTD_DRIVER_STUB libcuda.so NO_DEFAULT_PATH
    PATHS ${LATENTD_CUDA_INCLUDE}/../lib64/stubs ${LATENTD_CUDA_INCLUDE}/../lib/stubs)
  mark_as_advanced(LATENTD_DRIVER_STUB)
  if(LATENTD_DRIVER_STUB)
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/driver_stub)
    file(CREATE_LINK ${LATENTD_DRIVER_STUB} ${CMAKE_CURRENT_BINARY_DIR}/driver_stub/libcuda.so.1
      SYMBOLIC)
    set_tests_properties(unit/test_libs_real PROPERTIES
      ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/driver_stub")
  endif()
endif()

# Plans that are compiled in earnest, and what is kept of them.
ld_unit_test(test_plans_real ld_fake_gpu ld_cuda_backend ld_kernels)
target_sources(test_plans_real PRIVATE unit/cudnn_fixture.c unit/folder_fixture.c ${libs_sources})
target_link_libraries(test_plans_real PRIVATE ${CMAKE_DL_LIBS})
set_tests_properties(unit/test_plans_real PROPERTIES TIMEOUT 300) # tens of compilations
if(LATENTD_CUDA_INCLUDE)
  target_include_directories(test_plans_real SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
  add_library(fake_driver SHARED cuda/fake_driver.c)
  target_link_libraries(fake_driver PRIVATE ld_options)
  set_target_properties(fake_driver PROPERTIES OUTPUT_NAME cuda SUFFIX .so.1
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fake_driver)
  add_dependencies(test_plans_real fake_driver)
  set_tests_properties(unit/test_plans_real PROPERTIES
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;LD_LIBRARY_PATH=${CMAKE_CURRENT_BINARY_DIR}/fake_driver")
endif()

# The engine over the same: sources of the fake come before the libraries that hold the real ones.
if(TARGET ld_gpu_host)
  foreach(name company device encoding memory overflow stream)
    set(test test_engine_${name})
    add_executable(${test} unit/${test}.c unit/engine_fixture.c cuda/fake_gpu.c cuda/fake_kernels.c
      cuda/fake_tuner.c)
    set_target_properties(${test} PROPERTIES LD_HOST_CUDA ON LINKER_LANGUAGE C)
    target_link_libraries(${test} PRIVATE ld_runtime)
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${test}.files)
    add_test(NAME unit/${test}
      COMMAND ${test} $<TARGET_FILE:make_checkpoint> ${CMAKE_CURRENT_BINARY_DIR}/${test}.files)
    set_tests_properties(unit/${test} PROPERTIES LABELS fast TIMEOUT 600)
  endforeach()

  # And the real tuner.
  add_executable(test_engine_tuner unit/test_engine_tuner.c unit/engine_fixture.c cuda/fake_gpu.c
    cuda/fake_kernels.c ${tuner_sources} ${libs_sources})
  set_target_properties(test_engine_tuner PROPERTIES LD_HOST_CUDA ON LINKER_LANGUAGE C)
  target_link_libraries(test_engine_tuner PRIVATE ld_runtime ${CMAKE_DL_LIBS})
  if(LATENTD_CUDA_INCLUDE)
    target_include_directories(test_engine_tuner SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
  endif()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/test_engine_tuner.files)
  add_test(NAME unit/test_engine_tuner COMMAND test_engine_tuner $<TARGET_FILE:make_checkpoint>
    ${CMAKE_CURRENT_BINARY_DIR}/test_engine_tuner.files)
  set_tests_properties(unit/test_engine_tuner PROPERTIES LABELS fast TIMEOUT 600)

  # What a profiler sees of it: without one, and with one where NVTX's header is.
  add_executable(test_ranges unit/test_ranges.c cuda/fake_gpu.c cuda/fake_kernels.c
    cuda/fake_tuner.c)
  set_target_properties(test_ranges PROPERTIES LD_HOST_CUDA ON LINKER_LANGUAGE C)
  target_link_libraries(test_ranges PRIVATE ld_runtime ${CMAKE_DL_LIBS})
  add_test(NAME unit/test_ranges COMMAND test_ranges $<TARGET_FILE:make_checkpoint>
    ${CMAKE_CURRENT_BINARY_DIR}/ranges.safetensors)
  set_tests_properties(unit/test_ranges PROPERTIES LABELS fast)
  if(LATENTD_WITH_CUDA)
    add_library(nvtx_tool SHARED cuda/nvtx_tool.c)
    target_link_libraries(nvtx_tool PRIVATE ld_options)
    target_include_directories(nvtx_tool SYSTEM PRIVATE ${LATENTD_CUDA_INCLUDE})
    add_dependencies(test_ranges nvtx_tool)
    add_test(NAME unit/test_ranges_profiled COMMAND test_ranges $<TARGET_FILE:make_checkpoint>
      ${CMAKE_CURRENT_BINARY_DIR}/ranges_profiled.safetensors $<TARGET_FILE:nvtx_tool>)
    set_tests_properties(unit/test_ranges_profiled PROPERTIES LABELS fast TIMEOUT 300)
  endif()
endif()

# PNGs are made beside the device.
ld_unit_test(test_errands ld_runtime)

# A picture in pieces is the picture in one piece.
ld_unit_test(test_vae_forms ld_runtime ld_test_tools)
target_sources(test_vae_forms PRIVATE unit/network_fixture.c)
set_tests_properties(unit/test_vae_forms PROPERTIES TIMEOUT 700) # under sanitizers

# The least memory of a picture, beside what runs take.
ld_unit_test(test_model_need ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_model_need PRIVATE unit/network_fixture.c)
ld_unit_test(test_control ld_cuda_backend ld_fake_gpu ld_model ld_test_tools)
target_sources(test_control PRIVATE unit/network_fixture.c)
set_tests_properties(unit/test_control PROPERTIES TIMEOUT 700) # as test_cuda_backend
