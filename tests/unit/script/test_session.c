/* Sessions: what is typed is run in slices, bounded, apart from the script and from each other. */
#include "bench.h"

#include "base/clock.h"
#include "script/changes.h"
#include "script/session.h"

#include <string.h>

struct person {
    struct tm_session *session;
    struct tm_buf out, answer;
    int answers;
    bool slow; /* does not take any output */
};

#define PEOPLE 8

static struct tm_sessions *set;
static struct tm_session *people[PEOPLE]; /* of a test that fails, to be closed after it */
static struct tm_timer deadline;
static bool too_late;
static const struct person *awaited;

static struct tm_script *script_of(void *arg)
{
    (void)arg;
    return bench.script;
}

static int command(void *arg, const char *line, struct tm_buf *out)
{
    (void)arg;
    if (strcmp(line, "ping") == 0)
        return tm_buf_printf(out, "{\"ok\":true,\"result\":\"pong\"}\n");
    return tm_buf_printf(out, "{\"ok\":false,\"error\":\"no %s here\"}\n", line);
}

static bool on_output(void *arg, const char *text, size_t len)
{
    struct person *p = arg;
    assert_int_equal(tm_buf_append(&p->out, text, len), TM_OK);
    return !p->slow;
}

static void on_done(void *arg, const char *json, size_t len)
{
    struct person *p = arg;
    p->answers++;
    tm_buf_clear(&p->answer);
    assert_int_equal(tm_buf_append(&p->answer, json, len), TM_OK);
    if (p == awaited)
        tm_loop_stop(bench.services.loop);
}

static void open_person(struct person *p, struct tm_session_options options)
{
    struct tm_error err;
    *p = (struct person){0};
    options.set = set;
    options.library = LIBRARY;
    options.owner = (struct tm_session_owner){.arg = p,
                                              .role = options.owner.role,
                                              .command = command,
                                              .script = script_of,
                                              .on_output = on_output,
                                              .on_done = on_done};
    if (tm_session_create(&options, &p->session, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < PEOPLE; i++)
        if (!people[i]) {
            people[i] = p->session;
            return;
        }
}

static void destroy_session(struct tm_session *session)
{
    for (size_t i = 0; i < PEOPLE; i++)
        people[i] = people[i] == session ? NULL : people[i];
    tm_session_destroy(session);
}

static void close_person(struct person *p)
{
    destroy_session(p->session);
    tm_buf_fini(&p->out);
    tm_buf_fini(&p->answer);
}

static void on_deadline(void *arg)
{
    (void)arg;
    too_late = true;
    tm_loop_stop(bench.services.loop);
}

static void turn_for(int64_t us)
{
    awaited = NULL;
    tm_timer_init(&deadline, bench.services.loop, on_deadline, NULL);
    tm_timer_start(&deadline, us, 0);
    tm_loop_run(bench.services.loop);
    tm_timer_stop(&deadline);
}

static const char *wait_answer(struct person *p)
{
    if (p->answers == 0) {
        awaited = p;
        too_late = false;
        tm_timer_init(&deadline, bench.services.loop, on_deadline, NULL);
        tm_timer_start(&deadline, DEADLINE_US, 0);
        tm_loop_run(bench.services.loop);
        tm_timer_stop(&deadline);
        assert_false(too_late);
    }
    assert_int_equal(p->answers, 1);
    return tm_buf_cstr(&p->answer);
}

static void begin(struct person *p, const char *text)
{
    struct tm_error err;
    char *json;
    assert_true(asprintf(&json, "{\"op\":\"eval\",\"json\":true,\"text\":\"%s\"}", text) > 0);
    p->answers = 0;
    tm_buf_clear(&p->out);
    if (tm_session_start(p->session, json, strlen(json), &err) < 0)
        fail_msg("%s", err.message);
    free(json);
}

static const char *ask(struct person *p, const char *text)
{
    begin(p, text);
    return wait_answer(p);
}

static void expect(struct person *p, const char *text, const char *answer)
{
    const char *got = ask(p, text);
    if (strstr(got, answer))
        return;
    (void)dup2(bench.stderr_fd, 2);
    fail_msg("%s\n gives %s\n wanted %s", text, got, answer);
}

static int setup(void **state)
{
    if (bench_setup(state))
        return -1;
    bench.services.taps = tm_taps_create();
    set = tm_sessions_create(bench.services.loop, bench.services.taps);
    bench.services.sessions = set;
    bench.services.changes = tm_changes_create();
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < PEOPLE; i++)
        if (people[i])
            destroy_session(people[i]);
    tm_sessions_destroy(set);
    tm_changes_destroy(bench.services.changes);
    struct tm_taps *taps = bench.services.taps;
    int rc = bench_teardown(state);
    tm_taps_destroy(taps);
    return rc;
}

