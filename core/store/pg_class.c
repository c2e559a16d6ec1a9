#include "store/pg_private.h"

#include <string.h>

/* The first rule that is a prefix of the SQLSTATE decides; what none names is TM_PG_STOP: schema (42, 3D, 3F), rights (28,
 * 42501), corruption (XX), limits of the program (0A) and whatever a person has to look at. PostgreSQL documentation,
 * appendix A. */
static const struct {
    const char *prefix;
    enum tm_pg_class class;
} rules[] = {
    {"23505", TM_PG_UNIQUE},    {"22", TM_PG_DATA},       {"23", TM_PG_DATA},
    {"54", TM_PG_DATA}, /* larger or deeper than the server's limits: a row, an index entry, nested JSON */
    {"08", TM_PG_RECONNECT},    {"57P", TM_PG_RECONNECT}, /* shutdown, crash, cannot connect now, idle session
                                                             timeout */
    {"25006", TM_PG_RECONNECT},                           /* read-only: we are talking to a standby now (MEASURED.md) */
    {"25P03", TM_PG_RECONNECT},                           /* idle in transaction timeout */
    {"40", TM_PG_RETRY},                                  /* serialisation failure, deadlock */
    {"53", TM_PG_RETRY},                                  /* disk full, memory, connections */
    {"55P03", TM_PG_RETRY},                               /* lock not available */
    {"57014", TM_PG_RETRY},                               /* cancelled, statement timeout */
    {"58030", TM_PG_RETRY},                               /* I/O error of the server */
    {"TML01", TM_PG_RETRY},                               /* tidemill.guard_lease: not ours any more (store/lease.h) */
    {"TML02", TM_PG_RECONNECT}, /* tidemill.expect_server: another one behind the same session */
    {"25P02", TM_PG_RETRY},     /* in a failed transaction: begin again */
};

const char *tm_pg_class_name(enum tm_pg_class class)
{
    static const char *const names[] = {"ok", "reconnect", "retry", "data", "unique", "stop"};
    return names[class];
}

enum tm_pg_class tm_pg_classify(const char *sqlstate)
{
    if (!sqlstate || !*sqlstate)
        return TM_PG_RECONNECT; /* no answer from the server: libpq's own errors are lost connections */
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strncmp(sqlstate, rules[i].prefix, strlen(rules[i].prefix)) == 0)
            return rules[i].class;
    return TM_PG_STOP;
}
