#include "archive/manifest.h"
#include "base/json.h"
#include "record/convert.h"
#include "record/find.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tm_manifest_schema(const struct tm_stream *s, char out[17])
{
    uint64_t hash = 0;
    for (uint16_t i = 0; i < s->production_count; i++) {
        const struct tm_column *c = &s->columns[i];
        int what[2] = {(int)c->type, c->scale};
        hash = tm_hash64(c->name, strlen(c->name) + 1, hash);
        hash = tm_hash64(what, sizeof what, hash);
    }
    (void)snprintf(out, 17, "%016" PRIx64, hash);
}

/* ---- writing ---- */

static void add_hex(struct tm_json *j, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        tm_json_add(j, "%02x", bytes[i]);
}

static void add_time(struct tm_json *j, const char *name, int64_t us)
{
    char text[TM_PERIOD_TEXT];
    if (us)
        tm_json_add(j, ",\"%s\":\"%s\"", name, tm_period_text(us, text));
}

static void add_columns(struct tm_json *j, const char *columns)
{
    tm_json_add(j, ",\"columns\":[");
    for (const char *at = columns; at && *at;) {
        int len = (int)strcspn(at, ",");
        tm_json_add(j, "%s\"%.*s\"", at == columns ? "" : ",", len, at);
        at += len + (at[len] == ',');
    }
    tm_json_add(j, "]");
}

static void add_raw(struct tm_json *j, const char *name, const char *json)
{
    if (json && *json)
        tm_json_add(j, ",\"%s\":%s", name, json);
}

static void add_object(struct tm_json *j, const struct tm_manifest *m)
{
    if (!*m->object)
        return;
    tm_json_add(j, ",");
    tm_json_add_string(j, "object", m->object);
    tm_json_add(j, ",\"bytes\":%" PRIu64 ",\"sha256\":\"", m->what.size);
    add_hex(j, m->what.sha256, sizeof m->what.sha256);
    tm_json_add(j, "\"");
}

int tm_manifest_put(const struct tm_manifest *m, const struct tm_manifest_more *more, int64_t now_us,
                    struct tm_buf *out)
{
    struct tm_json j = {.out = out};
    tm_json_add(&j, "{\"version\":1,\"kind\":\"%s\",\"stream\":\"%s\"", m->of_gatherer ? "gatherer" : "production",
                m->stream);
    add_time(&j, "from", m->from_us);
    add_time(&j, "to", m->to_us);
    tm_json_add(&j, ",\"part\":%u", m->part);
    add_object(&j, m);
    tm_json_add(&j, ",\"rows\":%" PRIu64 ",\"schema\":\"%s\"", m->rows, m->schema);
    add_columns(&j, more->columns);
    add_raw(&j, "first", more->first);
    add_raw(&j, "last", more->last);
    if (m->has_seq)
        tm_json_add(&j, ",\"seq\":{\"first\":%" PRId64 ",\"last\":%" PRId64 "}", m->first_seq, m->last_seq);
    if (m->of_gatherer)
        tm_json_add(&j, ",\"gatherer\":\"%s\",\"epoch\":\"%s\"", m->gatherer, m->epoch);
    add_raw(&j, "coverage", more->coverage);
    if (more->production) {
        tm_json_add(&j, ",");
        tm_json_add_string(&j, "production", more->production);
    }
    add_time(&j, "written_at", now_us);
    tm_json_add(&j, ",\"written_by\":\"tidemill\"}\n");
    return j.rc;
}

/* ---- reading ---- */

struct reading {
    struct tm_span text;
    int rc;
    struct tm_error *err;
};

static int refuse(struct reading *r, const char *path, const char *expected)
{
    if (!r->rc)
        r->rc = tm_error_set(r->err, TM_ECORRUPT, "manifest: \"%s\": expected %s", path, expected);
    return r->rc;
}

