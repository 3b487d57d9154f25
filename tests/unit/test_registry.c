/*
 * Proves that folders become names exactly, that links and foreign files stay out, and that an
 * unchanged file is hashed once. Folders are laid out in a temporary place.
 */
#include "runtime/model/registry.h"

#include "runtime/base/fsx.h"
#include "runtime/base/log.h"
#include "runtime/model/digest_cache.h"
#include "runtime/model/digester.h"
#include "runtime/model/hash.h"
#include "runtime/model/registry_scan.h"
#include "tests/unit/model_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct fixture fixture;
static char root[256];
static char paths[LD_REGISTRY_KIND_COUNT][300];

static const char *const kinds[LD_REGISTRY_KIND_COUNT] = {"models", "adapters",    "embeddings",
                                                          "vaes",   "controlnets", "wildcards"};

static int set_up(void **state)
{
    (void)state;
    fixture_folder(root);
    for (int i = 0; i < LD_REGISTRY_KIND_COUNT; i++) {
        if (!ld_fmt(paths[i], sizeof paths[i], "%s/%s", root, kinds[i]) ||
            mkdir(paths[i], 0700) != 0)
            return 1;
    }
    ld_log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ld_log_set_fd(-1);
    fixture_remove_folder(root);
    return 0;
}

static void write_lora(const char *path)
{
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "lora_unet_conv_in.lora_up.weight", LD_DTYPE_F16, 320, 2);
    fixture_add_matrix(&fixture, "lora_unet_conv_in.lora_down.weight", LD_DTYPE_F16, 2, 36);
    fixture_write(&fixture, path);
}

static void write_embedding(const char *path)
{
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "emb_params", LD_DTYPE_F16, 2, 32);
    fixture_write(&fixture, path);
}

/* A bare single file, as far as names tell; `context`: values of a prompt's vector. */
static void write_controlnet(const char *path, uint64_t context)
{
    const uint64_t shape[4] = {8, 4, 3, 3};
    memset(&fixture, 0, sizeof fixture);
    fixture_add(&fixture, "input_blocks.0.0.weight", LD_DTYPE_F16, 4, shape);
    fixture_add_matrix(&fixture, "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
                       LD_DTYPE_F16, 8, context);
    fixture_add_matrix(&fixture, "zero_convs.0.0.weight", LD_DTYPE_F16, 8, 8);
    fixture_write(&fixture, path);
}

static struct ld_registry *open_registry(const char *cache)
{
    struct ld_registry *registry;
    struct ld_error err = {0};
    struct ld_registry_folders folders = {.cache_path = cache};
    for (int i = 0; i < LD_REGISTRY_KIND_COUNT; i++)
        folders.folder[i] = paths[i];
    if (ld_registry_open(&registry, &folders, &err) != LD_OK)
        fail_msg("%s", err.detail);
    return registry;
}

