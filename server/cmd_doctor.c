/*
 * `latentd doctor`: looks at everything that a server needs on this machine (settings, folders,
 * models, ports, memory, disk, CPU, GPU, limits), says what it found in one line each, and what to
 * do about what is wrong. It changes nothing and may run beside a server.
 */
#include "config/limits.h"
#include "kernels/cpu/cpuid.h"
#include "runtime/base/clock.h"
#include "runtime/base/fsx.h"
#include "runtime/gpu/device.h"
#include "runtime/tipo/language.h"
#include "server/cmd.h"
#include "server/cmd_options.h"
#include "server/keyring.h"
#include "server/listen.h"
#include "server/sandbox.h"
#include "server/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum verdict { GOOD, NOTE, WRONG }; /* NOTE: works, but look at it */

enum { LINE_MAX_BYTES = 1024, ENTRIES_MAX = 100000, FILES_WANTED = 4096 };

static const uint64_t gib = UINT64_C(1) << 30;
static const uint64_t disk_floor = UINT64_C(2) << 30;

struct doctor {
    const struct ld_settings *settings;
    bool json;
    uint32_t counts[3];
    struct ld_buffer out;
    uint64_t largest_model; /* bytes */
};

static void say(struct doctor *doctor, enum verdict verdict, const char *topic, const char *advice,
                const char *format, ...) LD_PRINTF(5, 6);