/* ---- values ---- */

static void test_values(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){0});
    expect(&p, "1 + 1", "\"result\":2");
    expect(&p, "x = 5", "{\"ok\":true}");
    expect(&p, "x * 2", "\"result\":10");
    expect(&p, "_", "\"result\":10");
    expect(&p, "return 1, nil, 'a'", "[1,null,\"a\"]");
    expect(&p, "{ a = { 1, 2 }, b = tostring }", "\"a\":[1,2]");
    expect(&p, "0/0", "nan");
    expect(&p, "error('no', 0)", "\"ok\":false,\"error\":\"no\"");
    expect(&p, "error({})", "\"ok\":false");
    expect(&p, "for i = 1,", "\"unfinished\":true");
    expect(&p, "x = [[", "\"unfinished\":true");
    assert_null(strstr(ask(&p, "x = = 1"), "unfinished"));
    expect(&p, "nothing_of_that_name", "help() lists what there is");
    expect(&p, "tm.now()", "tm is the script's");
    assert_non_null(strstr(ask(&p, "print('a', 1) print({ 1 })"), "\"ok\":true"));
    assert_string_equal(tm_buf_cstr(&p.out), "a\t1\n1\n");
    expect(&p, "print('\\\\27[2J')", "\"ok\":true");
    assert_string_equal(tm_buf_cstr(&p.out), "\\x1b[2J\n");
    close_person(&p);
}

static void test_requests_of_any_shape(void **state)
{
    (void)state;
    static const char *const requests[] = {"",
                                           "{",
                                           "[]",
                                           "null",
                                           "5",
                                           "{}",
                                           "\"",
                                           "\xff",
                                           "{\"op\":\"eval\"}",
                                           "{\"op\":\"fly\",\"text\":\"\"}",
                                           "{\"op\":[],\"text\":{}}"};
    struct person p;
    struct tm_error err;
    open_person(&p, (struct tm_session_options){0});
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        p.answers = 0;
        assert_int_equal(tm_session_start(p.session, requests[i], strlen(requests[i]), &err), TM_OK);
        assert_non_null(strstr(wait_answer(&p), "\"ok\":false"));
    }
    begin(&p, "sleep(10)");
    assert_int_equal(tm_session_start(p.session, "{}", 2, &err), TM_ESTATE);
    close_person(&p); /* with a command under way */
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    static const char *const names[] = {
        "io",     "debug",   "ffi",     "jit",      "package",        "require", "load", "loadstring",
        "dofile", "setfenv", "getfenv", "newproxy", "collectgarbage", "host",    "_G"};
    struct person p;
    open_person(&p, (struct tm_session_options){0});
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect(&p, names[i], "\"ok\":false");
    expect(&p, "os.execute", "\"ok\":false");
    expect(&p, "string.dump", "\"ok\":true"); /* nil */
    expect(&p, "getmetatable('').__index", "\"ok\":");
    expect(&p, "getmetatable(status)", "\"ok\":true");
    expect(&p, "string.format = nil", "\"ok\":false");
    expect(&p, "rawset(string, 'format', 1)", "\"ok\":false");
    expect(&p, "setmetatable({}, { __gc = print })", "\"ok\":false");
    close_person(&p);
}

/* ---- bounds ---- */

static const char *const endless[] = {
    "while true do end",
    "pcall(function() while true do end end)",
    "while true do pcall(function() while true do end end) end",
    "xpcall(function() error('x') end, function() while true do end end)",
    "coroutine.wrap(function() while true do end end)()",
    "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "table.sort({ 3, 2, 1 }, function() while true do end end)",
    "('x'):gsub('x', function() while true do end end)",
    "('a'):rep(300000):find(('.-'):rep(9) .. 'b')",
    "setmetatable({}, { __index = function() while true do end end }).x",
    "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    "local function f() return pcall(f) end while true do f() end",
    "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
    "json.encode((function() local t = {} for i = 1, 1e9 do t[i] = i end return t end)())",
};

static void test_endless_commands_end(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){.cpu_us = 150000});
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        int64_t begun_us = tm_clock_thread_us();
        expect(&p, endless[i], "\"ok\":false");
        int64_t took_us = tm_clock_thread_us() - begun_us;
        if (took_us > 2000000)
            fail_msg("%s took %lld us of CPU time", endless[i], (long long)took_us);
    }
    expect(&p, "7", "\"result\":7");
    close_person(&p);
}

static int slow_turns;
static int64_t last_turn_us, worst_turn_us;

