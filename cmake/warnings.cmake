# Warnings are errors everywhere. -Wconversion and -Wsign-conversion stay: mixed signedness is the
# commonest memory-safety defect in this field.
set(LATENTD_WARNINGS -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wcast-qual -Wwrite-strings
  -Wformat=2 -Wundef -Wvla -Walloca -Wswitch-enum -Wimplicit-fallthrough -Wdouble-promotion
  -Wnull-dereference -Wconversion -Wsign-conversion)
set(LATENTD_HARDENING -fstack-protector-strong -fstack-clash-protection)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64")
  list(APPEND LATENTD_HARDENING -fcf-protection)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT LATENTD_SANITIZE)
  list(APPEND LATENTD_HARDENING -D_FORTIFY_SOURCE=2)
endif()
if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
  # clang has no -Walloca before 17; it knows the rest. Its -Wnull-dereference is a different check.
  list(REMOVE_ITEM LATENTD_WARNINGS -Walloca)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