static void say(struct doctor *doctor, enum verdict verdict, const char *topic, const char *advice,
                const char *format, ...)
{
    static const char *const marks[] = {"ok   ", "note ", "WRONG"};
    static const char *const words[] = {"ok", "note", "wrong"};
    char found[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(found, sizeof found, format, args);
    va_end(args);
    doctor->counts[verdict]++;
    if (!doctor->json) {
        ld_buffer_format(&doctor->out, "%s %-9s %s\n", marks[verdict], topic, found);
        if (advice[0])
            ld_buffer_format(&doctor->out, "                %s\n", advice);
        return;
    }
    ld_buffer_format(&doctor->out, "%s{\"verdict\":\"%s\",\"topic\":\"%s\",\"found\":",
                     doctor->counts[GOOD] + doctor->counts[NOTE] + doctor->counts[WRONG] > 1 ? ","
                                                                                             : "",
                     words[verdict], topic);
    ld_buffer_json_string(&doctor->out, found);
    ld_buffer_text(&doctor->out, ",\"advice\":");
    ld_buffer_json_string(&doctor->out, advice);
    ld_buffer_text(&doctor->out, "}");
}

static double in_gib(uint64_t bytes)
{
    return (double)bytes / (double)gib;
}

/* ---- Settings and keys ----------------------------------------------------------------------- */

static void look_at_settings(struct doctor *doctor)
{
    const struct ld_settings *settings = doctor->settings;
    const bool loopback = settings->unix_socket[0] || ld_address_is_loopback(settings->bind);
    struct ld_state place;
    struct ld_keyring *keys = NULL;
    struct ld_error err = {0};
    bool has_keys = false;
    if (ld_state_place(&place, settings, &err) == LD_OK &&
        ld_keyring_open(&keys, place.dir, &err) == LD_OK)
        has_keys = ld_keyring_is_configured(keys);
    else
        say(doctor, WRONG, "keys", "Mend or remove the file of keys in the state folder.", "%s",
            err.detail);
    ld_keyring_close(keys);
    if (ld_settings_check(settings, has_keys, &err) != LD_OK)
        say(doctor, WRONG, "settings", "", "%s", err.detail);
    else
        say(doctor, GOOD, "settings", "", "they fit together; %s",
            has_keys ? "callers need a key"
                     : "there is no key: everybody on this machine may call");
    if (geteuid() == 0)
        say(doctor, loopback ? NOTE : WRONG, "user",
            "Run it as a user of its own (deploy/latentd.service).", "this is root%s",
            loopback ? "" : ", which may listen on loopback only");
    if (!settings->sandbox)
        say(doctor, NOTE, "sandbox", "Set it unless CUDA's MPS is used.", "server.sandbox is off");
    else if (!ld_sandbox_possible())
        say(doctor, NOTE, "sandbox",
            "The shipped unit's IPAddressDeny does as much for connections.",
            "this kernel has no seccomp filters");
    else
        say(doctor, GOOD, "sandbox", "", "server and workers will open no connection");
    if (ld_clock_wall_us() / 1000000 < INT64_C(1704067200)) /* 2024-01-01 */
        say(doctor, WRONG, "clock", "Set the clock; retention and certificates go by it.",
            "the clock says a time before 2024");
}

/* ---- Folders --------------------------------------------------------------------------------- */

static void look_at_disk(struct doctor *doctor, const char *path)
{
    struct statvfs disk;
    if (statvfs(path, &disk) != 0)
        return;
    const uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (free_bytes < disk_floor)
        say(doctor, NOTE, "disk",
            "Free space, or lower store.result_mib_per_key and store.retention_days.",
            "%.1f GiB are free where pictures are stored", in_gib(free_bytes));
    else
        say(doctor, GOOD, "disk", "", "%.1f GiB are free where pictures are stored",
            in_gib(free_bytes));
    if (disk.f_files > 0 && disk.f_favail < 1000)
        say(doctor, NOTE, "disk", "Free inodes: many small files lie on this file system.",
            "only %llu more files can be made", (unsigned long long)disk.f_favail);
}

/* Whether files can be made there: a nameless one that is gone at once (open(2), O_TMPFILE). */
static bool can_write(const char *path)
{
    const int fd = open(path, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EOPNOTSUPP || errno == EISDIR; /* cannot be told here */
    (void)close(fd);
    return true;
}

/* The nearest folder above that exists: where the missing ones would be made. */
static void existing_parent(char *path)
{
    struct stat info;
    while (path[0] && stat(path, &info) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) {
            path[1] = '\0';
            return;
        }
        *slash = '\0';
    }
}

static void look_at_state(struct doctor *doctor)
{
    struct ld_state state;
    struct ld_error err = {0};
    struct stat info;
    char lock_path[4200];
    if (ld_state_place(&state, doctor->settings, &err) != LD_OK) {
        say(doctor, WRONG, "state", "Give --state-dir FOLDER.", "%s", err.detail);
        return;
    }
    const bool there = stat(state.dir, &info) == 0;
    (void)ld_fmt(lock_path, sizeof lock_path, "%s/lock", state.dir);
    if (there && ld_state_check_folder(state.dir, "store.dir", &err) != LD_OK)
        say(doctor, WRONG, "state", "chmod o-w on it.", "%s", err.detail);
    const int lock = open(lock_path, O_RDONLY | O_CLOEXEC);
    if (lock >= 0) {
        if (flock(lock, LOCK_SH | LOCK_NB) != 0)
            say(doctor, NOTE, "state", "Fine if it is the one you mean; two cannot share it.",
                "a server is running on %s", state.dir);
        (void)close(lock);
    }
    existing_parent(state.dir);
    if (can_write(state.dir))
        say(doctor, GOOD, "state", "", "%s %s", state.dir,
            there ? "can be written" : "can hold it");
    else
        say(doctor, WRONG, "state",
            "Give it to the user of the server, or choose another --state-dir.",
            "%s cannot be written by this user", state.dir);
    look_at_disk(doctor, state.dir);
}

static bool ends_with(const char *name, const char *end)
{
    const size_t size = strlen(name);
    const size_t end_size = strlen(end);
    return size > end_size && strcmp(name + size - end_size, end) == 0;
}

/* Files of models at the top of a folder; the largest is remembered. */
static uint32_t count_models(struct doctor *doctor, DIR *folder)
{
    uint32_t count = 0;
    const struct dirent *entry;
    for (int i = 0; i < ENTRIES_MAX && (entry = readdir(folder)); i++) {
        struct stat info;
        if (!ends_with(entry->d_name, ".safetensors") ||
            fstatat(dirfd(folder), entry->d_name, &info, 0) != 0 || !S_ISREG(info.st_mode))
            continue;
        count++;
        if ((uint64_t)info.st_size > doctor->largest_model)
            doctor->largest_model = (uint64_t)info.st_size;
    }
    return count;
}

static void look_at_folder(struct doctor *doctor, const char *setting, const char *path)
{
    struct ld_error err = {0};
    if (!path[0])
        return;
    DIR *folder = opendir(path);
    if (!folder) {
        say(doctor, WRONG, "models", "Make it, give the right to read it, or mend the setting.",
            "%s: the folder %s cannot be read", setting, path);
        return;
    }
    const uint32_t count = count_models(doctor, folder);
    (void)closedir(folder);
    if (ld_state_check_folder(path, setting, &err) != LD_OK)
        say(doctor, WRONG, "models",
            "chmod o-w on it: whoever writes there decides what is loaded.", "%s", err.detail);
    else
        say(doctor, GOOD, "models", "", "%s: %u .safetensors files in %s", setting, count, path);
}

/* Read as a worker reads it when the first prompt is to be extended. */
static void look_at_tipo(struct doctor *doctor)
{
    const char *path = doctor->settings->tipo_model;
    struct ld_language *language = NULL;
    struct ld_error err = {0};
    if (!path[0])
        return;
    if (ld_language_open(&language, path, 1, &err) != LD_OK) {
        say(doctor, WRONG, "models", "Mend models.tipo_model (--tipo-model).",
            "the TIPO model %s cannot be used: %s", path, err.detail);
        return;
    }
    const struct ld_language_facts *facts = ld_language_facts(language);
    say(doctor, GOOD, "models", "", "TIPO model %s: %.3g million parameters, %.3g MB", path,
        (double)facts->parameters / 1e6, (double)facts->bytes / 1e6);
    ld_language_close(language);
}

static void look_at_models(struct doctor *doctor)
{
    const struct ld_settings *settings = doctor->settings;
    const struct {
        const char *name, *path;
    } folders[] = {{"models.dir", settings->model_dir},
                   {"models.adapter_dir", settings->adapter_dir},
                   {"models.embedding_dir", settings->embedding_dir},
                   {"models.vae_dir", settings->vae_dir},
                   {"models.controlnet_dir", settings->controlnet_dir},
                   {"models.wildcard_dir", settings->wildcard_dir},
                   {"models.manifest_dir", settings->manifest_dir}};
    struct stat info;
    if (!settings->model_dir[0] && !settings->model[0])
        say(doctor, WRONG, "models",
            "Give --model-dir FOLDER or --model FILE; deploy/demo_model/files has a small one.",
            "no folder of models and no model are set");
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        look_at_folder(doctor, folders[i].name, folders[i].path);
    if (settings->model[0] && strchr(settings->model, '/')) {
        if (stat(settings->model, &info) != 0)
            say(doctor, WRONG, "models", "Mend models.model (--model).", "there is no file %s",
                settings->model);
        else if (S_ISREG(info.st_mode) && (uint64_t)info.st_size > doctor->largest_model)
            doctor->largest_model = (uint64_t)info.st_size;
    }
    if (settings->vocab[0] && stat(settings->vocab, &info) != 0)
        say(doctor, WRONG, "models", "deploy/get_clip_vocab.sh --to FILE fetches it.",
            "the vocabulary %s is not there", settings->vocab);
    look_at_tipo(doctor);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

static void look_at_port(struct doctor *doctor, int64_t port)
{
    struct ld_error err = {0};
    int fd = -1;
    const int64_t wanted = port;
    if (port == 0)
        return;
    if (ld_listen_tcp(doctor->settings->bind, &port, &fd, &err) == LD_OK) {
        (void)close(fd);
        say(doctor, GOOD, "port", "", "%s:%lld is free", doctor->settings->bind, (long long)wanted);
    } else if (err.code == LD_E_CONFLICT) {
        say(doctor, NOTE, "port",
            "Fine if that is latentd itself; else choose another with --port.", "%s:%lld is in use",
            doctor->settings->bind, (long long)wanted);
    } else {
        say(doctor, WRONG, "port", "Mend server.bind and server.port.", "%s", err.detail);
    }
}

static void look_at_sockets(struct doctor *doctor)
{
    const struct ld_settings *settings = doctor->settings;
    struct ld_span item;
    size_t pos = 0;
    if (settings->unix_socket[0]) {
        char folder[4096];
        char *slash = ld_fmt(folder, sizeof folder, "%s", settings->unix_socket)
                          ? strrchr(folder, '/')
                          : NULL;
        if (slash)
            *(slash == folder ? slash + 1 : slash) = '\0';
        if (slash && can_write(folder))
            say(doctor, GOOD, "port", "", "a socket can be made in %s", folder);
        else
            say(doctor, WRONG, "port", "Make the folder and give it to the server's user.",
                "no socket can be made at %s", settings->unix_socket);
        return;
    }
    look_at_port(doctor, settings->port);
    while (ld_settings_list_next(settings->also_listen, &pos, &item)) {
        int64_t port;
        if (!ld_parse_i64(item, &port) || port < 0 || port > 65535)
            say(doctor, WRONG, "port", "", "server.also_listen must be ports between 0 and 65535");
        else
            look_at_port(doctor, port);
    }
}

/* ---- The machine ----------------------------------------------------------------------------- */

/* "MemAvailable:   123 kB" of proc(5), in bytes; 0 if it cannot be told. */
static uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[256];
    uint64_t kib = 0;
    for (int i = 0; file && i < 64 && fgets(line, sizeof line, file); i++) {
        static const char name[] = "MemAvailable:";
        if (strncmp(line, name, sizeof name - 1) != 0)
            continue;
        const char *value = line + sizeof name - 1 + strspn(line + sizeof name - 1, " ");
        if (!ld_parse_u64(ld_span_of(value, strcspn(value, " \n")), &kib))
            kib = 0;
        break;
    }
    if (file)
        (void)fclose(file);
    return kib * 1024;
}

/* The limit of the control group (cgroup v2), 0: none. */
static uint64_t memory_limit(void)
{
    struct ld_buffer text = ld_buffer_make(256);
    struct ld_error err = {0};
    uint64_t bytes = 0;
    if (ld_fsx_read_file("/sys/fs/cgroup/memory.max", &text, &err) != LD_OK ||
        !ld_parse_u64(ld_span_of(text.data, strcspn(text.data, "\n")), &bytes))
        bytes = 0;
    ld_buffer_deinit(&text);
    return bytes;
}

static void look_at_memory(struct doctor *doctor)
{
    const uint64_t limit = memory_limit();
    uint64_t bytes = memory_available();
    /* Half precision on disk becomes float32 in memory, packed once; a picture comes on top. */
    const uint64_t wanted = 2 * doctor->largest_model + gib;
    if (limit > 0 && limit < bytes)
        bytes = limit;
    if (bytes == 0)
        return;
    if (bytes < wanted)
        say(doctor, NOTE, "memory", "Close other programs, take a smaller model, or use a GPU.",
            "%.1f GiB are available; the largest model on a CPU may take %.1f GiB", in_gib(bytes),
            in_gib(wanted));
    else
        say(doctor, GOOD, "memory", "", "%.1f GiB are available", in_gib(bytes));
}

static void look_at_cpu(struct doctor *doctor)
{
    static const char *const names[LD_CPU_LEVELS] = {"none",    "plain C", "AVX2",
                                                     "AVX-512", "AMX",     "NEON"};
    const enum ld_cpu_level level = ld_cpuid_best_level();
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (level <= LD_CPU_GENERIC)
        say(doctor, NOTE, "cpu",
            "Pictures take many times as long; a CPU with AVX2 or a GPU helps.",
            "%ld cores, and none of the fast instruction sets", cores);
    else
        say(doctor, GOOD, "cpu", "", "%ld cores, level %s", cores, names[level]);
    if (doctor->settings->threads > cores)
        say(doctor, NOTE, "cpu", "More threads than cores are slower; 0 takes one a core.",
            "worker.threads is %lld", (long long)doctor->settings->threads);
}

static void look_at_gpu(struct doctor *doctor)
{
    struct ld_device_facts facts;
    struct ld_error err = {0};
    const char *backend = doctor->settings->backend;
    if (strcmp(backend, "cpu") == 0) {
        say(doctor, GOOD, "gpu", "", "not asked for (worker.backend = cpu)");
        return;
    }
    const char *streamed = doctor->settings->stream_weights;
    ld_device_look(&facts, strcmp(streamed, "off") == 0, 0);
    if (ld_device_judge(&facts, &err) == LD_OK) {
        say(doctor, GOOD, "gpu", "",
            "%s, compute capability %d.%d, driver for CUDA %d.%d, %.1f of %.1f GiB free; weights "
            "are "
            "streamed: %s",
            facts.name, facts.major, facts.minor, facts.driver_version / 1000,
            facts.driver_version % 1000 / 10, in_gib(facts.memory_free), in_gib(facts.memory_total),
            streamed);
        if (facts.capable > 1)
            say(doctor, GOOD, "gpus", "", "%d are new enough; a server starts a worker for each",
                facts.capable);
        return;
    }
    say(doctor, strcmp(backend, "cuda") == 0 ? WRONG : NOTE, "gpu",
        strcmp(backend, "cuda") == 0 ? "Mend that, or set worker.backend = auto."
                                     : "Pictures are painted by the CPU.",
        "%s", err.detail);
}

static void look_at_limits(struct doctor *doctor)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_max < FILES_WANTED)
        say(doctor, NOTE, "limits", "Raise it: ulimit -Hn 8192, or LimitNOFILE= in the unit.",
            "at most %llu files may be open; %d connections want %d",
            (unsigned long long)files.rlim_max, LD_CONNECTIONS_MAX, FILES_WANTED);
    else
        say(doctor, GOOD, "limits", "", "enough files may be open");
}