static void on_turn(void *arg)
{
    (void)arg;
    int64_t now_us = tm_clock_mono_us(), took_us = now_us - last_turn_us;
    worst_turn_us = took_us > worst_turn_us ? took_us : worst_turn_us;
    slow_turns += took_us > 50000;
    last_turn_us = now_us;
}

/* The rest of the loop goes on, and so do other sessions. */
static void test_a_long_command_holds_up_nobody(void **state)
{
    (void)state;
    struct person a, b;
    struct tm_timer turns;
    open_person(&a, (struct tm_session_options){.cpu_us = 10000000});
    open_person(&b, (struct tm_session_options){0});
    begin(&a, "while true do pcall(function() while true do end end) end");
    slow_turns = 0;
    worst_turn_us = 0;
    last_turn_us = tm_clock_mono_us();
    tm_timer_init(&turns, bench.services.loop, on_turn, NULL);
    tm_timer_start(&turns, 1000, 1000);
    for (int i = 0; i < 20; i++)
        expect(&b, "1 + 1", "\"result\":2");
    turn_for(200000);
    tm_timer_stop(&turns);
    assert_int_equal(a.answers, 0);
    assert_true(tm_session_is_busy(a.session));
    if (slow_turns > 3) /* of some 100; a busy machine has a few of its own */
        fail_msg("%d turns took more than 50 ms, the worst %lld us", slow_turns, (long long)worst_turn_us);
    assert_true(tm_session_cancel(a.session, "enough"));
    assert_string_equal(wait_answer(&a), "{\"ok\":false,\"error\":\"enough\"}");
    assert_false(tm_session_cancel(a.session, "enough"));
    expect(&a, "1", "\"result\":1");
    close_person(&a);
    close_person(&b);
}

/* However many are at it, most of the processor is for others. */
static void test_a_share_of_the_processor(void **state)
{
    (void)state;
    struct person all[3];
    for (int i = 0; i < 3; i++) {
        open_person(&all[i], (struct tm_session_options){.cpu_us = 10000000});
        begin(&all[i], "while true do end");
    }
    int64_t begun_us = tm_clock_thread_us();
    turn_for(600000);
    int64_t took_us = tm_clock_thread_us() - begun_us;
    assert_in_range(took_us, 10000, 100000 + 600000 / 4 + 50000); /* the burst, the share, and what it costs besides */
    for (int i = 0; i < 3; i++)
        close_person(&all[i]);
}

static void test_cancel_while_it_waits(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){0});
    begin(&p, "sleep(1000)");
    turn_for(10000);
    assert_true(tm_session_cancel(p.session, "cancelled"));
    assert_non_null(strstr(wait_answer(&p), "cancelled"));
    expect(&p, "sleep(0.01) return 3", "\"result\":3");
    expect(&p, "coroutine.wrap(function() sleep(1) end)()", "only the command itself can wait");
    expect(&p, "sleep(1e9)", "\"ok\":false");
    expect(&p, "sleep(0/0)", "\"ok\":false");
    close_person(&p);
}

static void test_memory(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){.memory_bytes_max = (size_t)16 << 20, .cpu_us = 5000000});
    expect(&p, "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5) .. i end", "not enough memory");
    expect(&p, "kept = 1", "\"ok\":true");
    expect(&p, "('x'):rep(2e9)", "not enough memory");
    expect(&p, "kept", "\"result\":1");
    expect(&p, "t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5) .. i end", "its variables are gone");
    expect(&p, "rawget(_ENV or {}, 't')", "\"ok\":");
    expect(&p, "#('x'):rep(1e6)", "\"result\":1000000");
    close_person(&p);
}

/* What all of them together hold is bounded too, and whoever holds little is served still. */
static void test_memory_of_all(void **state)
{
    (void)state;
    struct person all[4];
    tm_sessions_set_memory_max(set, (size_t)24 << 20);
    for (int i = 0; i < 4; i++)
        open_person(&all[i], (struct tm_session_options){.memory_bytes_max = (size_t)16 << 20, .cpu_us = 5000000});
    expect(&all[0], "t = {} for i = 1, 70 do t[i] = ('x'):rep(1e5) .. i end return #t", "\"result\":70");
    expect(&all[1], "t = {} for i = 1, 70 do t[i] = ('x'):rep(1e5) .. i end return #t", "\"result\":70");
    expect(&all[2], "t = {} for i = 1, 130 do t[i] = ('x'):rep(1e5) .. i end return #t", "\"ok\":false");
    expect(&all[3], "1 + 1", "\"result\":2");
    expect(&all[0], "t = nil", "\"ok\":true");
    for (int i = 0; i < 4; i++)
        close_person(&all[i]);
}

