/*
 * What a script declared, as the engine's own structs. Everything lives in the script's arena, but for secrets, which the
 * script keeps where they are (script/secret.h).
 *
 * tm_config_read converts the table that the Lua library built (lua/tidemill/declare.lua describes it), and
 * tm_config_verify then does what start would do without doing it: compiles the plan (with a zero epoch), makes its
 * seen-sets and registries, reads keys and certificates, checks URLs, addresses, conninfos and the journal's bounds. So
 * `tidemill check` and start reject the same things, for the same reasons. All problems are collected, not the first
 * alone; what follows from another problem is left out.
 *
 * Configuration is what stays wrong until somebody edits the script, its environment or a file that it names. What the
 * machine does not let us do now (a port in use, a directory that cannot be written, no memory, a database away) is not:
 * start fails or waits for it, check does not look.
 */
#ifndef TM_SCRIPT_CONFIG_H
#define TM_SCRIPT_CONFIG_H

#include "base/arena.h"
#include "base/log.h"
#include "engine/alert.h"
#include "engine/deduplicator.h"
#include "engine/gatherer.h"
#include "engine/watch.h"

#include <lua.h>

struct tm_problem {
    const char *where; /* "file:line", or the file alone */
    const char *message;
};

#define TM_PROBLEMS_MAX 100

struct tm_problems {
    struct tm_arena *arena;
    struct tm_problem list[TM_PROBLEMS_MAX];
    size_t count; /* may exceed the maximum: the rest is not kept */
};

void tm_problem_add(struct tm_problems *p, const char *where, const char *message);
void tm_problems_sort(struct tm_problems *p); /* by file and line */

enum tm_config_role { TM_CONFIG_NONE, TM_CONFIG_GATHERER, TM_CONFIG_DEDUPLICATOR };

struct tm_config_signer {
    const char *where;
    struct tm_auth_def def;
    struct tm_auth *auth; /* made by verify */
};

struct tm_config_feed {
    const char *where;
    struct tm_ws_options ws;
    int64_t quiet_us;
    int signer; /* in signers; -1: unsigned */
};

struct tm_config_rest {
    const char *where, *url;
};

/* CPU time of one entry into Lua of each sort, and the memory of the VM. */
struct tm_config_limits {
    int64_t load_us, step_us, routine_us, event_us;
    size_t memory_bytes;
};

struct tm_config_sql {
    const char *where, *conninfo;
    int64_t timeout_us;
    size_t connections, rows_max, bytes_max;
};

struct tm_config_registry {
    const char *where, *stream;
    const char *const *columns; /* NULL-terminated */
};

/* What an adapter says that it will open at run time (tm.feed's expect), for `tidemill plan`. */
struct tm_config_connections {
    const char *name;    /* "orderbook_delta" */
    const char *markets; /* the rule in words; NULL: all that the exchange sends */
    size_t count, feed;  /* feed: in feeds */
};

/* Who may use the control socket as what ("alice", "@ops"), and what its commands may use. Zeros: the defaults. */
struct tm_config_control_rule {
    const char *name;
    int role; /* 0 read, 1 operate, 2 admin */
};

struct tm_config_control {
    const struct tm_config_control_rule *rules;
    size_t rule_count;
    const char *group;
    size_t sessions_max, memory_bytes;
    int64_t cpu_us;
};

struct tm_config {
    enum tm_config_role role;
    const char *where, *id;
    enum tm_log_level log_level;
    enum tm_log_format log_format;
    const char *health, *metrics; /* "address:port" */
    const char *console_names;    /* for browsers, with a space between two; NULL: none */
    const char *socket;           /* path; NULL: no control socket */
    const char *alert_state;      /* file in which alerts outlive a restart; NULL: they do not */
    struct tm_config_control control;
    struct tm_config_limits limits;
    int callback_failures;   /* in a row, before a handler or timer is disabled */
    int64_t policy_stuck_us; /* without a turn of the policy loop, before it is reported */
    struct tm_watch_limits watch;
    struct tm_gatherer_options gatherer;
    struct tm_deduplicator_options deduplicator;
    struct tm_plan_def plan_def;
    const char *const *stream_where, *const *kind_where; /* by index in plan_def */
    const bool *stream_good, *kind_good;                 /* likewise: the library found no fault in it */
    const char *protocol_where;                          /* NULL: none was declared */
    struct tm_plan *plan; /* made by verify, zero epoch: the deduplicator's, and for the schema */
    struct tm_config_signer *signers;
    struct tm_config_feed *feeds;
    struct tm_config_rest *rests;
    struct tm_config_sql *sqls;
    struct tm_alert_def *alerts;
    struct tm_config_registry *registries;
    struct tm_config_connections *connections;
    size_t signer_count, feed_count, rest_count, sql_count, alert_count, registry_count, connections_count;
};

void tm_config_init(struct tm_config *config); /* the defaults of what holds before the file has run */

/* The table on top of the stack; raises a Lua error if it has not the agreed form. */
void tm_config_read(lua_State *L, struct tm_arena *arena, struct tm_config *out);
void tm_config_read_plan(lua_State *L, int index, struct tm_arena *arena, struct tm_config *out);

/* One alert in the form of the declarations. */
void tm_config_read_alert(lua_State *L, int index, struct tm_arena *arena, void *alert_def);

void tm_config_verify(struct tm_config *config, struct tm_problems *problems);
void tm_config_fini(struct tm_config *config);

#endif
