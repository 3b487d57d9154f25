/*
 * What A1111's infotext says of a ControlNet unit, as its extension says it:
 *
 *     ControlNet 0: "Module: canny, Model: edges [0123abcd], Weight: 0.8, Resize Mode: ..."
 *
 * Source: Mikubill/sd-webui-controlnet, internal_controlnet/args.py (fields and their order),
 * scripts/enums.py (words), scripts/preprocessor (names).
 */
#ifndef LD_IMAGE_INFOTEXT_CONTROL_H
#define LD_IMAGE_INFOTEXT_CONTROL_H

#include "runtime/base/buffer.h"
#include "runtime/params.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LD_INFOTEXT_CONTROL_HASH = 8 }; /* digits of a ControlNet's hash; a checkpoint has 10 */

/* The value behind "ControlNet 0: ", without the quotes. `sha256`: of the model; NULL or "" where
 * unknown. */
void ld_infotext_write_control(struct ld_buffer *out, const struct ld_request_control *unit,
                               const char *sha256);

/* The extension's name of a preprocessor; every kind has one. */
const char *ld_infotext_module(enum ld_hint_kind kind);

#ifdef __cplusplus
}
#endif
#endif
