/*
 * In how many pieces a picture passes the VAE: what the request says, or with "auto" one piece
 * where memory allows and strips of rows elsewhere, which give the same picture.
 *
 * Source: kernels.md 3.
 */
#ifndef LD_RUNTIME_VAE_FORM_H
#define LD_RUNTIME_VAE_FORM_H

#include "runtime/model/model.h"
#include "runtime/params.h"

/* `height`, `width` in latent cells; `tight`: one piece has been tried and found too little memory.
 */
enum ld_vae_form ld_vae_form_of(enum ld_vae_tiling asked, const struct ld_model *vae, bool encoder,
                                int32_t height, int32_t width, bool tight);

/* "exact", "estimated", "plain", and "whole". */
const char *ld_vae_form_name(enum ld_vae_form form);

/* Bytes that the kernel says can be had without swapping, within this process's control group;
 * SIZE_MAX where it says nothing. `meminfo`, `limit` and `current` are the texts of /proc/meminfo
 * and of the group's memory.max and memory.current. */
size_t ld_memory_available(struct ld_span meminfo, struct ld_span limit, struct ld_span current);

#endif
