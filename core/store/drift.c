#include "store/drift.h"

#include <string.h>

static const char *type_name(enum tm_type type)
{
    static const char *const names[] = {"bool", "int2", "int4",        "int8",  "float8",
                                        "text", "uuid", "timestamptz", "jsonb", "bytea"};
    return names[type];
}

/* ('trades','price','int4'), ... of what COPY names; `bare`: only the tables. Names are plain words (record/plan.h). */
static int put_wanted(struct tm_buf *sql, const struct tm_plan *plan, bool bare)
{
    const char *comma = "";
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++) {
        const struct tm_stream *s = tm_plan_stream(plan, i);
        for (uint16_t c = 0; !rc && c < s->column_count && !(bare && c); c++) {
            if (bare)
                rc = tm_buf_printf(sql, "%s('%s')", comma, s->name);
            else if (!s->columns[c].local_only)
                rc = tm_buf_printf(sql, "%s('%s','%s','%s')", comma, s->name, s->columns[c].name,
                                   type_name(s->columns[c].type));
            comma = ",";
        }
    }
    return rc;
}

static int ask(struct tm_pg *pg, const struct tm_plan *plan, const char *after, bool bare, char *out, size_t size,
               struct tm_error *err)
{
    struct tm_buf sql = {0};
    int rc = tm_buf_printf(&sql, "WITH want (t%s) AS (VALUES ", bare ? "" : ", c, type");
    rc = rc ? rc : put_wanted(&sql, plan, bare);
    rc = rc ? rc : tm_buf_append(&sql, after, strlen(after));
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_query_text(pg, text, 0, NULL, out, size, err)
              : tm_error_set(err, TM_ENOMEM, "out of memory for the schema's check");
    tm_buf_fini(&sql);
    return rc;
}

/* A domain takes what its type takes, and varchar what text does. */
#define DIFFERENCES                                                                                                    \
    "), tables AS (SELECT DISTINCT t, to_regclass(t) AS oid FROM want), "                                              \
    "there AS (SELECT b.t, a.attname::text AS c, coalesce(nullif(y.typbasetype, 0), y.oid) AS type, a.attnotnull AND " \
    "NOT a.atthasdef AND a.attidentity = '' AS needed FROM tables b JOIN pg_attribute a ON a.attrelid = b.oid AND "    \
    "a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid) "                                       \
    "SELECT w.t || '.' || w.c || ': expected ' || w.type || ', found ' || coalesce(format_type(h.type, NULL), 'no "    \
    "such column') FROM want w JOIN tables b ON b.t = w.t AND b.oid IS NOT NULL LEFT JOIN there h ON h.t = w.t AND "   \
    "h.c = w.c WHERE replace(format_type(h.type, NULL), 'character varying', 'text')::regtype IS DISTINCT FROM "       \
    "w.type::regtype "                                                                                                 \
    "UNION ALL SELECT h.t || '.' || h.c || ': it is NOT NULL without a default, and the script does not declare it' "  \
    "FROM there h WHERE h.needed AND NOT EXISTS (SELECT FROM want w WHERE w.t = h.t AND w.c = h.c) LIMIT 1"

int tm_drift_check(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err)
{
    char found[300];
    int rc = ask(pg, plan, DIFFERENCES, false, found, sizeof found, err);
    if (rc || !*found)
        return rc;
    return tm_error_set(err, TM_EINVAL,
                        "production's schema is not what the script declares: %s; nothing is written until it is",
                        found);
}

int tm_drift_lost_tables(struct tm_pg *pg, const struct tm_plan *plan, char *out, size_t size, struct tm_error *err)
{
    char known[8];
    *out = '\0';
    int rc =
        tm_pg_query_text(pg, "SELECT to_regclass('tidemill.cursors') IS NOT NULL", 0, NULL, known, sizeof known, err);
    if (rc || strcmp(known, "t") != 0)
        return rc;
    return ask(pg, plan,
               ") SELECT string_agg(t, ', ') FROM want WHERE to_regclass(t) IS NULL AND EXISTS (SELECT FROM "
               "tidemill.cursors k WHERE k.stream = want.t)",
               true, out, size, err);
}
