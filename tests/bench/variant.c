/*
 * Times the making of a weight variant on the CPU backend, as a job with an adapter waits for it.
 *
 *     variant CHECKPOINT ADAPTER [RUNS [THREADS]]
 *
 * Prints seconds of reading and merging, and of packing, run by run. variant.py makes an adapter of
 * any rank over every matrix and convolution of a checkpoint's UNet.
 */
#include "runtime/model/adapter.h"
#include "runtime/model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum ld_code make_variant(struct ld_model *model, const char *path, struct ld_pool *pool,
                                 struct ld_error *err)
{
    struct ld_adapter *adapter = NULL;
    struct ld_weights *overlay = NULL;
    struct ld_variant *variant = NULL;
    struct ld_adapter_report report = {0};
    const struct ld_adapter_options options = {
        .unet_strength = 1, .text_strength = 1, .dora_norm = LD_DORA_MERGED, .pool = pool};
    const double start = now();
    enum ld_code code = ld_adapter_open(&adapter, path, err);
    if (code == LD_OK)
        code = ld_weights_overlay(&overlay, ld_model_weights(model), err);
    if (code == LD_OK)
        code = ld_adapter_apply(adapter, overlay, &options, &report, err);
    const double merged = now();
    if (code == LD_OK)
        code = ld_variant_create(&variant, model, overlay, err);
    if (code == LD_OK)
        code = ld_variant_load(variant, err);
    const double packed = now();
    if (code == LD_OK)
        printf("%u tensors, %u unmatched: %.3f s, of which merging %.3f, packing %.3f, %zu MiB\n",
               report.tensors_applied, report.modules_unmatched, packed - start, merged - start,
               packed - merged, ld_variant_bytes(variant) >> 20);
    ld_variant_destroy(variant);
    ld_weights_close(overlay);
    ld_adapter_close(adapter);
    return code;
}

int main(int argc, char **argv)
{
    struct ld_error err = {0};
    struct ld_backend *backend = NULL;
    struct ld_weights *weights = NULL;
    struct ld_model *model = NULL;
    struct ld_pool *pool = NULL;
    const int runs = argc > 3 ? atoi(argv[3]) : 3;
    const uint32_t threads = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
    if (argc < 3) {
        fputs("usage: variant CHECKPOINT ADAPTER [RUNS [THREADS]]\n", stderr);
        return 2;
    }
    enum ld_code code = ld_cpu_backend_create(&backend, threads, LD_CPU_AUTO, &err);
    if (code == LD_OK)
        code = ld_pool_create(&pool, threads, &err);
    if (code == LD_OK)
        code = ld_weights_open(&weights, argv[1], NULL, &err);
    if (code == LD_OK)
        code = ld_model_create(&model, backend, weights, &err);
    if (code == LD_OK)
        code = ld_model_load(model, LD_PART_UNET, &err);
    for (int i = 0; code == LD_OK && i < runs; i++)
        code = make_variant(model, argv[2], pool, &err);
    if (code != LD_OK)
        fprintf(stderr, "variant: %s\n", err.detail);
    ld_model_destroy(model);
    ld_weights_close(weights);
    ld_pool_destroy(pool);
    if (backend)
        backend->ops->destroy(backend);
    return code == LD_OK ? 0 : 1;
}
