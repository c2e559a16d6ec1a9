#include "control/alerts.h"
#include "control/asking.h"

#include "base/clock.h"
#include "base/json.h"
#include "control/client.h"
#include "control/daemon_private.h"
#include "control/offline.h"
#include "control/remote.h"
#include "record/decode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_US INT64_C(5000000)
#define LOOK_AHEAD 16 /* the scanner's */

const struct tm_cli_option tm_alerts_options[] = {
    TM_SOCKET_OPTION,
    {"--json", NULL, "the whole answer, as it comes"},
    {"--silence", "NAME", "tell nobody of this alert (* stands for any text), with --for"},
    {"--for", "TIME", "how long, such as 30m, 2h, 7d"},
    {"--reason", "TEXT", "why it is silenced"},
    {"--unsilence", "NAME", "end a silence"},
    {"--prometheus", NULL, "print the alerts of the scripts FILE... as rules of Prometheus"},
    {0},
};

/* ---- in the process ---- */

static int put_member(struct tm_buf *out, const char *name, const char *text)
{
    int rc = tm_buf_printf(out, ",\"%s\":", name);
    return rc ? rc : tm_json_put_string(out, text);
}

static int put_alert(struct tm_buf *out, const struct tm_alert_view *a, bool first)
{
    int rc = tm_buf_printf(
        out, "%s{\"name\":\"%s\",\"state\":\"%s\",\"severity\":\"%s\",\"silenced\":%s,\"since_ms\":%" PRId64,
        first ? "" : ",", a->name, tm_alert_state_name(a->state), tm_alert_severity_name(a->severity),
        a->silenced ? "true" : "false", a->since_us / 1000);
    if (!rc)
        rc = isfinite(a->value) ? tm_buf_printf(out, ",\"value\":%.15g", a->value)
                                : tm_buf_printf(out, ",\"value\":null");
    rc = rc ? rc : put_member(out, "summary", a->summary);
    rc = rc ? rc : put_member(out, "description", a->description);
    rc = rc ? rc : put_member(out, "runbook", a->runbook);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

static int put_silence(struct tm_buf *out, const struct tm_alert_silence *s, bool first)
{
    int rc = tm_buf_printf(out, "%s{\"alert\":\"%s\",\"until_ms\":%" PRId64, first ? "" : ",", s->pattern,
                           s->until_us / 1000);
    rc = rc ? rc : put_member(out, "reason", s->why);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_alerts_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    const struct tm_daemon *d = context;
    const struct tm_alerts *alerts = d->services.alerts;
    int64_t now_us = tm_clock_wall_us();
    int rc = tm_buf_printf(out, "{\"alerts\":[");
    for (size_t i = 0; alerts && i < tm_alerts_count(alerts) && !rc; i++) {
        struct tm_alert_view a;
        tm_alerts_get(alerts, i, &a);
        a.silenced = tm_alerts_is_silenced(alerts, a.name, now_us);
        rc = put_alert(out, &a, i == 0);
    }
    rc = rc ? rc : tm_buf_printf(out, "],\"silences\":[");
    bool first = true;
    for (size_t i = 0; alerts && i < tm_alerts_silence_count(alerts) && !rc; i++) {
        const struct tm_alert_silence *s = tm_alerts_silence_get(alerts, i);
        if (s->until_us <= now_us)
            continue;
        rc = put_silence(out, s, first);
        first = false;
    }
    rc = rc ? rc : tm_buf_printf(out, "]}");
    return rc ? tm_error_set(err, rc, "no memory for the alerts") : TM_OK;
}

int tm_alerts_silence_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    const struct tm_daemon *d = context;
    char name[80];
    long long seconds;
    int end = 0;
    if (sscanf(args, "%79s %lld%n", name, &seconds, &end) != 2 || seconds < 0 || seconds > INT64_C(3650) * 86400)
        return tm_error_set(err, TM_EINVAL, "expected silence NAME SECONDS [why]");
    if (!d->services.alerts)
        return tm_error_set(err, TM_ENOENT, "the script has no alerts");
    int64_t now_us = tm_clock_wall_us();
    int rc = tm_alerts_silence(d->services.alerts, name, seconds ? now_us + seconds * TM_US_PER_S : 0,
                               args[end] ? args + end + 1 : "", now_us, err);
    return rc ? rc : tm_json_put_string(out, seconds ? "silenced" : "the silence is over");
}

/* ---- the command line ---- */

static bool get(struct tm_span document, const char *list, int number, const char *member, struct tm_span *out)
{
    char path[64];
    (void)snprintf(path, sizeof path, "result.%s[%d].%s", list, number, member);
    *out = (struct tm_span){"", 0};
    return tm_json_get(document, path, out) == TM_OK;
}

static void put_column(struct tm_span document, const char *list, int number, const char *member, int width)
{
    struct tm_span text;
    (void)get(document, list, number, member, &text);
    bool quoted = text.len >= 2 && text.at[0] == '"';
    printf("%-*.*s ", width, (int)(quoted ? text.len - 2 : text.len), quoted ? text.at + 1 : text.at);
}

static void put_moment(struct tm_span ms)
{
    time_t at = (time_t)(strtoll(ms.len ? ms.at : "0", NULL, 10) / 1000);
    char text[32] = "-";
    struct tm tm;
    if (at && gmtime_r(&at, &tm))
        (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &tm);
    printf("%-20s ", text);
}