static void folders_become_names(void **state)
{
    (void)state;
    const char *const adapters = paths[LD_REGISTRY_ADAPTER];
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_write(&fixture, fixture_path(paths[LD_REGISTRY_MODEL], "nai.v2.safetensors"));
    fixture_remove(&fixture, "model.");
    fixture_remove(&fixture, "cond_stage_model.");
    fixture_write(&fixture, fixture_path(paths[LD_REGISTRY_VAE], "soft.safetensors"));
    fixture_write(&fixture, fixture_path(paths[LD_REGISTRY_MODEL], "only_vae.safetensors"));
    assert_int_equal(mkdir(fixture_path(adapters, "styles"), 0700), 0);
    write_lora(fixture_path(adapters, "styles/ink.safetensors"));
    write_lora(fixture_path(adapters, "B.safetensors"));
    write_lora(fixture_path(adapters, "a.safetensors"));
    write_lora(fixture_path(adapters, ".hidden.safetensors"));
    write_lora(fixture_path(adapters, "back\\slash.safetensors"));
    fixture_text(fixture_path(adapters, "fake.safetensors"), "<html>", 6);
    fixture_text(fixture_path(adapters, "readme.txt"), "x", 1);
    write_embedding(fixture_path(paths[LD_REGISTRY_EMBEDDING], "bad.safetensors"));
    write_embedding(fixture_path(paths[LD_REGISTRY_EMBEDDING], "bad.pt"));
    write_controlnet(fixture_path(paths[LD_REGISTRY_CONTROLNET], "canny.safetensors"), 768);
    fixture_text(fixture_path(paths[LD_REGISTRY_WILDCARD], "colour.txt"), "red\n", 4);
    assert_int_equal(symlink(fixture_path(adapters, "a.safetensors"),
                             fixture_path(adapters, "link.safetensors")),
                     0);
    assert_int_equal(symlink("/", fixture_path(adapters, "slash")), 0);

    struct ld_registry *registry = open_registry("");
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_MODEL), 1);
    assert_string_equal(ld_registry_at(registry, LD_REGISTRY_MODEL, 0)->name, "nai.v2");
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_ADAPTER), 3);
    assert_string_equal(ld_registry_at(registry, LD_REGISTRY_ADAPTER, 0)->name, "B");
    assert_string_equal(ld_registry_at(registry, LD_REGISTRY_ADAPTER, 1)->name, "a");
    assert_string_equal(ld_registry_at(registry, LD_REGISTRY_ADAPTER, 2)->name, "styles/ink");
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_VAE), 1);
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_CONTROLNET), 1);
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_WILDCARD), 1);
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_EMBEDDING), 1); /* one of two forms */
    const struct ld_registry_entry *entry =
        ld_registry_find(registry, LD_REGISTRY_EMBEDDING, "bad");
    assert_non_null(entry);
    assert_non_null(strstr(entry->path, ".safetensors"));
    assert_non_null(strstr(entry->detail, "\"vectors\":2"));
    entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "styles/ink");
    assert_non_null(entry);
    assert_true(entry->bytes > 0 && entry->modified_us > 0);
    assert_non_null(strstr(entry->detail, "\"rank\":{\"min\":2,\"max\":2}"));
    static const char *const absent[] = {"A",  "ink", "styles/../a", "styles//ink", "a.safetensors",
                                         "..", "",    "link",        "/a"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_null(ld_registry_find(registry, LD_REGISTRY_ADAPTER, absent[i]));
    ld_registry_close(registry);
}

static const char *reason_of(const struct ld_registry *registry, enum ld_registry_kind kind,
                             const char *name)
{
    for (uint32_t i = 0; i < ld_registry_reject_count(registry, kind); i++) {
        const struct ld_registry_reject *reject = ld_registry_reject_at(registry, kind, i);
        if (strcmp(reject->name, name) == 0)
            return reject->reason;
    }
    return "";
}

static void controlnets_are_told_from_their_kin(void **state)
{
    (void)state;
    enum { SD2, SDXL, LORA, CHECKPOINT, DIFFUSERS, BROKEN, CUT, FILES };
    static const struct {
        const char *name, *reason;
    } refused[FILES] = {
        [SD2] = {"sd2", "the file is a ControlNet for SD2, not a ControlNet for SD1.5"},
        [SDXL] = {"sdxl", "the file is a ControlNet for SDXL, not a ControlNet for SD1.5"},
        [LORA] = {"lora", "the file is an adapter, not a ControlNet for SD1.5"},
        [CHECKPOINT] = {"nai", "the file is a checkpoint, not a ControlNet for SD1.5"},
        [DIFFUSERS] = {"t2i", "the file is a T2I adapter, not a ControlNet for SD1.5"},
        [BROKEN] = {"other", "the file holds no ControlNet"},
        [CUT] = {"page", "web page"},
    };
    const enum ld_registry_kind kind = LD_REGISTRY_CONTROLNET;
    struct ld_error err = {0};
    struct ld_registry *registry;
    char top[300];
    char folder[320];
    assert_true(ld_fmt(top, sizeof top, "%s/steered", root));
    assert_true(ld_fmt(folder, sizeof folder, "%s/controlnets", top));
    assert_int_equal(mkdir(top, 0700) | mkdir(folder, 0700), 0);
    assert_int_equal(mkdir(fixture_path(folder, "v1"), 0700), 0);
    write_controlnet(fixture_path(folder, "v1/canny.safetensors"), 768);
    write_controlnet(fixture_path(folder, "sd2.safetensors"), 1024);
    write_controlnet(fixture_path(folder, "sdxl.safetensors"), 2048);
    write_controlnet(fixture_path(top, "astray.safetensors"), 768);
    write_lora(fixture_path(folder, "lora.safetensors"));
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_write(&fixture, fixture_path(folder, "nai.safetensors"));
    fixture_write(&fixture, fixture_path(top, "nai.safetensors"));
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "body.0.block1.weight", LD_DTYPE_F16, 8, 8);
    fixture_write(&fixture, fixture_path(folder, "t2i.safetensors"));
    fixture_rename(&fixture, "body.0.block1.", "something.");
    fixture_write(&fixture, fixture_path(folder, "other.safetensors"));
    fixture_text(fixture_path(folder, "page.safetensors"), "<!DOCTYPE html>", 15);
    fixture_text(fixture_path(folder, "old.pth"), "x", 1);
    /* As small as a test's: it says so. */
    write_controlnet(fixture_path(folder, "tiny.safetensors"), 1024);
    fixture_note(&fixture, "latentd.test_config", fixture_config);
    fixture_write(&fixture, fixture_path(folder, "tiny.safetensors"));

    const struct ld_registry_folders folders = {
        .folder = {[LD_REGISTRY_MODEL] = top, [LD_REGISTRY_CONTROLNET] = folder},
    };
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    assert_int_equal(ld_registry_count(registry, kind), 2);
    assert_string_equal(ld_registry_at(registry, kind, 0)->name, "tiny");
    const struct ld_registry_entry *entry = ld_registry_find(registry, kind, "v1/canny");
    assert_non_null(entry);
    assert_non_null(strstr(entry->detail, "\"kind\":\"controlnet\""));
    assert_true(entry->bytes > 0 && entry->modified_us > 0);
    assert_int_equal(ld_registry_reject_count(registry, kind), FILES);
    for (int i = 0; i < FILES; i++)
        assert_non_null(strstr(reason_of(registry, kind, refused[i].name), refused[i].reason));
    /* In the folder of checkpoints it is none, and those in its own folder are not looked at. */
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_MODEL), 1);
    assert_int_equal(ld_registry_reject_count(registry, LD_REGISTRY_MODEL), 1);
    assert_non_null(strstr(reason_of(registry, LD_REGISTRY_MODEL, "astray"), "controlnet"));
    char digest[2][LD_SHA256_HEX_SIZE];
    assert_int_equal(ld_registry_sha256(registry, entry, digest[0], &err), LD_OK);
    assert_int_equal(ld_hash_path(entry->path, digest[1], &err), LD_OK);
    assert_string_equal(digest[0], digest[1]);
    ld_registry_close(registry);
}

