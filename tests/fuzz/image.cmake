# The borders of pictures; built only with clang and LATENTD_FUZZ.
foreach(border jpeg_read picture_texts png_meta png_read webp_read)
  add_executable(fuzz_${border} fuzz/fuzz_${border}.c)
  target_link_libraries(fuzz_${border} PRIVATE ld_image PkgConfig::DEFLATE)
  target_compile_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${border} PRIVATE -fsanitize=fuzzer)
endforeach()
