/*
 * The verbs of the program. Each takes the arguments from its own name on (argv[0] is the verb),
 * prints what it has to say and returns the exit status: 0 done, 1 failed, 2 wrong usage,
 * 130 interrupted.
 */
#ifndef LD_SERVER_CMD_H
#define LD_SERVER_CMD_H

int ld_cmd_serve(int argc, char **argv);
int ld_cmd_doctor(int argc, char **argv);
int ld_cmd_man(int argc, char **argv);
int ld_cmd_completion(int argc, char **argv);
int ld_cmd_webhook(int argc, char **argv);
int ld_cmd_worker(int argc, char **argv);
int ld_cmd_generate(int argc, char **argv);
int ld_cmd_keys(int argc, char **argv);
int ld_cmd_inspect(int argc, char **argv);
int ld_cmd_png_info(int argc, char **argv);
int ld_cmd_upscale(int argc, char **argv);
int ld_cmd_merge(int argc, char **argv);
int ld_cmd_convert(int argc, char **argv);
/* plan, kernels, step, image: cmd_bench_<what>.c */
int ld_cmd_bench(int argc, char **argv);
int ld_cmd_bench_plan(int argc, char **argv);
int ld_cmd_selftest(int argc, char **argv);

enum { LD_EXIT_OK = 0, LD_EXIT_FAILED = 1, LD_EXIT_USAGE = 2, LD_EXIT_INTERRUPTED = 130 };

#endif
