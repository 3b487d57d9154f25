/*
 * Finished plans of a library in files that outlive the process, so that the next one need not
 * compile them again: bytes by key, a file each, in a folder of their own.
 *
 *     ldk_plan_store_init(&store, folder);
 *     if (!ldk_plan_store_read(&store, key, &file, &plan))
 *         ldk_plan_store_write(&store, key, compiled);
 *
 * A file is named after a hash of its key and holds the whole key:
 *
 *     latentd-plan 1
 *     <crc32c of what follows this line> <bytes of the key> <bytes of the plan>, hexadecimal
 *     <key><plan>
 *
 * A plan holds code for a device, so a file counts only if its owner is this process's user or
 * root, nobody else may write it, and every byte is as it was written. Nobody else may read it
 * either: cuDNN 9.19 leaves addresses of its process in what it writes down. What root writes for a
 * worker is therefore the worker's, whose folder it is. What does not count is left alone until its
 * plan is written again. Nothing here is an error: without a folder, with a full or a read-only
 * one, plans are compiled as if there was no store, and the log says so once.
 */
#ifndef LDK_PLAN_STORE_H
#define LDK_PLAN_STORE_H

#include "runtime/base/buffer.h"

enum {
    LDK_PLAN_KEY_SIZE = 512,
    LDK_PLAN_BYTES_MAX = 1 << 20, /* of one; cuDNN 9.19's are 40 to 80 KB */
    /* All plans of SD1.5 for a dozen sizes and numbers of pictures. */
    LDK_PLAN_FILES_MAX = 1024,
    LDK_PLAN_FOLDER_BYTES_MAX = 128 << 20,
    LDK_PLAN_FILE_NAME_SIZE = 48,
    LDK_PLAN_FOLDER_SIZE = 1024
};

/* Owned by one thread; others, in this process or another, may use the same folder. All zero: keeps
 * nothing. */
struct ldk_plan_store {
    char folder[LDK_PLAN_FOLDER_SIZE];
    bool told;   /* of a file that does not count: one line of the log */
    bool closed; /* writing failed: not tried again */
};

/* Plans are kept in `folder`/plans, which is made when the first one is written. */
void ldk_plan_store_init(struct ldk_plan_store *store, const char *folder);

/* "plan-0123abcd....bin" */
void ldk_plan_store_file_name(const char *key, char out[LDK_PLAN_FILE_NAME_SIZE]);

/*
 * One file by its name, whatever else the folder holds. On true `plan` lies within `file`, which
 * the caller has made for LDK_PLAN_FILE_BYTES_MAX and gives back; the file is marked as used.
 */
enum { LDK_PLAN_FILE_BYTES_MAX = LDK_PLAN_BYTES_MAX + LDK_PLAN_KEY_SIZE + 64 };
bool ldk_plan_store_read(struct ldk_plan_store *store, const char *key, struct ld_buffer *file,
                         struct ld_span *plan);

/* Replaces the key's file as a whole. Those that were not used for longest make room first. */
void ldk_plan_store_write(struct ldk_plan_store *store, const char *key, struct ld_span plan);

#endif
