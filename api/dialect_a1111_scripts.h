/*
 * The scripts of A1111 and its extensions that a body switches on (`alwayson_scripts`), as far as
 * latentd does what they do: Forge's deep shrink and TIPO; ControlNet has a file of its own
 * (dialect_a1111_control.h). Any other that is on is refused; those that are off are passed over.
 *
 * Source: the order of arguments in Forge's `sd_forge_kohya_hrfix` and in KohakuBlueleaf's
 * `z-tipo-extension`.
 */
#ifndef LD_API_DIALECT_A1111_SCRIPTS_H
#define LD_API_DIALECT_A1111_SCRIPTS_H

#include "api/dialect.h"

/* `scripts`: the body's member, NULL where it has none. */
void ld_a1111_translate_scripts(struct ld_translation *t, const struct ld_json_tree *tree,
                                const struct ld_json_node *scripts);

#endif