static bool is(struct tm_span text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

static void print_alerts(struct tm_span document)
{
    struct tm_span silenced, since, summary;
    printf("%-9s %-9s %-26s %-20s\n", "STATE", "SEVERITY", "ALERT", "SINCE");
    for (int i = 0; get(document, "alerts", i, "silenced", &silenced); i++) {
        put_column(document, "alerts", i, "state", 9);
        put_column(document, "alerts", i, "severity", 9);
        put_column(document, "alerts", i, "name", 26);
        (void)get(document, "alerts", i, "since_ms", &since);
        put_moment(since);
        fputs(is(silenced, "true") ? "(silenced) " : "", stdout);
        (void)get(document, "alerts", i, "summary", &summary);
        tm_remote_print_string(stdout, summary);
        putchar('\n');
    }
}

static void print_silences(struct tm_span document)
{
    struct tm_span until, reason;
    for (int i = 0; get(document, "silences", i, "until_ms", &until); i++) {
        fputs(i ? "" : "\nSILENCED                   UNTIL\n", stdout);
        put_column(document, "silences", i, "alert", 26);
        put_moment(until);
        (void)get(document, "silences", i, "reason", &reason);
        tm_remote_print_string(stdout, reason);
        putchar('\n');
    }
}

static int print_answer(struct tm_buf *answer, bool json, bool listing)
{
    struct tm_span ok = {"", 0}, error = {"", 0};
    size_t len = answer->len;
    if (tm_buf_reserve(answer, LOOK_AHEAD) < 0)
        return TM_EXIT_FAILED;
    memset(answer->data + len, 0, LOOK_AHEAD);
    struct tm_span document = {(const char *)answer->data, len};
    bool good = tm_json_get(document, "ok", &ok) == TM_OK && is(ok, "true");
    if (json) {
        printf("%.*s\n", (int)len, document.at);
    } else if (!good) {
        fputs("tidemill alerts: ", stderr);
        tm_remote_print_string(stderr, tm_json_get(document, "error", &error) == TM_OK ? error : document);
        fputc('\n', stderr);
    } else if (listing) {
        print_alerts(document);
        print_silences(document);
    }
    return good ? TM_EXIT_OK : TM_EXIT_FAILED;
}

static int ask(const char *socket, const char *line, bool json, bool listing)
{
    struct tm_buf answer = {0};
    struct tm_error err;
    int rc = tm_client_ask(socket, line, TIMEOUT_US, &answer, &err);
    if (rc)
        fprintf(stderr, "tidemill alerts: %s\n", err.message);
    rc = rc ? TM_EXIT_FAILED : print_answer(&answer, json, listing);
    tm_buf_fini(&answer);
    return rc;
}

/* "30m" in seconds; 0: it is none. */
static long long seconds_of(const char *text)
{
    char *unit;
    long long n = strtoll(text, &unit, 10);
    long long each = strcmp(unit, "s") == 0   ? 1
                     : strcmp(unit, "m") == 0 ? 60
                     : strcmp(unit, "h") == 0 ? 3600
                     : strcmp(unit, "d") == 0 ? 86400
                                              : 0;
    return unit != text && n > 0 && n <= 3650 * 86400LL && each ? n * each : 0;
}

static int silence(const struct tm_cli *cli, const char *socket)
{
    const char *name = tm_cli_value(cli, "--silence"), *ended = tm_cli_value(cli, "--unsilence");
    const char *time = tm_cli_value(cli, "--for"), *reason = tm_cli_value(cli, "--reason");
    char line[1024];
    if (name && ended)
        return tm_cli_usage(cli->command, "expected --silence or --unsilence, not both");
    long long seconds = name && time ? seconds_of(time) : 0;
    if (name && !seconds)
        return tm_cli_usage(cli->command, "--silence: expected --for with a time such as 30m, 2h or 7d");
    if (strpbrk(name ? name : ended, " \t\n") || (reason && strpbrk(reason, "\n")))
        return tm_cli_usage(cli->command, "expected the name of an alert and a reason of one line");
    (void)snprintf(line, sizeof line, "silence %s %lld %s", name ? name : ended, seconds, reason ? reason : "");
    return ask(socket, line, tm_cli_given(cli, "--json"), false);
}

static int print_rules(const struct tm_cli *cli)
{
    struct tm_script *scripts[TM_CLI_FILES_MAX] = {0};
    struct tm_rules_source sources[TM_CLI_FILES_MAX];
    struct tm_buf out = {0};
    struct tm_error err = {0};
    int rc = TM_EXIT_OK;
    for (size_t i = 0; i < cli->file_count && !rc; i++) {
        scripts[i] = tm_offline_load(cli->files[i]);
        rc = scripts[i] ? TM_EXIT_OK : TM_EXIT_CONFIG;
        if (!rc)
            sources[i] = (struct tm_rules_source){cli->files[i], tm_script_config(scripts[i])};
    }
    if (!rc && tm_rules_print(sources, cli->file_count, &out, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        rc = TM_EXIT_FAILED;
    }
    if (!rc && tm_offline_print(&out, TM_OK) < 0)
        rc = TM_EXIT_FAILED;
    tm_buf_fini(&out);
    for (size_t i = 0; i < cli->file_count; i++)
        tm_script_destroy(scripts[i]);
    return rc;
}

int tm_alerts_cli(const struct tm_cli *cli)
{
    if (tm_cli_given(cli, "--prometheus"))
        return cli->file_count ? print_rules(cli) : tm_cli_usage(cli->command, "--prometheus: expected FILE...");
    if (cli->file_count)
        return tm_cli_usage(cli->command, "unexpected argument %s: only --prometheus takes scripts", cli->files[0]);
    const char *socket = tm_asking_socket(cli);
    if (!socket)
        return TM_EXIT_USAGE;
    if (tm_cli_given(cli, "--silence") || tm_cli_given(cli, "--unsilence"))
        return silence(cli, socket);
    return ask(socket, "alerts", tm_cli_given(cli, "--json"), true);
}
