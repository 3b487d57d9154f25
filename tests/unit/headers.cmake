# Every header compiles alone: as C11, and as C++17 where a C++ compiler is there.
function(ld_header_check name language)
  add_test(NAME unit/headers_${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/headers.sh
    ${language} ${ARGN} -D_GNU_SOURCE -Wall -Wextra -Werror)
  set_tests_properties(unit/headers_${name} PROPERTIES LABELS fast TIMEOUT 120)
endfunction()

ld_header_check(c11 c ${CMAKE_C_COMPILER} -std=c11 -Wpedantic)
find_program(LATENTD_CXX NAMES g++ clang++ c++)
if(LATENTD_CXX)
  ld_header_check(cxx17 c++ ${LATENTD_CXX} -std=c++17)
endif()

# No two libraries define the same name.
set(LATENTD_LIBRARIES)
foreach(library ld_base ld_config ld_params ld_kernels ld_sample ld_text ld_tipo ld_png_meta ld_image
    ld_ipc ld_weights ld_model ld_runtime ld_api ld_server)
  if(TARGET ${library})
    list(APPEND LATENTD_LIBRARIES $<TARGET_FILE:${library}>)
  endif()
endforeach()
add_test(NAME unit/symbols_are_unique
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/unit/symbols.sh ${LATENTD_LIBRARIES})
set_tests_properties(unit/symbols_are_unique PROPERTIES LABELS fast TIMEOUT 60)
