#include "record/find.h"

#include <stdlib.h>

static bool same_name(struct tm_value name, const char *wanted, size_t len)
{
    if (!name.escaped)
        return name.len == len && memcmp(name.at, wanted, len) == 0;
    struct tm_buf text = {0};
    bool same = !tm_value_unescape(name, &text) && text.len == len && memcmp(text.data, wanted, len) == 0;
    tm_buf_fini(&text);
    return same;
}

/* The member of an object that was scanned. */
static struct tm_value member(struct tm_value object, const char *wanted, size_t len)
{
    struct tm_scanner s;
    struct tm_value found = {0}, name, value;
    if (object.kind != TM_VALUE_OBJECT)
        return found;
    tm_scanner_init(&s, object.at, object.len, false);
    const char *p = tm_scan_space(&s, object.at + 1);
    while (*p != '}') {
        p = tm_scan_value(&s, p, 0, &name);
        TM_FATAL_UNLESS(p);
        p = tm_scan_space(&s, tm_scan_space(&s, p) + 1);
        p = tm_scan_value(&s, p, 0, &value);
        TM_FATAL_UNLESS(p);
        if (same_name(name, wanted, len))
            found = value;
        p = tm_scan_space(&s, p);
        if (*p == ',')
            p = tm_scan_space(&s, p + 1);
    }
    return found;
}

/* "[-1]" at the start of the path; returns what follows it, NULL if it has not the form. */
static const char *step_index(const char *path, struct tm_value *v)
{
    char *after;
    long index = strtol(path + 1, &after, 10);
    if (after == path + 1 || *after != ']' || index < INT32_MIN || index > INT32_MAX)
        return NULL;
    *v = tm_value_item(*v, (int32_t)index);
    return after + 1;
}

static const char *step_name(const char *path, struct tm_value *v)
{
    size_t len = strcspn(path, ".[");
    if (!len)
        return NULL;
    *v = member(*v, path, len);
    return path + len;
}

/* One step of the path; a dot stands between a step and a name after it, and nowhere else. */
static const char *step(const char *path, bool first, struct tm_value *v)
{
    if (*path == '[')
        return step_index(path, v);
    if (!first && *path != '.')
        return NULL;
    return step_name(first ? path : path + 1, v);
}

int tm_json_find(struct tm_span document, const char *path, struct tm_value *out, struct tm_error *err)
{
    struct tm_scanner s;
    if (document.len > TM_JSON_BYTES_MAX)
        return tm_error_set(err, TM_EPARSE, "a document of %zu bytes, expected at most %zu", document.len,
                            TM_JSON_BYTES_MAX);
    tm_scanner_init(&s, document.at, document.len, false);
    if (tm_scan_document(&s, out))
        return tm_error_set(err, TM_EPARSE, "not JSON: expected %s at byte %td of %zu", s.expected,
                            s.fault_at - s.begin, document.len);
    for (const char *at = path; *at;) {
        at = step(at, at == path, out);
        if (!at)
            return tm_error_set(err, TM_EINVAL, "\"%s\" is not a path such as \"data.rows[0].id\"", path);
    }
    if (out->kind == TM_VALUE_NONE)
        return tm_error_set(err, TM_ENOENT, "the document has nothing at \"%s\"", path);
    return TM_OK;
}

int tm_json_get(struct tm_span document, const char *path, struct tm_span *out)
{
    struct tm_value v;
    int rc = tm_json_find(document, path, &v, NULL);
    if (rc)
        return rc;
    v = tm_value_raw(v);
    *out = (struct tm_span){.at = v.at, .len = v.len};
    return TM_OK;
}