/* Where files of other kinds are looked for, it says why it is not one. */
static void a_controlnet_among_others_is_refused(void **state)
{
    (void)state;
    static const enum ld_registry_kind others[] = {LD_REGISTRY_VAE, LD_REGISTRY_ADAPTER,
                                                   LD_REGISTRY_EMBEDDING};
    char folder[300];
    struct ld_error err = {0};
    assert_true(ld_fmt(folder, sizeof folder, "%s/elsewhere", root));
    assert_int_equal(mkdir(folder, 0700), 0);
    write_controlnet(fixture_path(folder, "canny.safetensors"), 768);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct ld_registry *registry;
        struct ld_registry_folders folders = {.cache_path = ""};
        folders.folder[others[i]] = folder;
        assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
        assert_int_equal(ld_registry_count(registry, others[i]), 0);
        assert_true(strlen(reason_of(registry, others[i], "canny")) > 10);
        ld_registry_close(registry);
    }
}

static void a_folder_inside_another_belongs_to_its_own_kind(void **state)
{
    (void)state;
    char outer[300];
    char inner[320];
    struct ld_error err = {0};
    struct ld_registry *registry;
    assert_true(ld_fmt(outer, sizeof outer, "%s/nested", root));
    assert_true(ld_fmt(inner, sizeof inner, "%s/adapters", outer));
    assert_int_equal(mkdir(outer, 0700) | mkdir(inner, 0700), 0);
    assert_int_equal(mkdir(fixture_path(outer, "more"), 0700), 0);
    write_lora(fixture_path(inner, "in.safetensors"));
    write_lora(fixture_path(outer, "more/out.safetensors"));
    struct ld_registry_folders folders = {.folder = {[LD_REGISTRY_ADAPTER] = outer},
                                          .cache_path = ""};
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_ADAPTER), 2);
    ld_registry_close(registry);
    folders.folder[LD_REGISTRY_WILDCARD] = inner;
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    assert_int_equal(ld_registry_count(registry, LD_REGISTRY_ADAPTER), 1);
    assert_non_null(ld_registry_find(registry, LD_REGISTRY_ADAPTER, "more/out"));
    ld_registry_close(registry);
}

