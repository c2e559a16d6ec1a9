#include "control/offline.h"

#include "base/json.h"
#include "control/command.h"

#include "script/test.h"
#include "store/migrate.h"

#include <stdio.h>
#include <string.h>

static size_t kept(const struct tm_problems *problems)
{
    return problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
}

static void print_problems(const struct tm_problems *problems)
{
    for (size_t i = 0; i < kept(problems); i++)
        fprintf(stderr, "%s: %s\n", problems->list[i].where, problems->list[i].message);
    if (problems->count > kept(problems))
        fprintf(stderr, "and %zu more\n", problems->count - kept(problems));
}

static int load(const char *path, struct tm_problems *problems, struct tm_script **out)
{
    struct tm_script_options options = {.path = path};
    int rc = tm_script_load(&options, problems, out);
    if (rc && problems->count == 0)
        tm_problem_add(problems, path, tm_code_name(rc));
    return rc;
}

struct tm_script *tm_offline_load(const char *path)
{
    struct tm_problems problems = {.arena = tm_arena_create()};
    struct tm_script *script;
    if (load(path, &problems, &script) < 0) {
        print_problems(&problems);
        tm_script_destroy(script);
        script = NULL;
    }
    tm_arena_destroy(problems.arena);
    return script;
}

/* ---- check ---- */

static const char *role_name(const struct tm_config *config)
{
    return config->role == TM_CONFIG_GATHERER ? "gatherer" : "deduplicator";
}

static int json_problems(const struct tm_problems *problems, struct tm_buf *out)
{
    int rc = TM_OK;
    for (size_t i = 0; i < kept(problems) && !rc; i++) {
        rc = tm_buf_printf(out, "%s{\"at\":", i ? "," : "");
        if (!rc)
            rc = tm_json_put_string(out, problems->list[i].where);
        if (!rc)
            rc = tm_buf_printf(out, ",\"message\":");
        if (!rc)
            rc = tm_json_put_string(out, problems->list[i].message);
        if (!rc)
            rc = tm_buf_printf(out, "}");
    }
    return rc;
}

int tm_offline_print(struct tm_buf *out, int rc)
{
    if (!rc && fwrite(out->data, 1, out->len, stdout) != out->len)
        rc = TM_EIO;
    tm_buf_clear(out);
    return rc;
}

static int print_json(const char *path, const struct tm_problems *problems)
{
    struct tm_buf out = {0};
    int rc = tm_buf_printf(&out, "{\"file\":");
    if (!rc)
        rc = tm_json_put_string(&out, path);
    if (!rc)
        rc = tm_buf_printf(&out, ",\"ok\":%s,\"problems\":[", problems->count ? "false" : "true");
    if (!rc)
        rc = json_problems(problems, &out);
    if (!rc)
        rc = tm_buf_printf(&out, "]}\n");
    rc = tm_offline_print(&out, rc);
    tm_buf_fini(&out);
    return rc;
}

static void print_good(const char *path, struct tm_script *script)
{
    const struct tm_config *config = tm_script_config(script);
    printf("%s: good: %s %s, %zu streams, %zu kinds, %zu feeds\n", path, role_name(config), config->id,
           config->plan_def.stream_count, config->plan_def.kind_count, config->feed_count);
}

int tm_offline_check(const char *path, bool json, bool tests)
{
    struct tm_problems problems = {.arena = tm_arena_create()};
    struct tm_script *script;
    int rc = load(path, &problems, &script);
    if (!rc && tests)
        rc = tm_script_test(script, &problems);
    if (json)
        (void)print_json(path, &problems);
    else if (rc)
        print_problems(&problems);
    else
        print_good(path, script);
    tm_script_destroy(script);
    tm_arena_destroy(problems.arena);
    return rc ? TM_EXIT_CONFIG : 0;
}

/* ---- schema ---- */

int tm_offline_schema(const char *path, enum tm_schema_side side)
{
    struct tm_script *script = tm_offline_load(path);
    if (!script)
        return TM_EXIT_CONFIG;
    const struct tm_config *config = tm_script_config(script);
    bool local = side == TM_SCHEMA_LOCAL || (side == TM_SCHEMA_ROLE && config->role == TM_CONFIG_GATHERER);
    struct tm_buf sql = {0};
    int rc = local ? tm_migrate_sql_local(config->plan, &sql) : tm_migrate_sql_production(config->plan, &sql);
    rc = tm_offline_print(&sql, rc);
    if (rc)
        fprintf(stderr, "tidemill schema: %s\n", tm_code_name(rc));
    tm_buf_fini(&sql);
    tm_script_destroy(script);
    return rc ? 1 : 0;
}

/* ---- migrate ---- */

static int migrate(const struct tm_config *config, struct tm_stop *stop, struct tm_error *err)
{
    bool local = config->role == TM_CONFIG_GATHERER;
    struct tm_pg_options options = {
        .conninfo = local ? config->gatherer.store : config->deduplicator.production,
        .application_name = "tidemill migrate",
        .stop = stop,
        .writes = true,
    };
    struct tm_pg *pg;
    int rc = tm_pg_connect(&options, &pg, err);
    if (rc)
        return rc;
    rc = local ? tm_migrate_local(pg, config->plan, err) : tm_migrate_production(pg, config->plan, err);
    tm_pg_close(pg);
    return rc;
}

int tm_offline_migrate(const char *path)
{
    struct tm_script *script = tm_offline_load(path);
    if (!script)
        return TM_EXIT_CONFIG;
    const struct tm_config *config = tm_script_config(script);
    struct tm_error err = {0};
    struct tm_stop stop;
    int rc = tm_stop_init(&stop);
    if (!rc) {
        rc = migrate(config, &stop, &err);
        tm_stop_fini(&stop);
    }
    if (rc)
        fprintf(stderr, "tidemill migrate: %s\n", err.message[0] ? err.message : tm_code_name(rc));
    else
        printf("the %s's %s store has the schema of %zu streams\n", role_name(config),
               config->role == TM_CONFIG_GATHERER ? "local" : "production", tm_plan_stream_count(config->plan));
    tm_script_destroy(script);
    return rc ? 1 : 0;
}
