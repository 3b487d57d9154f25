/* New models out of those that are there: started, asked about, cancelled. */
#include "server/handlers.h"

#include "config/limits.h"
#include "runtime/base/log.h"
#include "server/build_recipe.h"
#include "server/front.h"

#include <sys/statvfs.h>

/* The child knows exactly what it will write; here is refused what cannot fit in any case. */
static bool has_room(const struct ld_build_recipe *recipe)
{
    struct statvfs disk;
    if (statvfs(recipe->folder, &disk) != 0)
        return true;
    const uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (room >= recipe->bytes)
        return true;
    (void)ld_problem_add(recipe->problem, LD_E_NOSPACE, "",
                         "the models' disk has %llu MiB left, and the inputs take %llu MiB",
                         (unsigned long long)(room >> 20),
                         (unsigned long long)(recipe->bytes >> 20));
    return false;
}

static enum ld_handled reply_build(struct ld_exchange *ex, const char *name, int status)
{
    if (!ld_build_write(ex->front->build, name, &ex->reply.body))
        return ld_exchange_refuse(ex, LD_E_NOT_FOUND, 0, "no such model was built here last");
    ld_exchange_set_header(ex, "Cache-Control", "no-store");
    return ld_exchange_json(ex, status);
}

static enum ld_handled start(struct ld_exchange *ex, const struct ld_build_recipe *recipe)
{
    struct ld_error err = {0};
    const struct ld_build_order order = {
        .supervisor = ex->front->supervisor,
        .name = recipe->name,
        .folder = recipe->folder,
        .argv = recipe->argv,
    };
    if (ld_build_start(ex->front->build, &order, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    LD_LOG(LD_LOG_INFO, "build", "a model is being built", ld_log_text("model", recipe->name),
           ld_log_text("by", ex->tenant));
    return reply_build(ex, recipe->name, 202);
}

enum ld_handled ld_handle_build_start(struct ld_exchange *ex)
{
    struct ld_json_tree tree;
    struct ld_problem problem;
    struct ld_error err = {0};
    if (ld_json_scan(&tree, ex->body, LD_JSON_DEPTH, LD_JSON_VALUES, &ex->arena, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    ld_problem_init(&problem, &ex->arena);
    const struct ld_inventory *inventory = ld_inventory_acquire(ex->front->inventory);
    struct ld_build_recipe recipe = {
        .tree = &tree,
        .settings = ex->front->settings,
        .inventory = inventory,
        .arena = &ex->arena,
        .problem = &problem,
    };
    const bool good = ld_build_recipe_read(&recipe) && has_room(&recipe);
    ld_inventory_release(ex->front->inventory, inventory);
    return good ? start(ex, &recipe) : ld_exchange_problem(ex, &problem);
}

enum ld_handled ld_handle_build_get(struct ld_exchange *ex)
{
    const char *name = ld_exchange_param(ex, 0);
    return name ? reply_build(ex, name, 200)
                : ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
}

enum ld_handled ld_handle_build_cancel(struct ld_exchange *ex)
{
    struct ld_error err = {0};
    bool running = false;
    const char *name = ld_exchange_param(ex, 0);
    if (!name)
        return ld_exchange_refuse(ex, LD_E_NOMEM, 0, "out of memory");
    if (ld_build_cancel(ex->front->build, name, &running, &err) != LD_OK)
        return ld_exchange_fail(ex, &err);
    return reply_build(ex, name, running ? 202 : 200);
}
