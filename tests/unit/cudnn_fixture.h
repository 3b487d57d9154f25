/*
 * The real cuDNN without a GPU: where a handle belongs, the properties of a device stand (its
 * compilation ahead of time). What it refuses fails the test, with its own sentence.
 */
#ifndef CUDNN_FIXTURE_H
#define CUDNN_FIXTURE_H

#include "kernels/cuda/libs_table.h"

#ifdef LDK_HAS_CUDNN
#if CUDNN_MAJOR * 100 + CUDNN_MINOR >= 908 /* plans without a device */
#define HAS_PROPERTIES 1
#endif
#endif

#ifdef HAS_PROPERTIES

/* Its own functions, where a test stands before them. */
extern struct ldk_cudnn real_cudnn;

/* Fill `libs`; false, and a message says why, where there is none or it does not know the device
 * by these words. */
bool open_real_cudnn(struct ldk_libs *libs);
void close_real_cudnn(struct ldk_libs *libs);

/* What stands before cudnnBackendSetAttribute. */
cudnnStatus_t set_without_handle(cudnnBackendDescriptor_t object, cudnnBackendAttributeName_t name,
                                 cudnnBackendAttributeType_t type, int64_t count,
                                 const void *values);
cudnnStatus_t accepted(cudnnStatus_t status, const char *what, int which);

#endif
#endif
