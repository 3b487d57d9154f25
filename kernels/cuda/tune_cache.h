/*
 * What a tuner has decided, in memory and in a file that outlives the process. A file belongs to
 * one device with one set of versions; anything else in its place (another device's, a newer
 * format, a damaged or a hostile file) is left alone and the table starts empty.
 *
 * The file is text, one thing a line, words divided by single blanks:
 *
 *     latentd-tune 1
 *     identity <the whole identity>
 *     class <signature, hexadecimal> <class key>
 *     unit <candidate> <signature> <nanoseconds> <runner-up or -> <nanoseconds> <unit key>
 *     crc32c <eight digits, of every byte before this line>
 *
 * Lines that begin with another word are ignored, so a later version may add some. Later lines
 * replace earlier ones of the same key.
 */
#ifndef LDK_TUNE_CACHE_H
#define LDK_TUNE_CACHE_H

#include "kernels/cuda/tune.h"
#include "runtime/base/bytes.h"

enum {
    LDK_TUNE_FILE_BYTES_MAX = 4 << 20,
    LDK_TUNE_ENTRIES_MAX = 8192,
    LDK_TUNE_IDENTITY_SIZE = 256,
    LDK_TUNE_FILE_NAME_SIZE = 40
};

/* What a decision holds for. */
struct ldk_tune_identity {
    char device[96];
    int32_t sm_count, driver, cublaslt, cudnn; /* versions; 0: not there */
    char build[33];                            /* of the kernels */
    bool idle; /* decided in idle times, among kernels that give the default's bits */
};

/* One line; characters that are not printable ASCII become '?'. */
void ldk_tune_identity_text(const struct ldk_tune_identity *identity,
                            char out[LDK_TUNE_IDENTITY_SIZE]);
/* "tune-0123abcd....txt", or "idle-...", different for different identities. */
void ldk_tune_file_name(const struct ldk_tune_identity *identity,
                        char out[LDK_TUNE_FILE_NAME_SIZE]);

struct ldk_tune_class {
    char key[LDK_TUNE_KEY_SIZE];
    uint32_t signature;
};

struct ldk_tune_entry {
    char key[LDK_TUNE_KEY_SIZE];
    struct ldk_tune_choice choice;
};

/* Owned by one thread. Zero-initialised is a valid empty table. Entries are few hundred. */
struct ldk_tune_cache {
    struct ldk_tune_class *classes;
    struct ldk_tune_entry *entries;
    uint32_t class_count, class_capacity, entry_count, entry_capacity;
    bool changed; /* since it was read or written */
};

void ldk_tune_cache_deinit(struct ldk_tune_cache *cache);

const struct ldk_tune_choice *ldk_tune_cache_choice(const struct ldk_tune_cache *cache,
                                                    const char *key);
bool ldk_tune_cache_signature(const struct ldk_tune_cache *cache, const char *class_key,
                              uint32_t *signature);

/* Is any choice a library's? */
bool ldk_tune_cache_names_library(const struct ldk_tune_cache *cache);

/* Errors   LD_E_NOMEM, LD_E_TOO_LARGE (LDK_TUNE_ENTRIES_MAX). */
enum ld_code ldk_tune_cache_put_choice(struct ldk_tune_cache *cache, const char *key,
                                       const struct ldk_tune_choice *choice,
                                       struct ld_error *err) LD_MUST_USE;
enum ld_code ldk_tune_cache_put_signature(struct ldk_tune_cache *cache, const char *class_key,
                                          uint32_t signature, struct ld_error *err) LD_MUST_USE;

/*
 * Take what a file holds; on any error the table is empty.
 * Errors   LD_E_FORMAT (not such a file, damaged, values out of range), LD_E_CONFLICT (of another
 *          identity), LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ldk_tune_cache_parse(struct ldk_tune_cache *cache, struct ld_span text,
                                  const struct ldk_tune_identity *identity,
                                  struct ld_error *err) LD_MUST_USE;

/*
 * Read from a folder. No file gives an empty table; a file that cannot be used too, with a warning
 * in the log (without one where this user may not read it, but with a line): nothing depends on it
 * but time.
 */
void ldk_tune_cache_read(struct ldk_tune_cache *cache, const char *folder,
                         const struct ldk_tune_identity *identity);

/* Whether the folder holds decisions of any device, those of idle times left out. */
bool ldk_tune_cache_any(const char *folder);

/* Replace the file as a whole (the folder is made where it lacks); nothing where nothing changed.
 * By root, it is the folder's owner's.
 * Errors   those of the file system, LD_E_NOMEM. */
enum ld_code ldk_tune_cache_write(struct ldk_tune_cache *cache, const char *folder,
                                  const struct ldk_tune_identity *identity,
                                  struct ld_error *err) LD_MUST_USE;

#endif