static void a_file_that_comes_later_is_taken_up_by_its_name(void **state)
{
    (void)state;
    char folder[300];
    const enum ld_registry_kind kind = LD_REGISTRY_ADAPTER;
    struct ld_error err = {0};
    struct ld_registry *registry;
    assert_true(ld_fmt(folder, sizeof folder, "%s/late", root));
    assert_int_equal(mkdir(folder, 0700), 0);
    write_lora(fixture_path(folder, "m.safetensors"));
    const struct ld_registry_folders folders = {
        .folder = {[LD_REGISTRY_ADAPTER] = folder},
        .cache_path = "",
    };
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    assert_int_equal(ld_registry_count(registry, kind), 1);
    const char *known = ld_registry_find(registry, kind, "m")->name;
    write_lora(fixture_path(folder, "a.safetensors"));
    write_lora(fixture_path(folder, ".hidden.safetensors"));
    fixture_text(fixture_path(folder, "fake.safetensors"), "<html>", 6);
    assert_int_equal(mkdir(fixture_path(folder, "sub"), 0700), 0);
    write_lora(fixture_path(folder, "sub/ink.safetensors"));
    assert_int_equal(
        symlink(fixture_path(folder, "a.safetensors"), fixture_path(folder, "link.safetensors")),
        0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ld_registry_add(registry, folder, kind, "a", &err), LD_OK);
    assert_int_equal(ld_registry_add(registry, folder, kind, "fake", &err), LD_E_UNSUPPORTED);
    static const char *const absent[] = {"none", "link", ".hidden", "sub/ink", "../a", "", "sub"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_int_equal(ld_registry_add(registry, folder, kind, absent[i], &err), LD_E_NOT_FOUND);
    assert_int_equal(ld_registry_add(registry, "", kind, "b", &err), LD_E_NOT_FOUND);
    assert_int_equal(ld_registry_count(registry, kind), 2);
    assert_string_equal(ld_registry_at(registry, kind, 0)->name, "a");
    assert_ptr_equal(ld_registry_at(registry, kind, 1)->name, known); /* strings stay */
    char digest[LD_SHA256_HEX_SIZE];
    assert_int_equal(
        ld_registry_sha256(registry, ld_registry_find(registry, kind, "a"), digest, &err), LD_OK);
    ld_registry_close(registry);
}

static void digests_are_remembered_while_the_file_stays(void **state)
{
    (void)state;
    const char *file = fixture_path(paths[LD_REGISTRY_ADAPTER], "a.safetensors");
    char cache[300];
    char digest[LD_SHA256_HEX_SIZE];
    char again[LD_SHA256_HEX_SIZE];
    struct stat info;
    assert_true(ld_fmt(cache, sizeof cache, "%s/digests", root));
    struct ld_registry *registry = open_registry(cache);
    const struct ld_registry_entry *entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "a");
    assert_int_equal(ld_registry_sha256(registry, entry, digest, NULL), LD_OK);
    ld_registry_close(registry);

    /* A digest of another number under the same key shows that the file is not read again. */
    struct ld_digest_cache *digests;
    char forged[LD_SHA256_HEX_SIZE];
    memset(forged, 'a', sizeof forged - 1);
    forged[sizeof forged - 1] = 0;
    assert_int_equal(stat(file, &info), 0);
    const struct ld_digest_key key = {
        .path = file,
        .bytes = (uint64_t)info.st_size,
        .modified_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec,
        .inode = (uint64_t)info.st_ino,
    };
    assert_int_equal(ld_digest_cache_open(&digests, cache, NULL), LD_OK);
    assert_true(ld_digest_cache_get(digests, &key, again));
    assert_string_equal(again, digest);
    ld_digest_cache_put(digests, &key, forged);
    assert_int_equal(ld_digest_cache_save(digests, NULL), LD_OK);
    ld_digest_cache_close(digests);
    registry = open_registry(cache);
    entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "a");
    assert_int_equal(ld_registry_sha256(registry, entry, again, NULL), LD_OK);
    assert_string_equal(again, forged);
    ld_registry_close(registry);

    const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 5}}; /* another time: read again */
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    registry = open_registry(cache);
    entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "a");
    assert_int_equal(ld_registry_sha256(registry, entry, again, NULL), LD_OK);
    assert_string_equal(again, digest);
    ld_registry_close(registry);
}

