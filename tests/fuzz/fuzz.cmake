# One libFuzzer harness a border, listed by the area that owns the border. Clang only; the libraries
# are instrumented by the top-level option LATENTD_FUZZ.
if(LATENTD_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "LATENTD_FUZZ needs clang (-DCMAKE_C_COMPILER=clang)")
  endif()
  foreach(area weights text tipo api image server)
    include(fuzz/${area}.cmake OPTIONAL)
  endforeach()
endif()
