/*
 * A session of the control socket under any bytes: requests as they come, texts to evaluate, texts to complete. Each must
 * have one answer, a JSON object, within its budget.
 */
#include "base/log.h"
#include "record/row_json.h"
#include "record/scanner.h"
#include "script/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENEW 200 /* inputs that share a session */
#define CPU_US 20000
#define PATIENCE_US 50000

static struct tm_loop *loop;
static struct tm_sessions *set;
static struct tm_session *session;
static struct tm_timer patience;
static int inputs, answers;

static int command(void *arg, const char *line, struct tm_buf *out)
{
    (void)arg;
    (void)line;
    return tm_buf_printf(out, "{\"ok\":true,\"result\":[{\"name\":\"trades\",\"columns\":[]}]}\n");
}

static struct tm_script *script(void *arg)
{
    (void)arg;
    return NULL;
}

static bool on_output(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)text;
    return len > 0;
}

static void on_done(void *arg, const char *json, size_t len)
{
    (void)arg;
    answers++;
    if (len < 2 || json[0] != '{' || json[len - 1] != '}')
        abort();
    tm_loop_stop(loop);
}

static void on_patience(void *arg)
{
    (void)arg;
    (void)tm_session_cancel(session, "enough");
}

static void renew(void)
{
    struct tm_session_options options = {
        .set = set,
        .cpu_us = CPU_US,
        .memory_bytes_max = (size_t)16 << 20,
        .owner = {.role = 2, .command = command, .script = script, .on_output = on_output, .on_done = on_done}};
    struct tm_error err;
    tm_session_destroy(session);
    session = NULL;
    if (tm_session_create(&options, &session, &err) < 0)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    loop = tm_loop_create();
    set = tm_sessions_create(loop, NULL);
    tm_timer_init(&patience, loop, on_patience, NULL);
    return 0;
}

/* The first byte says what the rest is. */
static int put_request(const uint8_t *data, size_t size, struct tm_buf *out)
{
    static const char *const ops[] = {NULL, "eval", "complete"};
    const char *op = ops[data[0] % 3], *text = (const char *)data + 1;
    if (!op)
        return tm_buf_append(out, text, size - 1);
    if (!tm_text_storable(text, size - 1))
        return TM_EINVAL;
    int rc = tm_buf_printf(out, "{\"op\":\"%s\",\"text\":", op);
    rc = rc ? rc : tm_json_put_text(out, text, size - 1);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tm_buf request = {0};
    struct tm_error err;
    if (inputs++ % RENEW == 0)
        renew();
    answers = 0;
    if (size > 0 && size < 4096 && put_request(data, size, &request) == TM_OK) {
        tm_timer_start(&patience, PATIENCE_US, PATIENCE_US);
        if (tm_session_start(session, (const char *)request.data, request.len, &err) == TM_OK)
            tm_loop_run(loop);
        tm_timer_stop(&patience);
        if (answers != 1 || tm_session_is_busy(session))
            abort();
    }
    tm_buf_fini(&request);
    return 0;
}