static void a_model_folder_is_one_entry_with_a_digest_of_its_files(void **state)
{
    (void)state;
    const char *const models = paths[LD_REGISTRY_MODEL];
    const char *const file = "nai/unet/diffusion_pytorch_model.safetensors";
    char cache[300];
    char digest[LD_SHA256_HEX_SIZE];
    char again[LD_SHA256_HEX_SIZE];
    assert_true(ld_fmt(cache, sizeof cache, "%s/digests", root));
    assert_int_equal(mkdir(fixture_path(models, "nai"), 0700), 0);
    assert_int_equal(mkdir(fixture_path(models, "nai/unet"), 0700), 0);
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_write(&fixture, fixture_path(models, file));
    fixture_text(fixture_path(models, "nai/model_index.json"), "{}", 2);
    struct ld_registry *registry = open_registry(cache);
    const struct ld_registry_entry *entry = ld_registry_find(registry, LD_REGISTRY_MODEL, "nai");
    assert_non_null(entry);
    assert_true(entry->bytes > 100000);
    assert_null(ld_registry_find(registry, LD_REGISTRY_MODEL, "nai/unet/diffusion_pytorch_model"));
    assert_int_equal(ld_registry_sha256(registry, entry, digest, NULL), LD_OK);
    ld_registry_close(registry);
    /* A file inside changes: the folder's own time does not, the digest must. */
    fixture_note(&fixture, "note", "new");
    fixture_write(&fixture, fixture_path(models, file));
    registry = open_registry(cache);
    entry = ld_registry_find(registry, LD_REGISTRY_MODEL, "nai");
    assert_int_equal(ld_registry_sha256(registry, entry, again, NULL), LD_OK);
    assert_string_not_equal(digest, again);
    ld_registry_close(registry);
}

static void an_open_model_is_read_for_its_digest_once(void **state)
{
    (void)state;
    const char *const file = fixture_path(paths[LD_REGISTRY_MODEL], "once.safetensors");
    char cache[300];
    char digest[LD_SHA256_HEX_SIZE];
    char told[LD_SHA256_HEX_SIZE];
    struct ld_weights *weights;
    struct ld_error err = {0};
    assert_true(ld_fmt(cache, sizeof cache, "%s/new/folder/digests", root));
    fixture_model(&fixture, LD_DTYPE_F16);
    fixture_write(&fixture, file);
    for (int start = 0; start < 2; start++) {
        struct ld_registry *registry = open_registry(cache);
        assert_int_equal(ld_weights_open(&weights, file, NULL, &err), LD_OK);
        assert_int_equal(ld_registry_weights_sha256(registry, file, weights, told, &err), LD_OK);
        if (start == 0)
            assert_int_equal(ld_hash_path(file, digest, &err), LD_OK);
        assert_string_equal(told, digest);
        ld_weights_close(weights);
        ld_registry_close(registry);

        /* The second start is told what the cache says. */
        struct ld_digest_cache *digests;
        struct ld_registry_stamp stamp;
        assert_true(ld_registry_stamp_path(file, &stamp));
        const struct ld_digest_key key = {file, stamp.bytes, stamp.modified_ns, stamp.inode};
        assert_int_equal(ld_digest_cache_open(&digests, cache, &err), LD_OK);
        assert_true(ld_digest_cache_get(digests, &key, told));
        memset(digest, 'b', sizeof digest - 1);
        ld_digest_cache_put(digests, &key, digest);
        assert_int_equal(ld_digest_cache_save(digests, &err), LD_OK);
        ld_digest_cache_close(digests);
    }
}

static void caches_of_two_programs_keep_what_the_other_saved(void **state)
{
    (void)state;
    static const char *const a = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char *const b = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const struct ld_digest_key one = {"/one", 1, 2, 3};
    const struct ld_digest_key two = {"/two", 4, 5, 6};
    const struct ld_digest_key forged = {"/x\n/y", 7, 8, 9};
    struct ld_digest_cache *first, *second, *third;
    char cache[300];
    char told[LD_SHA256_HEX_SIZE];
    assert_true(ld_fmt(cache, sizeof cache, "%s/shared", root));
    assert_int_equal(ld_digest_cache_open(&first, cache, NULL), LD_OK);
    assert_int_equal(ld_digest_cache_open(&second, cache, NULL), LD_OK);
    ld_digest_cache_put(first, &one, a);
    ld_digest_cache_put(first, &two, a);
    ld_digest_cache_put(first, &forged, a); /* would be two lines of the file */
    assert_int_equal(ld_digest_cache_save(first, NULL), LD_OK);
    ld_digest_cache_put(second, &two, b);
    assert_int_equal(ld_digest_cache_save(second, NULL), LD_OK);
    assert_int_equal(ld_digest_cache_open(&third, cache, NULL), LD_OK);
    assert_true(ld_digest_cache_get(third, &one, told));
    assert_string_equal(told, a);
    assert_true(ld_digest_cache_get(third, &two, told));
    assert_string_equal(told, b); /* the later one */
    assert_false(ld_digest_cache_get(first, &forged, told));
    ld_digest_cache_close(first);
    ld_digest_cache_close(second);
    ld_digest_cache_close(third);
}

