/*
 * Who has a device to himself, among processes: nothing is measured on a GPU while another process
 * computes on it, whose kernels would be timed too. Processes that compute share an advisory lock
 * on a file of that GPU's, a measurement needs the whole of it.
 *
 *     ldk_device_lock_init(&lock, folder, info.uuid, measures);
 *     ldk_device_lock_share(&lock);          // for as long as there is something to compute
 *     ldk_device_lock_release(&lock);
 *     if (ldk_device_lock_take(&lock)) ...   // for one measurement
 *
 * It only keeps times right: whoever cannot open the file (no folder, no right to write there)
 * computes and measures as if he was alone. What a process that dies had locked is free again
 * (flock(2)). Processes find each other in one folder alone, so they have to be of one user, or of
 * root.
 */
#ifndef LDK_DEVICE_LOCK_H
#define LDK_DEVICE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { LDK_UUID_BYTES = 16, LDK_DEVICE_LOCK_PATH_SIZE = 1088 };

/* Used by one thread at a time. */
struct ldk_device_lock {
    char path[LDK_DEVICE_LOCK_PATH_SIZE]; /* "": none */
    int fd;                               /* -1: not open */
    bool makes;                           /* the folder, where it lacks */
    bool impatient;                       /* waiting was of no use once */
};

/* The file is `folder`/gpu-UUID.lock, made when it is first wanted. `folder` NULL or "": none.
 * `makes`: so is the folder. */
void ldk_device_lock_init(struct ldk_device_lock *lock, const char *folder,
                          const uint8_t uuid[LDK_UUID_BYTES], bool makes);
void ldk_device_lock_deinit(struct ldk_device_lock *lock);

/* Others may share it. Waits for the end of a measurement, a second at most, and goes on without.
 */
void ldk_device_lock_share(struct ldk_device_lock *lock);
/* False: another process shares or has it. What this one shared becomes whole. */
bool ldk_device_lock_take(struct ldk_device_lock *lock);
void ldk_device_lock_release(struct ldk_device_lock *lock);

#endif
