#include "tests/cuda/networks.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned passed, failed;

void network_report(const char *about, const char *claim, bool holds, double figure)
{
    printf("%s %s: %s (%.3g)\n", holds ? "ok  " : "FAIL", about, claim, figure);
    *(holds ? &passed : &failed) += 1;
}

int network_end(void)
{
    printf("%u passed, %u failed\n", passed, failed);
    return failed || passed == 0 ? 1 : 0;
}

void network_stop(const char *what, const struct ld_error *err)
{
    printf("FAIL %s: %s\n", what, err->detail);
    exit(1);
}

void network_open(struct network *on, const char *path, const char *backend, const char *precision)
{
    struct ld_error err = {0};
    const struct ld_device_choice choice = {
        .backend = backend, .precision = precision, .threads = 1};
    if (ld_device_open(&on->backend, &choice, NULL, &err) != LD_OK ||
        ld_model_open(&on->model, on->backend, path, NULL, &err) != LD_OK)
        network_stop(backend, &err);
}

void network_open_streamed(struct network *on, const char *path)
{
    network_open(on, path, "cuda", "fp16");
    ld_model_stream(on->model);
    network_report("a model", "is streamed", ld_model_is_streamed(on->model), 0);
}

void network_close(struct network *on)
{
    ld_model_destroy(on->model);
    on->backend->ops->destroy(on->backend);
}