/* Pieces of a kilobyte until nothing is left; how many digests were learned. */
static uint32_t hash_all(struct ld_registry *registry)
{
    uint32_t count = 0;
    bool learned;
    for (int piece = 0; piece < 100000; piece++) {
        const bool more = ld_registry_hash_some(registry, 1024, &learned);
        count += learned ? 1 : 0;
        if (!more)
            return count;
    }
    fail_msg("there is always more");
    return 0;
}

static void digests_are_made_between_other_work(void **state)
{
    (void)state;
    char cache[300];
    char known[LD_SHA256_HEX_SIZE];
    char whole[LD_SHA256_HEX_SIZE];
    bool learned;
    assert_true(ld_fmt(cache, sizeof cache, "%s/between", root));
    struct ld_registry *registry = open_registry(cache);
    uint32_t files = 0;
    for (int kind = 0; kind < LD_REGISTRY_WILDCARD; kind++)
        files += ld_registry_count(registry, (enum ld_registry_kind)kind);
    assert_true(files >= 4);
    const struct ld_registry_entry *first = ld_registry_at(registry, LD_REGISTRY_MODEL, 0);
    assert_false(ld_registry_sha256_known(registry, first, known));
    assert_true(ld_registry_hash_some(registry, 1024, &learned));
    assert_false(learned); /* there is more in it */

    /* A scan in the midst of a file begins anew, and so does nothing twice. */
    struct ld_registry_changes changes;
    struct ld_registry_folders folders = {.cache_path = cache};
    for (int i = 0; i < LD_REGISTRY_KIND_COUNT; i++)
        folders.folder[i] = paths[i];
    assert_int_equal(ld_registry_rescan(registry, &folders, &changes, NULL), LD_OK);
    assert_int_equal(hash_all(registry), files);
    for (int kind = 0; kind < LD_REGISTRY_WILDCARD; kind++) {
        for (uint32_t i = 0; i < ld_registry_count(registry, (enum ld_registry_kind)kind); i++) {
            struct ld_registry *other = open_registry(""); /* reads each whole */
            const struct ld_registry_entry *entry =
                ld_registry_at(registry, (enum ld_registry_kind)kind, i);
            assert_true(ld_registry_sha256_known(registry, entry, known));
            entry = ld_registry_find(other, (enum ld_registry_kind)kind, entry->name);
            assert_int_equal(ld_registry_sha256(other, entry, whole, NULL), LD_OK);
            assert_string_equal(known, whole);
            ld_registry_close(other);
        }
    }

    /* What one program has read, another one that was open already does not read again. */
    struct ld_registry *late = open_registry("");
    assert_int_equal(hash_all(late), files);
    ld_registry_close(late);
    assert_int_equal(unlink(cache), 0);
    late = open_registry(cache);
    struct ld_registry *other = open_registry(cache);
    assert_int_equal(hash_all(other), files);
    assert_int_equal(hash_all(late), 0);
    ld_registry_close(other);
    ld_registry_close(late);
    ld_registry_close(registry);
}

static void a_file_that_is_written_to_meanwhile_gets_no_digest(void **state)
{
    (void)state;
    const char *const file = fixture_path(paths[LD_REGISTRY_MODEL], "once.safetensors");
    struct ld_error err = {0};
    for (int touched = 0; touched < 2; touched++) {
        struct ld_digester *digester;
        struct ld_registry_stamp stamp;
        char digest[LD_SHA256_HEX_SIZE];
        bool done = false;
        assert_int_equal(ld_digester_begin(&digester, file, true, &err), LD_OK);
        assert_int_equal(ld_digester_step(digester, 1024, &done, &err), LD_OK);
        assert_false(done);
        const struct timespec times[2] = {{.tv_sec = 7}, {.tv_sec = 7}};
        if (touched)
            assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
        assert_int_equal(ld_digester_step(digester, UINT64_MAX, &done, &err), LD_OK);
        assert_true(done);
        assert_int_equal(ld_digester_result(digester, &stamp, digest), !touched);
        ld_digester_end(digester);
    }
}

