# Turns files into C arrays: ld_embed(TARGET SYMBOL FILE...) adds a source to TARGET that defines
# `ld_embedded_SYMBOL` of config/embedded.h. Run as a script (cmake -P) it writes that source.
if(CMAKE_SCRIPT_MODE_FILE)
  set(rows "")
  set(arrays "")
  set(index 0)
  string(REPLACE "|" ";" FILES "${FILES}")
  foreach(file IN LISTS FILES)
    get_filename_component(name "${file}" NAME)
    file(READ "${file}" hex HEX)
    string(REGEX REPLACE "(................................)" "\\1\n    " hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
    string(APPEND arrays "static const uint8_t file_${index}[] = {\n    ${hex}0};\n\n")
    string(APPEND rows "    {\"${name}\", file_${index}, sizeof file_${index} - 1},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  file(WRITE "${OUT}" "#include \"config/embedded.h\"\n\n${arrays}"
    "const struct ld_embedded ld_embedded_${SYMBOL}[] = {\n${rows}};\n\n"
    "const uint32_t ld_embedded_${SYMBOL}_count = ${index};\n")
  return()
endif()

function(ld_embed target symbol)
  set(files "")
  foreach(file IN LISTS ARGN)
    list(APPEND files ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embedded_${symbol}.c)
  string(REPLACE ";" "|" joined "${files}") # a list would be torn apart on the way
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DSYMBOL=${symbol} "-DFILES=${joined}"
            -P ${CMAKE_CURRENT_FUNCTION_LIST_FILE}
    DEPENDS ${files} ${CMAKE_CURRENT_FUNCTION_LIST_FILE} VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