static void test_output_is_bounded(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){.output_bytes_max = 100000});
    expect(&p, "for i = 1, 1e9 do print(('x'):rep(1000)) end", "the output is larger than 97 KiB");
    assert_in_range(p.out.len, 90000, 100000);
    expect(&p, "('x'):rep(200000)", "the answer is larger than 97 KiB");
    close_person(&p);
}

static void test_a_slow_reader(void **state)
{
    (void)state;
    struct person p;
    open_person(&p, (struct tm_session_options){.cpu_us = 10000000});
    p.slow = true;
    begin(&p, "for i = 1, 100000 do print('1234567') end return 'end'");
    turn_for(100000);
    size_t shown = p.out.len;
    assert_in_range(shown, 1, 700000);
    turn_for(50000);
    assert_int_equal(p.out.len, shown); /* it rests */
    p.slow = false;
    tm_session_resume(p.session);
    assert_non_null(strstr(wait_answer(&p), "\"result\":\"end\""));
    assert_int_equal(p.out.len, 800000);
    p.slow = true;
    begin(&p, "for i = 1, 100000 do print('1234567') end");
    turn_for(50000);
    assert_true(tm_session_cancel(p.session, "cancelled")); /* resting or not */
    close_person(&p);
}

/* ---- the script ---- */

#define SCRIPT                                                                                                         \
    "role() tm.alert 'Many' { when = 'x_total > 5', hold = '10s' }\n"                                                  \
    "tm.routine 'mend' { on = { 'gap' }, run = function(run) run:step('mending') end }\n"                              \
    "local s = tm.state('s', { n = 1 })\n"

static void test_apart_from_the_script(void **state)
{
    (void)state;
    struct person a, b;
    bench_run(SCRIPT "tm.on('start', function() count 'started' end)");
    bench_until("started", 1);
    open_person(&a, (struct tm_session_options){.owner.role = 2});
    open_person(&b, (struct tm_session_options){.owner.role = 2});
    expect(&a, "x = 1", "\"ok\":true");
    expect(&b, "x", "\"ok\":false");
    expect(&a, "policy 'return type(rawget(_G or {}, \\\"x\\\"))'", "\"ok\":false"); /* there is no _G, and no x */
    expect(&a, "policy 'return x'", "'x' is not defined");
    expect(&a, "policy 'y = 2 return y'", "\"result\":2");
    expect(&a, "policy 'return y'", "'y' is not defined");
    expect(&a, "policy 'return tm.now() > 1e15'", "\"result\":true");
    expect(&a, "policy 'tm.sleep \\\"10ms\\\" return 7'", "\"result\":7");
    expect(&a, "policy 'return {'", "near '<eof>'");
    expect(&a, "policy 'error(\\\"boom\\\", 0)'", "\"error\":\"boom\"");
    expect(&a, "policy 'return setmetatable({}, {}), print'", "\"ok\":");
    close_person(&a);
    close_person(&b);
}

static void test_a_policy_that_is_stopped_answers(void **state)
{
    (void)state;
    struct person p;
    bench_run("role() tm.on('start', function() count 'started' end)");
    bench_until("started", 1);
    open_person(&p, (struct tm_session_options){.owner.role = 2});
    expect(&p, "policy 'while true do end'", "it was stopped");
    begin(&p, "policy 'tm.sleep \\\"1h\\\"'");
    turn_for(50000);
    assert_int_equal(p.answers, 0);
    tm_sessions_script_changed(set);
    assert_non_null(strstr(wait_answer(&p), "the script was reloaded"));
    close_person(&p);
}

static void test_roles(void **state)
{
    (void)state;
    static const char *const by_role[] = {"routines()", "cancel('mend')", "alert('Many', { hold = '1m' })"};
    static const char *const admin[] = {"policy 'return 1'", "sql 'SELECT 1'", "window('trades', '1h')",
                                        "subscribe('a', 'b')"};
    struct person p;
    bench_run(SCRIPT);
    for (int role = 0; role < 3; role++) {
        open_person(&p, (struct tm_session_options){.owner.role = role});
        for (int i = 0; i < 3; i++)
            expect(&p, by_role[i], i <= role ? "\"ok\":true" : "needs more rights");
        for (size_t i = 0; role < 2 && i < sizeof admin / sizeof *admin; i++)
            expect(&p, admin[i], "needs more rights");
        close_person(&p);
    }
}