static void a_damaged_cache_is_an_empty_one(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "nonsense", "latentd digests 2\n",
                                      "latentd digests 1\nzz 1 1 1 /x\nshort\n\n 1 1 1 1\n"};
    const struct ld_digest_key key = {.path = "/x", .bytes = 1, .modified_ns = 1, .inode = 1};
    char digest[LD_SHA256_HEX_SIZE];
    char cache[300];
    assert_true(ld_fmt(cache, sizeof cache, "%s/damaged", root));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ld_digest_cache *digests;
        fixture_text(cache, bad[i], strlen(bad[i]));
        assert_int_equal(ld_digest_cache_open(&digests, cache, NULL), LD_OK);
        assert_false(ld_digest_cache_get(digests, &key, digest));
        ld_digest_cache_close(digests);
    }
}

static void a_second_scan_finds_what_came_went_and_changed(void **state)
{
    (void)state;
    char folder[300];
    char file[320];
    char digest[2][LD_SHA256_HEX_SIZE];
    struct ld_error err = {0};
    struct ld_registry *registry;
    struct ld_registry_changes changes;
    const enum ld_registry_kind kind = LD_REGISTRY_ADAPTER;
    assert_true(ld_fmt(folder, sizeof folder, "%s/again", root));
    assert_int_equal(mkdir(folder, 0700), 0);
    struct ld_registry_folders folders = {.folder = {[LD_REGISTRY_ADAPTER] = folder},
                                          .cache_path = ""};
    write_lora(fixture_path(folder, "gone.safetensors"));
    write_lora(fixture_path(folder, "other.safetensors"));
    write_lora(fixture_path(folder, "same.safetensors"));
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    const struct ld_registry_entry *entry = ld_registry_find(registry, kind, "other");
    assert_int_equal(ld_registry_sha256(registry, entry, digest[0], &err), LD_OK);

    assert_int_equal(ld_registry_rescan(registry, &folders, &changes, &err), LD_OK);
    const struct ld_registry_changes none = {0};
    assert_memory_equal(&changes, &none, sizeof none);

    assert_int_equal(unlink(fixture_path(folder, "gone.safetensors")), 0);
    write_lora(fixture_path(folder, "new.safetensors"));
    fixture_text(fixture_path(folder, "cut.safetensors"), "<html>", 6);
    fixture_text(fixture_path(folder, "same.recipe.conf"), "steps = 4\n", 10);
    memset(&fixture, 0, sizeof fixture);
    fixture_add_matrix(&fixture, "lora_unet_conv_in.lora_up.weight", LD_DTYPE_F16, 320, 4);
    fixture_add_matrix(&fixture, "lora_unet_conv_in.lora_down.weight", LD_DTYPE_F16, 4, 36);
    fixture_write(&fixture, fixture_path(folder, "next"));
    assert_true(ld_fmt(file, sizeof file, "%s/next", folder));
    assert_int_equal(rename(file, fixture_path(folder, "other.safetensors")), 0);
    assert_int_equal(ld_registry_rescan(registry, &folders, &changes, &err), LD_OK);
    assert_int_equal(changes.added[kind], 1);
    assert_int_equal(changes.removed[kind], 1);
    assert_int_equal(changes.changed[kind], 2); /* a recipe came to one of them */
    assert_null(ld_registry_find(registry, kind, "gone"));
    assert_non_null(ld_registry_find(registry, kind, "new"));
    entry = ld_registry_find(registry, kind, "other");
    assert_non_null(strstr(entry->detail, "\"max\":4"));
    assert_int_equal(ld_registry_sha256(registry, entry, digest[1], &err), LD_OK);
    assert_string_not_equal(digest[0], digest[1]);
    assert_int_equal(ld_registry_reject_count(registry, kind), 1);
    assert_string_equal(ld_registry_reject_at(registry, kind, 0)->name, "cut");
    assert_null(strchr(ld_registry_reject_at(registry, kind, 0)->reason, '/'));

    /* A folder that went away, and one that came: the first changes nothing. */
    folders.folder[kind] = fixture_path(root, "none");
    assert_int_equal(ld_registry_rescan(registry, &folders, &changes, &err), LD_E_NOT_FOUND);
    assert_non_null(strstr(err.detail, "the folder of adapters"));
    assert_non_null(ld_registry_find(registry, kind, "new"));
    folders.folder[kind] = "";
    folders.folder[LD_REGISTRY_WILDCARD] = folder;
    assert_int_equal(ld_registry_rescan(registry, &folders, &changes, &err), LD_OK);
    assert_int_equal(changes.removed[kind], 3);
    assert_int_equal(ld_registry_count(registry, kind), 0);
    ld_registry_close(registry);
}

