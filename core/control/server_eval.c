/* Commands in Lua of a session of the control socket: script/session.h does the work, this carries texts to and fro. */
#include "control/server_private.h"

#include "base/json.h"
#include "base/log.h"
#include "record/decode.h"
#include "record/row_json.h"
#include "record/scanner.h"

#include <stdio.h>
#include <string.h>

/* ---- what the session's VM calls ---- */

static int run_line(void *arg, const char *line, struct tm_buf *out)
{
    return tm_control_run(arg, line, strlen(line), out);
}

static struct tm_script *script_of(void *arg)
{
    struct tm_control_session *s = arg;
    s->control->peer = s->peer;
    return s->control->options.script ? s->control->options.script(s->control->options.context) : NULL;
}

static int put_text(struct tm_buf *out, const char *text, size_t len)
{
    if (tm_text_storable(text, len))
        return tm_json_put_text(out, text, len);
    struct tm_buf copy = {0};
    int rc = tm_buf_append(&copy, text, len);
    const char *cut = rc ? NULL : tm_buf_cstr(&copy); /* at a NUL */
    rc = cut ? tm_json_put_string(out, cut) : TM_ENOMEM;
    tm_buf_fini(&copy);
    return rc;
}

static bool on_output(void *arg, const char *text, size_t len)
{
    struct tm_control_session *s = arg;
    struct tm_buf json = {0};
    int rc = tm_buf_printf(&json, "{\"id\":%s,\"out\":", s->request_id);
    rc = rc ? rc : put_text(&json, text, len);
    rc = rc ? rc : tm_buf_append(&json, "}", 1);
    if (s->framed && !rc)
        rc = tm_control_put_frame(s, (const char *)json.data, json.len);
    tm_buf_fini(&json);
    s->closing = s->closing || rc < 0;
    tm_control_session_go_on(s);
    return s->out.len < TM_CONTROL_OUT_REST;
}

static int put_answer(struct tm_control_session *s, const char *json, size_t len)
{
    if (!s->framed) {
        int rc = tm_buf_append(&s->out, json, len);
        return rc ? rc : tm_buf_append(&s->out, "\n", 1);
    }
    struct tm_buf all = {0};
    int rc = tm_buf_printf(&all, "{\"id\":%s,", s->request_id);
    rc = rc ? rc : tm_buf_append(&all, json + 1, len - 1); /* an object with members */
    rc = rc ? rc : tm_control_put_frame(s, (const char *)all.data, all.len);
    tm_buf_fini(&all);
    return rc;
}

static void on_done(void *arg, const char *json, size_t len)
{
    struct tm_control_session *s = arg;
    s->running[0] = '\0';
    s->closing = s->closing || put_answer(s, json, len) < 0;
    tm_control_session_go_on(s);
}

/* ---- starting ---- */

static int open_lua(struct tm_control_session *s, struct tm_error *err)
{
    const struct tm_control_options *o = &s->control->options;
    struct tm_session_options options = {
        .set = o->sessions,
        .owner = {.arg = s,
                  .role = (int)s->peer.role,
                  .command = run_line,
                  .script = script_of,
                  .on_output = on_output,
                  .on_done = on_done},
        .library = o->library,
        .memory_bytes_max = o->settings.memory_bytes,
        .cpu_us = o->settings.cpu_us,
    };
    return s->lua ? TM_OK : tm_session_create(&options, &s->lua, err);
}

static int answer_error(struct tm_control_session *s, const char *message)
{
    struct tm_buf json = {0};
    int rc = tm_buf_printf(&json, "{\"ok\":false,\"error\":");
    rc = rc ? rc : put_text(&json, message, strlen(message));
    rc = rc ? rc : tm_buf_append(&json, "}", 1);
    rc = rc ? rc : put_answer(s, (const char *)json.data, json.len);
    tm_buf_fini(&json);
    return rc;
}

static int start(struct tm_control_session *s, const char *json, size_t len)
{
    struct tm_error err;
    int rc = open_lua(s, &err);
    rc = rc ? rc : tm_session_start(s->lua, json, len, &err);
    return rc ? answer_error(s, err.message) : TM_OK;
}

int tm_control_eval_line(struct tm_control_session *s, const char *text, size_t len)
{
    struct tm_buf json = {0};
    (void)snprintf(s->running, sizeof s->running, "%.*s", (int)(len < 100 ? len : 100), text);
    int rc = tm_buf_printf(&json, "{\"op\":\"eval\",\"collect\":true,\"json\":true,\"text\":");
    rc = rc ? rc : put_text(&json, text, len);
    rc = rc ? rc : tm_buf_append(&json, "}", 1);
    rc = rc ? rc : start(s, (const char *)json.data, json.len);
    tm_buf_fini(&json);
    return rc;
}

/* ---- frames ---- */

static bool get(struct tm_span document, const char *name, struct tm_span *out)
{
    return tm_json_get(document, name, out) == TM_OK;
}

static bool is_op(struct tm_span op, const char *name)
{
    return op.len == strlen(name) + 2 && memcmp(op.at + 1, name, op.len - 2) == 0;
}

/* What people see in logs: as it stands in the JSON, quotes and all. */
static void note(struct tm_control_session *s, struct tm_span op, struct tm_span text)
{
    if (is_op(op, "complete"))
        return; /* a key was pressed, nothing was done */
    tm_control_audit(s, text.len ? text.at : op.at, text.len ? text.len : op.len);
}

static int cancel(struct tm_control_session *s)
{
    (void)(s->lua && tm_session_cancel(s->lua, "cancelled")); /* too late is no error: its answer is on the way */
    return TM_OK;
}

int tm_control_eval_frame(struct tm_control_session *s, const char *json, size_t len)
{
    struct tm_span document = {json, len}, id = {"null", 4}, op = {"", 0}, text = {"", 0};
    char before[sizeof s->request_id];
    bool good = get(document, "op", &op) && op.len >= 2 && *op.at == '"';
    (void)get(document, "id", &id);
    if (get(document, "text", &text) && text.len >= 2 && *text.at == '"')
        text = (struct tm_span){text.at + 1, text.len - 2};
    if (good && is_op(op, "cancel"))
        return cancel(s);
    memcpy(before, s->request_id, sizeof before);
    (void)snprintf(s->request_id, sizeof s->request_id, "%.*s", id.len < sizeof s->request_id ? (int)id.len : 4,
                   id.len < sizeof s->request_id ? id.at : "null");
    int rc;
    if (!good) {
        rc = answer_error(s, "expected a JSON object with \"op\": \"eval\", \"complete\", \"command\" or \"cancel\"");
    } else if (s->lua && tm_session_is_busy(s->lua)) {
        rc = answer_error(s, "a command runs already: wait for its answer, or cancel it");
        memcpy(s->request_id, before, sizeof before);
    } else {
        note(s, op, text);
        (void)snprintf(s->running, sizeof s->running, "%.*s", (int)(text.len < 100 ? text.len : 100), text.at);
        rc = start(s, json, len);
    }
    return rc;
}
