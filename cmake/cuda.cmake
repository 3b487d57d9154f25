# The CUDA backend is its own work item; the option is settled here so that every build says
# plainly what it does.
set(LATENTD_WITH_CUDA OFF)
if(LATENTD_CUDA STREQUAL "ON")
  message(FATAL_ERROR "LATENTD_CUDA=ON: this version has no CUDA backend yet; use AUTO or OFF")
elseif(NOT LATENTD_CUDA MATCHES "^(AUTO|OFF)$")
  message(FATAL_ERROR "LATENTD_CUDA must be AUTO, ON or OFF, not '${LATENTD_CUDA}'")
endif()
message(STATUS "CUDA backend: not built; the CPU backend is used")