/* Whoever hashes a file that was replaced unseen gets the digest of what lies there. */
static void a_digest_is_that_of_the_file_as_it_is(void **state)
{
    (void)state;
    char folder[300];
    char digest[3][LD_SHA256_HEX_SIZE];
    struct ld_error err = {0};
    struct ld_registry *registry;
    assert_true(ld_fmt(folder, sizeof folder, "%s/unseen", root));
    assert_int_equal(mkdir(folder, 0700), 0);
    const struct ld_registry_folders folders = {.folder = {[LD_REGISTRY_ADAPTER] = folder}};
    write_lora(fixture_path(folder, "a.safetensors"));
    assert_int_equal(ld_registry_open(&registry, &folders, &err), LD_OK);
    const struct ld_registry_entry *entry = ld_registry_find(registry, LD_REGISTRY_ADAPTER, "a");
    assert_int_equal(ld_registry_sha256(registry, entry, digest[0], &err), LD_OK);
    write_embedding(fixture_path(folder, "a.safetensors"));
    assert_int_equal(ld_registry_sha256(registry, entry, digest[1], &err), LD_OK);
    assert_int_equal(ld_hash_path(entry->path, digest[2], &err), LD_OK);
    assert_string_equal(digest[1], digest[2]);
    assert_string_not_equal(digest[0], digest[1]);
    assert_int_equal(unlink(entry->path), 0);
    assert_int_equal(ld_registry_sha256(registry, entry, digest[1], &err), LD_E_IO);
    ld_registry_close(registry);
}

static void unsafe_and_absent_folders_are_refused(void **state)
{
    (void)state;
    struct ld_registry *registry;
    struct ld_registry_folders folders = {.cache_path = ""};
    char open_folder[300];
    assert_true(ld_fmt(open_folder, sizeof open_folder, "%s/open", root));
    assert_int_equal(mkdir(open_folder, 0700), 0);
    assert_int_equal(chmod(open_folder, 0777), 0);
    folders.folder[LD_REGISTRY_ADAPTER] = open_folder;
    assert_int_equal(ld_registry_open(&registry, &folders, NULL), LD_E_FORBIDDEN);
    folders.folder[LD_REGISTRY_ADAPTER] = fixture_path(root, "none");
    assert_int_equal(ld_registry_open(&registry, &folders, NULL), LD_E_NOT_FOUND);
    assert_null(registry);
}

static void names_have_rules(void **state)
{
    (void)state;
    char longest[LD_REGISTRY_NAME_MAX + 2];
    static const char *const good[] = {"a", "a/b", "a b", "\xc3\xa9", "x.y", "a..b"};
    static const char *const bad[] = {"",     "/a",   "a/",   "a//b", ".",    "..",
                                      "a/..", "a/.b", "a\\b", "a\nb", "\x7f", "\xff\xfe"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(ld_registry_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ld_registry_name_valid(bad[i]));
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_false(ld_registry_name_valid(longest));
    longest[LD_REGISTRY_NAME_MAX] = 0;
    assert_true(ld_registry_name_valid(longest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_become_names),
        cmocka_unit_test(controlnets_are_told_from_their_kin),
        cmocka_unit_test(a_controlnet_among_others_is_refused),
        cmocka_unit_test(a_folder_inside_another_belongs_to_its_own_kind),
        cmocka_unit_test(a_file_that_comes_later_is_taken_up_by_its_name),
        cmocka_unit_test(digests_are_remembered_while_the_file_stays),
        cmocka_unit_test(a_model_folder_is_one_entry_with_a_digest_of_its_files),
        cmocka_unit_test(an_open_model_is_read_for_its_digest_once),
        cmocka_unit_test(caches_of_two_programs_keep_what_the_other_saved),
        cmocka_unit_test(digests_are_made_between_other_work),
        cmocka_unit_test(a_file_that_is_written_to_meanwhile_gets_no_digest),
        cmocka_unit_test(a_damaged_cache_is_an_empty_one),
        cmocka_unit_test(a_second_scan_finds_what_came_went_and_changed),
        cmocka_unit_test(a_digest_is_that_of_the_file_as_it_is),
        cmocka_unit_test(unsafe_and_absent_folders_are_refused),
        cmocka_unit_test(names_have_rules),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
