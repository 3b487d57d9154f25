/*
 * One program, several verbs; each has a file of its own.
 */
#include "server/cmd.h"
#include "server/verb.h"

#include <stdio.h>
#include <string.h>

static const struct ld_verb verbs[] = {
#ifndef LATENTD_MINIMAL
    {"serve", ld_cmd_serve, "serve pictures over HTTP"},
    {"generate", ld_cmd_generate, "paint a picture, here or on a server"},
    {"keys", ld_cmd_keys, "who may use a server: add, change, revoke, list"},
    {"inspect", ld_cmd_inspect, "say what a checkpoint, adapter, embedding or picture is"},
    {"png-info", ld_cmd_png_info, "say how a picture was made"},
    {"upscale", ld_cmd_upscale, "enlarge a finished picture, without a model"},
    {"merge", ld_cmd_merge, "make one model out of others, bake adapters in"},
    {"convert", ld_cmd_convert, "write a model in another type or layout"},
    {"doctor", ld_cmd_doctor, "look at what a server needs on this machine, and say what to do"},
    {"man", ld_cmd_man, "print the manual"},
    {"completion", ld_cmd_completion, "print a script for the shell's completion"},
    {"worker", ld_cmd_worker, NULL},
    {"webhook", ld_cmd_webhook, NULL},
#endif
    {"bench", ld_cmd_bench, "measure kernels, a step, a picture on this machine"},
    {"selftest", ld_cmd_selftest, "say which backends there are and whether they compute rightly"},
};

const struct ld_verb *ld_verbs(uint32_t *count)
{
    *count = sizeof verbs / sizeof verbs[0];
    return verbs;
}

static void print_help(FILE *out)
{
    (void)fputs("latentd " LATENTD_VERSION ": pictures from SD1.5-family models\n\n"
                "usage: latentd VERB [OPTION]...\n\n",
                out);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (verbs[i].help)
            (void)fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].help);
    }
    (void)fputs("\n`latentd VERB --help` tells more. `latentd --version` prints the version.\n",
                out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return LD_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        (void)puts("latentd " LATENTD_VERSION);
        return LD_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    }
    (void)fprintf(stderr, "latentd: unknown verb '%.40s'\n\n", name);
    print_help(stderr);
    return LD_EXIT_USAGE;
}
