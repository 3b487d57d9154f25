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