/* ---- The verb -------------------------------------------------------------------------------- */

static int examine(struct doctor *doctor)
{
    if (doctor->json)
        ld_buffer_text(&doctor->out, "{\"checks\":[");
    look_at_settings(doctor);
    look_at_state(doctor);
    look_at_models(doctor);
    look_at_sockets(doctor);
    look_at_memory(doctor);
    look_at_cpu(doctor);
    look_at_gpu(doctor);
    look_at_limits(doctor);
    if (doctor->json)
        ld_buffer_format(&doctor->out, "],\"ok\":%u,\"notes\":%u,\"wrong\":%u}\n",
                         doctor->counts[GOOD], doctor->counts[NOTE], doctor->counts[WRONG]);
    else
        ld_buffer_format(&doctor->out, "%u good, %u to look at, %u wrong\n", doctor->counts[GOOD],
                         doctor->counts[NOTE], doctor->counts[WRONG]);
    (void)fputs(doctor->out.failed ? "out of memory\n" : doctor->out.data, stdout);
    return doctor->counts[WRONG] > 0 || doctor->out.failed ? LD_EXIT_FAILED : LD_EXIT_OK;
}

/* Takes --json out of the arguments; the rest is as for `serve`. */
static bool take_json(int *argc, char **argv)
{
    bool found = false;
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            found = true;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    return found;
}