static void test_changes_by_hand(void **state)
{
    (void)state;
    struct person p;
    struct tm_buf out = {0};
    bench_run(SCRIPT);
    open_person(&p, (struct tm_session_options){.owner.role = 2});
    tm_changes_set_who(bench.services.changes, "somebody");
    expect(&p, "alert('Many', { hold = '1m', severity = 'critical' }).hold_us", "60000000");
    const struct tm_config *config = tm_script_config(bench.script);
    assert_int_equal(config->alerts[0].hold_us, 60000000);
    assert_int_equal(config->alerts[0].severity, TM_ALERT_CRITICAL);
    struct tm_alert_view view;
    tm_alerts_get(bench.services.alerts, 0, &view);
    assert_int_equal(view.severity, TM_ALERT_CRITICAL);
    expect(&p, "alert('Many', { when = 'x_total >' })", "\"ok\":false"); /* and nothing has changed */
    assert_string_equal(config->alerts[0].when, "x_total > 5");
    expect(&p, "alert('Many', { hodl = '1m' })", "did you mean \\\"hold\\\"");
    expect(&p, "alert('Mayn', { hold = '1m' })", "did you mean \\\"Many\\\"");
    expect(&p, "window('nowhere', '1h')", "there is no stream");
    expect(&p, "window('trades', '1parsec')", "expected a duration");
    assert_int_equal(tm_changes_put(bench.services.changes, &out), TM_OK);
    assert_non_null(strstr(tm_buf_cstr(&out),
                           "\"who\":\"somebody\",\"what\":\"alert(\\\"Many\\\", { hold = \\\"1m\\\", severity = "
                           "\\\"critical\\\" })\""));
    assert_null(strstr(tm_buf_cstr(&out), "x_total"));
    tm_buf_fini(&out);
    close_person(&p);
}

static void test_commands_of_the_table(void **state)
{
    (void)state;
    struct person p;
    struct tm_error err;
    static const char request[] = "{\"op\":\"command\",\"text\":\"ping\"}";
    open_person(&p, (struct tm_session_options){0});
    assert_int_equal(tm_session_start(p.session, request, sizeof request - 1, &err), TM_OK);
    assert_string_equal(wait_answer(&p), "{\"ok\":true,\"result\":\"pong\"}");
    expect(&p, "links()", "no links here");
    close_person(&p);
}

/* ---- completion ---- */

static const char *complete(struct person *p, const char *text)
{
    struct tm_error err;
    char *json;
    assert_true(asprintf(&json, "{\"op\":\"complete\",\"text\":\"%s\"}", text) > 0);
    p->answers = 0;
    assert_int_equal(tm_session_start(p->session, json, strlen(json), &err), TM_OK);
    free(json);
    return wait_answer(p);
}

static void test_completion(void **state)
{
    (void)state;
    struct person p;
    bench_run(SCRIPT);
    open_person(&p, (struct tm_session_options){0});
    assert_non_null(strstr(complete(&p, "stat"), "\"words\":[\"status\"]"));
    assert_non_null(strstr(complete(&p, "string.fo"), "[\"format\"]"));
    assert_non_null(strstr(complete(&p, "dry(\\\"m"), "[\"mend\"]"));
    assert_non_null(strstr(complete(&p, "help ta"), "[\"tap\"]"));
    assert_non_null(strstr(complete(&p, "log_level(\\\"wa"), "[\"warn\"]"));
    assert_non_null(strstr(complete(&p, "tap(\\\"trades\\\", { ti"), "[\"ticker\"]"));
    (void)ask(&p, "mine = { alpha = 1, beta = { gamma = 2 } }");
    assert_non_null(strstr(complete(&p, "mine.be"), "[\"beta\"]"));
    assert_non_null(strstr(complete(&p, "print(mine.beta.ga"), "[\"gamma\"]"));
    assert_non_null(strstr(complete(&p, "metric(\\\""), "\"words\":[]")); /* the table has no metrics here */
    (void)ask(&p, "trap = setmetatable({}, { __index = function() while true do end end })");
    assert_non_null(strstr(complete(&p, "trap.x.y"), "\"ok\":true"));
    close_person(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_values),
        TEST(test_requests_of_any_shape),
        TEST(test_what_is_not_there),
        TEST(test_endless_commands_end),
        TEST(test_a_long_command_holds_up_nobody),
        TEST(test_a_share_of_the_processor),
        TEST(test_cancel_while_it_waits),
        TEST(test_memory),
        TEST(test_memory_of_all),
        TEST(test_output_is_bounded),
        TEST(test_a_slow_reader),
        TEST(test_apart_from_the_script),
        TEST(test_a_policy_that_is_stopped_answers),
        TEST(test_roles),
        TEST(test_changes_by_hand),
        TEST(test_commands_of_the_table),
        TEST(test_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