/* The value as it stands there; nothing where there is none. */
static struct tm_value find(struct reading *r, const char *path)
{
    struct tm_value v = {0};
    struct tm_error why;
    if (r->rc)
        return v;
    int rc = tm_json_find(r->text, path, &v, &why);
    if (rc && rc != TM_ENOENT)
        r->rc = tm_error_set(r->err, TM_ECORRUPT, "manifest: %s", why.message);
    return rc ? (struct tm_value){0} : v;
}

static void read_text(struct reading *r, const char *path, char *out, size_t size, bool needed)
{
    struct tm_value v = find(r, path);
    *out = '\0';
    if (v.kind == TM_VALUE_STRING && !v.escaped && v.len < size) {
        memcpy(out, v.at, v.len);
        out[v.len] = '\0';
    } else if (v.kind != TM_VALUE_NONE || needed) {
        (void)refuse(r, path, "a text");
    }
}

static int64_t read_number(struct reading *r, const char *path)
{
    struct tm_value v = find(r, path);
    int64_t n = 0;
    if (v.kind != TM_VALUE_NUMBER || tm_convert_decimal(v.at, v.len, 0, &n) != TM_CONVERT_OK || n < 0)
        (void)refuse(r, path, "a whole number");
    return n;
}

static int64_t read_time(struct reading *r, const char *path, bool needed)
{
    char text[TM_PERIOD_TEXT];
    int64_t us = 0;
    read_text(r, path, text, sizeof text, needed);
    if (*text && tm_convert_rfc3339(text, strlen(text), &us) != TM_CONVERT_OK)
        (void)refuse(r, path, "a moment");
    return us;
}

static void read_hash(struct reading *r, uint8_t out[TM_SHA256_BYTES])
{
    char text[2 * TM_SHA256_BYTES + 1];
    read_text(r, "sha256", text, sizeof text, true);
    if (!r->rc && strspn(text, "0123456789abcdef") != sizeof text - 1)
        (void)refuse(r, "sha256", "64 hex digits");
    for (size_t i = 0; !r->rc && i < TM_SHA256_BYTES; i++) {
        const char pair[3] = {text[2 * i], text[2 * i + 1]};
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

static void read_object(struct reading *r, struct tm_manifest *m)
{
    struct tm_error why;
    read_text(r, "object", m->object, sizeof m->object, m->rows > 0);
    if (r->rc || !*m->object)
        return;
    if (tm_target_check_key(m->object, &why))
        (void)refuse(r, "object", "the key of an object");
    m->what.size = (uint64_t)read_number(r, "bytes");
    read_hash(r, m->what.sha256);
}

int tm_manifest_read(const struct tm_buf *text, struct tm_manifest *m, struct tm_error *err)
{
    char kind[16];
    struct reading r = {.text = {.at = (const char *)text->data, .len = text->len}, .err = err};
    *m = (struct tm_manifest){0};
    if (read_number(&r, "version") != 1)
        (void)refuse(&r, "version", "1; a newer program wrote it");
    read_text(&r, "kind", kind, sizeof kind, true);
    m->of_gatherer = strcmp(kind, "gatherer") == 0;
    read_text(&r, "stream", m->stream, sizeof m->stream, true);
    read_text(&r, "schema", m->schema, sizeof m->schema, true);
    m->from_us = read_time(&r, "from", !m->of_gatherer);
    m->to_us = read_time(&r, "to", !m->of_gatherer);
    m->part = (unsigned)read_number(&r, "part");
    m->rows = (uint64_t)read_number(&r, "rows");
    read_object(&r, m);
    m->has_seq = find(&r, "seq").kind == TM_VALUE_OBJECT;
    if (m->has_seq) {
        m->first_seq = read_number(&r, "seq.first");
        m->last_seq = read_number(&r, "seq.last");
    }
    read_text(&r, "gatherer", m->gatherer, sizeof m->gatherer, m->of_gatherer);
    read_text(&r, "epoch", m->epoch, sizeof m->epoch, m->of_gatherer);
    return r.rc;
}