int ld_cmd_doctor(int argc, char **argv)
{
    struct ld_cmd_options options;
    struct ld_error err = {0};
    struct doctor doctor = {.out = ld_buffer_make(1 << 20)};
    int status = LD_EXIT_FAILED;
    doctor.json = take_json(&argc, argv);
    const enum ld_code code = ld_cmd_options_read(&options, argc, argv, &err);
    doctor.settings = &options.settings;
    if (code != LD_OK) {
        /* A setting that cannot be read is the first thing to know. */
        (void)fprintf(stderr, "latentd doctor: %s\n", err.detail);
        status = code == LD_E_INVALID || code == LD_E_NOT_FOUND ? LD_EXIT_USAGE : LD_EXIT_FAILED;
    } else if (options.help) {
        struct ld_buffer text = ld_buffer_make(64 * 1024);
        ld_buffer_text(&text,
                       "usage: latentd doctor [--json] [OPTION]...\n\nLooks at what a server "
                       "with these options needs on this machine and says what\nto do about "
                       "what is wrong; status 1 if anything is. Changes nothing.\n\n"
                       "  --json               one JSON document instead of lines\n");
        ld_cmd_options_help(&text);
        (void)fputs(text.failed ? "" : text.data, stdout);
        ld_buffer_deinit(&text);
        status = LD_EXIT_OK;
    } else {
        status = examine(&doctor);
    }
    ld_buffer_deinit(&doctor.out);
    ld_cmd_options_deinit(&options);
    return status;
}
