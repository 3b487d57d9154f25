# The CUDA backend needs nvcc (CUDA 12.8 or newer knows all the chips below) and the static CUDA
# runtime beside it; no driver, no GPU. AUTO builds it if they are found, ON insists, OFF does not look.
#
# LATENTD_CUDA_ARCHS says for which chips: a list of compute capabilities without the dot, `native`
# (the GPU of this machine), or `release` for all that are supported. The last of the list also comes as
# PTX, from which the driver compiles for chips newer than the list when the program starts; a release
# has PTX for the chips between 10.x and 12.x (11.0), too. A chip that none of it fits is told by
# ld_device_judge.
set(LATENTD_CUDA_ARCHS "80" CACHE STRING "Chips: compute capabilities (80;90), native, or release")
set(LATENTD_CUDA_RELEASE 80 86 89 90 100 120)
set(LATENTD_CUDA_RELEASE_PTX 100)

set(LATENTD_WITH_CUDA OFF)
set(why "LATENTD_CUDA=OFF")
if(NOT LATENTD_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LATENTD_CUDA must be AUTO, ON or OFF, not '${LATENTD_CUDA}'")
elseif(LATENTD_CUDA STREQUAL "AUTO" AND LATENTD_SANITIZE)
  set(why "a sanitizer build")
elseif(NOT LATENTD_CUDA STREQUAL "OFF")
  find_program(LATENTD_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  if(LATENTD_NVCC)
    file(REAL_PATH ${LATENTD_NVCC} nvcc)
    cmake_path(GET nvcc PARENT_PATH toolkit)
    cmake_path(GET toolkit PARENT_PATH toolkit)
    find_path(LATENTD_CUDA_INCLUDE cuda_runtime_api.h HINTS ${toolkit} PATH_SUFFIXES include)
    find_library(LATENTD_CUDART cudart_static HINTS ${toolkit}
      PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib)
  endif()
  find_program(LATENTD_NVCC_CXX NAMES g++ c++)
  if(LATENTD_NVCC AND NOT LATENTD_NVCC_CXX AND NOT DEFINED ENV{NVCC_CCBIN})
    set(why "nvcc calls g++, which is not in PATH; NVCC_CCBIN may name another compiler")
  elseif(LATENTD_NVCC AND LATENTD_CUDA_INCLUDE AND LATENTD_CUDART)
    set(LATENTD_WITH_CUDA ON)
  elseif(LATENTD_NVCC)
    set(why "there is ${LATENTD_NVCC}, but no cuda_runtime_api.h and libcudart_static.a beside it")
  else()
    set(why "nvcc is neither in PATH nor in /usr/local/cuda/bin; CUDA_HOME may name another place")
  endif()
  if(LATENTD_CUDA STREQUAL "ON" AND NOT LATENTD_WITH_CUDA)
    message(FATAL_ERROR "LATENTD_CUDA=ON: ${why}")
  endif()
endif()

if(LATENTD_WITH_CUDA)
  message(STATUS "CUDA backend: ${LATENTD_NVCC}, chips ${LATENTD_CUDA_ARCHS}")
else()
  message(STATUS "CUDA backend: not built (${why}); the CPU backend is used")
endif()

# ---- nvcc ---------------------------------------------------------------------------------------

# Spills and local memory are errors: a kernel that spills is not done. No exceptions, run-time types
# or guarded statics, so that no C++ library is needed at link time.
set(LATENTD_NVCC_FLAGS -std=c++17 -O3 -Werror all-warnings -Xptxas -warn-spills,-warn-lmem-usage
  -Xcompiler -fno-threadsafe-statics,-fno-exceptions,-fno-rtti,-fPIC,-Wall,-Wextra)

function(ld_cuda_arch_flags out)
  set(archs ${LATENTD_CUDA_ARCHS})
  if(archs STREQUAL "native")
    set(${out} -arch=native PARENT_SCOPE)
    return()
  elseif(archs STREQUAL "release")
    set(archs ${LATENTD_CUDA_RELEASE})
  endif()
  set(flags)
  if(archs STREQUAL LATENTD_CUDA_RELEASE)
    set(flags -gencode arch=compute_${LATENTD_CUDA_RELEASE_PTX},code=compute_${LATENTD_CUDA_RELEASE_PTX})
  endif()
  list(GET archs -1 newest)
  foreach(arch IN LISTS archs)
    if(NOT arch MATCHES "^[0-9]+[af]?$")
      message(FATAL_ERROR "LATENTD_CUDA_ARCHS: '${arch}' is no compute capability such as 90")
    endif()
    list(APPEND flags -gencode arch=compute_${arch},code=sm_${arch})
  endforeach()
  list(APPEND flags -gencode arch=compute_${newest},code=compute_${newest})
  set(${out} ${flags} PARENT_SCOPE)
endfunction()

# ld_cuda_objects(OUT [PTX] file.cu...): one nvcc run a file; OUT receives the object files. PTX: they hold
# nothing but the PTX of the oldest chip, as it is written, with the sources' lines.
function(ld_cuda_objects out)
  cmake_parse_arguments(PARSE_ARGV 1 arg "PTX" "" "")
  if(arg_PTX)
    set(archs -gencode arch=compute_80,code=compute_80 -no-compress -lineinfo)
    set(suffix .ptx.o)
  else()
    ld_cuda_arch_flags(archs)
    set(suffix .cu.o)
  endif()
  set(objects)
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    cmake_path(ABSOLUTE_PATH source NORMALIZE OUTPUT_VARIABLE from)
    cmake_path(GET from STEM name)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}${suffix})
    add_custom_command(OUTPUT ${object}
      COMMAND ${LATENTD_NVCC} ${LATENTD_NVCC_FLAGS} ${archs} -I${CMAKE_SOURCE_DIR}
        -MD -MF ${object}.d -c ${from} -o ${object}
      DEPENDS ${from} DEPFILE ${object}.d COMMENT "nvcc ${name}.cu" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()
