#include "control/reshard.h"
#include "base/clock.h"
#include "control/offline.h"
#include "engine/share.h"
#include "store/migrate.h"
#include "store/shards.h"

#include <stdio.h>

#define STATEMENT_US (60 * TM_US_PER_S)

/* The streams that are spread over the shards, as an array of PostgreSQL; names are plain words. */
static int list_spread(const struct tm_plan *plan, struct tm_buf *out)
{
    const char *comma = "";
    int rc = tm_buf_append(out, "{", 1);
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++) {
        const struct tm_stream *s = tm_plan_stream(plan, i);
        if (!tm_share_is_spread(s))
            continue;
        rc = tm_buf_printf(out, "%s%s", comma, s->name);
        comma = ",";
    }
    rc = rc ? rc : tm_buf_append(out, "}", 1);
    return rc ? rc : tm_buf_cstr(out) ? TM_OK : TM_ENOMEM;
}

static int change(const struct tm_config *config, struct tm_pg *pg, struct tm_error *err)
{
    unsigned before = 0, shards = config->deduplicator.shards ? config->deduplicator.shards : 1;
    struct tm_buf spread = {0};
    int rc = list_spread(config->plan, &spread) ? tm_error_set(err, TM_ENOMEM, "out of memory") : TM_OK;
    rc = rc ? rc : tm_migrate_production(pg, config->plan, err);
    rc = rc ? rc : tm_shards_change(pg, shards, (const char *)spread.data, &before, err);
    tm_buf_fini(&spread);
    if (!rc)
        printf("production is shared in %u shards (before: %u); start the deduplicators with scripts that say so\n",
               shards, before);
    return rc;
}

static int run(const struct tm_config *config, struct tm_error *err)
{
    struct tm_stop stop;
    struct tm_pg *pg = NULL;
    int rc = tm_stop_init(&stop);
    if (rc)
        return tm_error_set(err, rc, "out of descriptors");
    struct tm_pg_options options = {.conninfo = config->deduplicator.production,
                                    .application_name = "tidemill reshard",
                                    .stop = &stop,
                                    .statement_us = STATEMENT_US,
                                    .writes = true};
    rc = tm_pg_connect(&options, &pg, err);
    rc = rc ? rc : change(config, pg, err);
    tm_pg_close(pg);
    tm_stop_fini(&stop);
    return rc;
}

int tm_reshard_command(const struct tm_cli *cli)
{
    struct tm_error err = {0};
    struct tm_script *script = tm_offline_load(cli->files[0]);
    if (!script)
        return TM_EXIT_CONFIG;
    const struct tm_config *config = tm_script_config(script);
    int rc =
        config->role == TM_CONFIG_DEDUPLICATOR
            ? run(config, &err)
            : tm_error_set(&err, TM_EINVAL, "%s declares a gatherer; expected a deduplicator's script", cli->files[0]);
    if (rc)
        fprintf(stderr, "tidemill reshard: %s\n", err.message[0] ? err.message : tm_code_name(rc));
    tm_script_destroy(script);
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}
