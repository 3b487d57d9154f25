/*
 * The tuner on a device: what tune.h decides from a table, this measures with the launchers of
 * kernels.h and, where they are installed, cuBLASLt and cuDNN (libs.h), on random operands and the
 * caller's own weights.
 *
 *     ldk_tuner_create(&tuner, &(struct ldk_tuner_options){.measure = true}, &err);
 *     ldk_tuner_conv(tuner, &conv, true, true);      // sets conv.variant, may measure first
 *     conv.moments = ldk_conv_tiles(&conv) > 0 ? room : NULL;
 *     ldk_tuned_conv2d(tuner, &conv, stream);        // as ldk_conv2d
 *
 * A NULL tuner leaves the default variant and calls the plain launchers, so callers need no second
 * path. The bits of a process never change once it has begun: in deterministic mode choices
 * depend on shape and device alone (tune.h), what was decided is kept in a file, and what idle
 * times decide are kernels of the same bits.
 *
 * Source: kernels.md 13.
 */
#ifndef LDK_TUNED_H
#define LDK_TUNED_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tune.h"

/* Variants from here on are a library's ways, known to the tuner that chose them. */
enum { LDK_VARIANT_LIBRARY = 1000 };

struct ldk_tuner;

struct ldk_tuner_options {
    int32_t device;
    const char *folder; /* where decisions are kept; NULL: in memory only. Copied */
    bool measure;       /* false: only what the file knows, else the default */
    bool libraries;     /* open cuBLASLt and cuDNN as candidates */
    bool any_bits;      /* not deterministic: a batch size may change the bits of an image */
    bool idle;          /* note what nothing is known of, for ldk_tuner_idle */
    ldk_stream stream;  /* the caller's: waited for before something is measured beside it */
};

/*
 * The device must be current. Owner: returns owned; ldk_tuner_destroy (NULL allowed) writes the
 * file if something was decided. Used by one thread at a time.
 * Errors   LD_E_DEVICE, LD_E_NOMEM.
 */
enum ld_code ldk_tuner_create(struct ldk_tuner **out, const struct ldk_tuner_options *options,
                              struct ld_error *err) LD_MUST_USE;
void ldk_tuner_destroy(struct ldk_tuner *tuner);
/* Write what was decided since the last time. A failure is logged; nothing depends on the file. */
void ldk_tuner_save(struct ldk_tuner *tuner);

/*
 * One measurement that has waited for a time when nobody computes: of a shape that has run with its
 * default, among the variants that give the default's bits and are held to them, on operands and
 * weights of its own. Tens of milliseconds, more for the largest shapes. What is decided is kept in
 * a file beside the other decisions, which win where both know a shape; and a shape whose
 * measurement ends the process stands there as decided, so that it is not measured again.
 *
 * Returns   whether more are waiting.
 */
bool ldk_tuner_idle(struct ldk_tuner *tuner);
/* Is one waiting now? */
bool ldk_tuner_waits(const struct ldk_tuner *tuner);

/*
 * Set the operator's variant. `moments`: the caller will ask for moments of y. `may_measure`: the
 * operator's weights are in place, and nothing is being captured; measuring takes tens of
 * milliseconds and device memory of its own, and leaves the operator's operands alone. Operands
 * need not be there otherwise.
 */
void ldk_tuner_conv(struct ldk_tuner *tuner, struct ldk_conv *conv, bool moments, bool may_measure);
void ldk_tuner_linear(struct ldk_tuner *tuner, struct ldk_linear *linear, bool moments,
                      bool may_measure);
/* Attention has no library among its candidates: ldk_attention runs whatever is set here. */
void ldk_tuner_attention(struct ldk_tuner *tuner, struct ldk_attention *attention,
                         bool may_measure);

/* What was chosen for a shape and what came second, for reports; NULL if nothing is known. */
const struct ldk_tune_choice *ldk_tuner_conv_choice(const struct ldk_tuner *tuner,
                                                    const struct ldk_conv *conv, bool moments);
const struct ldk_tune_choice *ldk_tuner_linear_choice(const struct ldk_tuner *tuner,
                                                      const struct ldk_linear *linear,
                                                      bool moments);
const struct ldk_tune_choice *ldk_tuner_attention_choice(const struct ldk_tuner *tuner,
                                                         const struct ldk_attention *attention);

/* What the latest ldk_tuner_conv, _linear or _attention found; NULL: nothing was known, the default
 * was left. Valid until the next of them. */
const struct ldk_tune_choice *ldk_tuner_latest(const struct ldk_tuner *tuner);

/* Grows when something is given up that the recordings of an earlier run may hold: those must not
 * be launched any more (ldk_libs_plans_lost). And when an idle time has found something better. */
uint64_t ldk_tuner_lost(const struct ldk_tuner *tuner);

/* Device memory that libraries take once a shape runs that they were chosen for: 0 where none is
 * there, or no choice is theirs and none can become theirs. */
size_t ldk_tuner_library_bytes(const struct ldk_tuner *tuner);

/* As the launchers of kernels.h, for any variant that ldk_tuner_* has set. A library's way that is
 * LDK_E_UNSUPPORTED is not chosen by this tuner again; the caller may launch the default instead.
 */
int ldk_tuned_conv2d(struct ldk_tuner *tuner, const struct ldk_conv *conv, ldk_stream stream);
int ldk_tuned_linear(struct ldk_tuner *tuner, const struct ldk_linear *linear, ldk_stream stream);

#endif
