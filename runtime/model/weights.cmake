add_library(ld_weights STATIC
  safetensors.c safetensors_header.c safetensors_write.c magic.c hash.c
  arch.c keymap.c alias.c detect_kind.c detect.c
  weights_files.c inventory.c weights.c weights_scan.c overlay.c
  adapter.c adapter_names.c adapter_delta.c adapter_rows.c adapter_apply.c lowrank.c
  zip_store.c pickle_machine.c pickle.c embedding.c merge.c merge_bake.c merge_model.c
  out_file.c model_notes.c model_write.c model_write_folder.c vocabulary.c convert.c
  describe.c digest_cache.c digester.c registry_look.c registry_scan.c registry.c
  registry_digest.c)
target_link_libraries(ld_weights PUBLIC ld_kernels ld_base)
if(NOT LATENTD_MINIMAL) # `inspect` also reads pictures
  target_sources(ld_weights PRIVATE inspect.c inspect_text.c)
  target_link_libraries(ld_weights PRIVATE ld_image)
endif()

# The loops over whole weights are worth vectorising; -O2 leaves them scalar.
set_source_files_properties(adapter_delta.c adapter_rows.c lowrank.c merge.c weights_scan.c
  PROPERTIES COMPILE_OPTIONS -O3)
