# The description of a generation: its table, setters and canonical text. Below `api` and the engine.
add_library(ld_params STATIC
  ${CMAKE_SOURCE_DIR}/runtime/params.c
  ${CMAKE_SOURCE_DIR}/runtime/params_set.c
  ${CMAKE_SOURCE_DIR}/runtime/params_text.c
  ${CMAKE_SOURCE_DIR}/runtime/params_json.c)
target_link_libraries(ld_params PUBLIC ld_config ld_base)
