/*
 * The files a worker has, by name: checkpoints, adapters, embeddings, VAEs, ControlNets and
 * wildcard lists from the configured folders. A name is the path below its folder without the
 * ending; requests name entries and never paths. Scanned at start or on an administrator's word;
 * what is new is hashed, and digests are remembered by path, size, mtime and inode, so an unchanged
 * start hashes nothing.
 *
 *     ld_registry_open(&registry, &folders, &err);
 *     entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "styles/ink");
 */
#ifndef LD_MODEL_REGISTRY_H
#define LD_MODEL_REGISTRY_H

#include "runtime/base/arena.h"
#include "runtime/base/id.h"

enum ld_registry_kind {
    LD_REGISTRY_MODEL,
    LD_REGISTRY_ADAPTER,
    LD_REGISTRY_EMBEDDING,
    LD_REGISTRY_VAE,
    LD_REGISTRY_CONTROLNET,
    LD_REGISTRY_WILDCARD,
    LD_REGISTRY_KIND_COUNT
};

enum { LD_REGISTRY_NAME_MAX = 128 }; /* bytes */

/* "" for a folder that is not configured. `cache_path` keeps digests between starts; "": none. */
struct ld_registry_folders {
    const char *folder[LD_REGISTRY_KIND_COUNT];
    const char *cache_path;
};

/* What changes when the content does; of a model folder the sum, the newest and a mix of its files.
 */
struct ld_registry_stamp {
    uint64_t bytes;
    int64_t modified_ns;
    uint64_t inode;
};

/* Strings live as long as the registry, or until it is scanned again. */
struct ld_registry_entry {
    const char *name; /* "styles/ink" */
    const char *path; /* to open; never shown */
    enum ld_registry_kind kind;
    uint64_t bytes;
    int64_t modified_us; /* since 1970 */
    const char *detail;  /* JSON object of what a listing tells (kind, rank, vectors, ...), "{}" */
    struct ld_registry_stamp stamp;
};

/* A file that lies in its folder but cannot be used. */
struct ld_registry_reject {
    const char *name, *reason; /* a sentence for callers */
};

/* What a second scan found, by kind. */
struct ld_registry_changes {
    uint32_t added[LD_REGISTRY_KIND_COUNT];
    uint32_t removed[LD_REGISTRY_KIND_COUNT];
    uint32_t changed[LD_REGISTRY_KIND_COUNT]; /* another file of that name, or told otherwise */
};

struct ld_registry;
struct ld_weights;

/*
 * Scan all folders (a few levels deep, no symbolic links out of them, files that are not what the
 * folder is for are left out). They may lie in one another: each file belongs to the innermost.
 * Owner    returns owned; ld_registry_close.
 * Errors   LD_E_NOT_FOUND (a configured folder does not exist), LD_E_FORBIDDEN (a folder that
 *          everybody may write to), LD_E_IO, LD_E_NOMEM.
 */
enum ld_code ld_registry_open(struct ld_registry **out, const struct ld_registry_folders *folders,
                              struct ld_error *err) LD_MUST_USE;
void ld_registry_close(struct ld_registry *registry);

/*
 * Scan the folders again, which may be others by now. Entries, their strings and pointers to them
 * are new afterwards; digests are remembered. After a failure everything is as it was.
 * Errors   as ld_registry_open.
 */
enum ld_code ld_registry_rescan(struct ld_registry *registry,
                                const struct ld_registry_folders *folders,
                                struct ld_registry_changes *changes,
                                struct ld_error *err) LD_MUST_USE;

/* The stamp of the file or model folder at `path` as it is now; false if it cannot be read. */
bool ld_registry_stamp_path(const char *path, struct ld_registry_stamp *stamp);
/* That of a model that is open, whatever lies at its path by now. */
void ld_registry_stamp_weights(const struct ld_weights *weights, struct ld_registry_stamp *stamp);
bool ld_registry_stamp_equal(const struct ld_registry_stamp *a, const struct ld_registry_stamp *b);

/* Sorted by name. */
uint32_t ld_registry_count(const struct ld_registry *registry, enum ld_registry_kind kind);
const struct ld_registry_entry *ld_registry_at(const struct ld_registry *registry,
                                               enum ld_registry_kind kind, uint32_t index);
/* Exact name; NULL if there is none. */
const struct ld_registry_entry *ld_registry_find(const struct ld_registry *registry,
                                                 enum ld_registry_kind kind, const char *name);

/* The files that were left out, as far as they were counted. */
uint32_t ld_registry_reject_count(const struct ld_registry *registry, enum ld_registry_kind kind);
const struct ld_registry_reject *ld_registry_reject_at(const struct ld_registry *registry,
                                                       enum ld_registry_kind kind, uint32_t index);

/*
 * Take up a single file that appeared in `folder` after the scan: NAME.safetensors right in it, no
 * link. What is known already stays as it is. Pointers to entries (not their strings) are void
 * afterwards.
 * Errors   LD_E_NOT_FOUND (no such file), LD_E_UNSUPPORTED (not what the folder is for),
 *          LD_E_TOO_LARGE, LD_E_NOMEM.
 */
enum ld_code ld_registry_add(struct ld_registry *registry, const char *folder,
                             enum ld_registry_kind kind, const char *name,
                             struct ld_error *err) LD_MUST_USE;

/*
 * The same of a model or VAE that is open, whatever lies at its path by now: only a file that is
 * new or has changed is read for it. `path` is where it was opened. Errors LD_E_IO.
 */
enum ld_code ld_registry_weights_sha256(struct ld_registry *registry, const char *path,
                                        struct ld_weights *weights, char out[LD_SHA256_HEX_SIZE],
                                        struct ld_error *err) LD_MUST_USE;

/* The digest of a file that has one already; nothing of it is read. False: not known. */
bool ld_registry_sha256_known(const struct ld_registry *registry,
                              const struct ld_registry_entry *entry, char out[LD_SHA256_HEX_SIZE]);

/*
 * Between other work: read about `bytes` more of a file whose digest nobody has needed yet.
 * `learned`: one more is known now. Returns whether there may be more to do.
 */
bool ld_registry_hash_some(struct ld_registry *registry, uint64_t bytes, bool *learned);

/* Keep between starts what was learned since the last time; one write for many small files. The
 * two calls above and ld_registry_close do so by themselves. */
void ld_registry_save_digests(struct ld_registry *registry);

/* Digest of the whole file as it lies there now; hashes on the first call for a new one.
 * Errors LD_E_IO. */
enum ld_code ld_registry_sha256(struct ld_registry *registry, const struct ld_registry_entry *entry,
                                char out[LD_SHA256_HEX_SIZE], struct ld_error *err) LD_MUST_USE;

#endif
