/*
 * tidemill: argv and nothing else. The only file that knows every room.
 *
 * Exit status: 0 fine, 1 failed, 2 usage, 78 bad configuration.
 */
#include "control/alerts.h"
#include "control/archive.h"
#include "control/asking.h"
#include "control/cli.h"
#include "control/coverage.h"
#include "control/daemon.h"
#include "control/granting.h"
#include "control/journal_tool.h"
#include "control/looking.h"
#include "control/offline.h"
#include "control/plan.h"
#include "control/quarantine_tool.h"
#include "control/remote.h"
#include "control/replay.h"
#include "control/reshard.h"
#include "control/restore.h"
#include "control/retire.h"
#include "control/testing.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

static int run(const struct tm_cli *cli)
{
    const char *path = tm_daemon_path(cli->files[0]);
    struct tm_script *script = tm_offline_load(path);
    if (!script)
        return TM_EXIT_CONFIG;
    return tm_cli_given(cli, "--probe") ? tm_daemon_probe(script, path, TM_VERSION)
                                        : tm_daemon_run(script, path, TM_VERSION);
}

static int check(const struct tm_cli *cli)
{
    int worst = TM_EXIT_OK;
    for (size_t i = 0; i < cli->file_count; i++) {
        int rc = tm_offline_check(cli->files[i], tm_cli_given(cli, "--json"), tm_cli_given(cli, "--tests"));
        worst = rc > worst ? rc : worst;
    }
    return worst;
}

static int schema(const struct tm_cli *cli)
{
    bool local = tm_cli_given(cli, "--local"), production = tm_cli_given(cli, "--production");
    if (local && production)
        return tm_cli_usage(cli->command, "expected --local or --production, not both");
    return tm_offline_schema(cli->files[0], local        ? TM_SCHEMA_LOCAL
                                            : production ? TM_SCHEMA_PRODUCTION
                                                         : TM_SCHEMA_ROLE);
}

static int migrate(const struct tm_cli *cli)
{
    return tm_offline_migrate(cli->files[0]);
}

static int reload(const struct tm_cli *cli)
{
    const char *path = tm_asking_socket(cli);
    return path ? tm_remote_reload(path, tm_cli_given(cli, "--json")) : TM_EXIT_USAGE;
}

static int version(const struct tm_cli *cli)
{
    (void)cli;
    puts("tidemill " TM_VERSION);
    return TM_EXIT_OK;
}

static const struct tm_cli_option run_options[] = {
    {"--probe", NULL, "start everything and stop at once: does it start here?"},
    {0},
};

static const struct tm_cli_option check_options[] = {
    {"--json", NULL, "one line of JSON for each file"},
    {"--tests", NULL, "run the scripts' own tests too (tm.test)"},
    {0},
};

static const struct tm_cli_option schema_options[] = {
    {"--local", NULL, "of the gatherer's store"},
    {"--production", NULL, "of the production store"},
    {0},
};

static const struct tm_cli_option reload_options[] = {
    TM_SOCKET_OPTION,
    {"--json", NULL, "the whole answer, as it comes"},
    {0},
};

/* name, arguments, help, options, how many arguments, what it does */
static const struct tm_cli_command commands[] = {
    {"run", "FILE", "run the gatherer or deduplicator of a script", run_options, 1, 1, run},
    {"check", "FILE...", "check scripts as start would; all problems at once", check_options, 1, 64, check},
    {"schema", "FILE", "print the SQL of a script's tables", schema_options, 1, 1, schema},
    {"migrate", "FILE", "create or bring up to date the tables of the script's store", NULL, 1, 1, migrate},
    {"plan", "FILE", "what would run: connections, streams, memory, disk, hours until full", tm_plan_options, 1, 1,
     tm_plan_command},
    {"test", "DIR|FILE...", "run tests of policy with a virtual clock and a simulated world", tm_testing_options, 1,
     TM_CLI_FILES_MAX, tm_testing_command},
    {"replay", "FILE", "recorded frames through a script's streams and keys, without any server", tm_replay_options, 1,
     1, tm_replay_command},
    {"journal", "check|dump|repair DIR", "look at the journal in a directory, or repair a damaged one",
     tm_journal_tool_options, 2, 2, tm_journal_tool_command},
    {"quarantine", "list|retry|drop FILE [ID...]", "rows that the store of a script could not take",
     tm_quarantine_tool_options, 2, TM_CLI_FILES_MAX, tm_quarantine_tool_command},
    {"coverage", "SCRIPT TICKER FROM TO", "was every record of a market brought? if not: when not, and why",
     tm_coverage_options, 4, 4, tm_coverage_command},
    {"reload", NULL, "make a running process read its script anew, and say what changed", reload_options, 0, 0, reload},
    {"status", NULL, "what a running process is doing, on one screen", tm_status_options, 0, 0, tm_status_command},
    {"top", NULL, "the same while it changes; q quits", tm_top_options, 0, 0, tm_top_command},
    {"alerts", "FILE...", "what fires in a running process; silence it; or alerts as rules of Prometheus",
     tm_alerts_options, 0, 64, tm_alerts_cli},
    {"repl", "SOCKET", "talk to a running process; without a terminal: run the lines of stdin", tm_repl_options, 0, 1,
     tm_repl_command},
    {"eval", "EXPR|-", "one command of the REPL, or all of stdin as one", tm_asking_options, 1, 1, tm_eval_command},
    {"tap", "STREAM [ticker=T] [seconds=N] [fields=A,B]", "show records of a stream as they are taken",
     tm_tap_options_of_cli, 1, 8, tm_tap_command},
    {"retire", "FILE GATHERER", "give up a gatherer for good: it holds nothing and is refused", tm_retire_options, 2, 2,
     tm_retire_command},
    {"restore-plan", "SCRIPT", "what is polled again by a production that was restored, and what nobody holds any more",
     tm_restore_plan_options, 1, 1, tm_restore_plan_command},
    {"rewind", "SCRIPT", "move cursors back to a moment, so that what came since is polled again", tm_rewind_options, 1,
     1, tm_rewind_command},
    {"reshard", "SCRIPT", "share production in as many shards as the script says; its deduplicators must be stopped",
     NULL, 1, 1, tm_reshard_command},
    {"archive", "status|run|verify FILE", "what of production is in the archive; export what is due; is it whole?",
     tm_archive_options, 2, 2, tm_archive_command},
    {"restore", "FILE", "bring rows back from the archive: into production, or beside a gatherer's own",
     tm_restore_options_of_cli, 1, 1, tm_restore_command},
    {"version", NULL, "print the version", NULL, 0, 0, version},
    {0},
};

/* First of all: a reload or stop that comes before its handler must wait for it, not kill the process. */
static void hold_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    (void)prctl(PR_SET_DUMPABLE, 0); /* secrets in memory: no core file, no debugger but root's */
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        hold_signals();
    struct tm_error err;
    if (tm_granting_take(&argc, argv, &err) < 0) {
        fprintf(stderr, "tidemill: %s\n", err.message);
        return TM_EXIT_USAGE;
    }
    return tm_cli_main(commands, "tidemill captures an exchange's market data as its Lua script says.", argc, argv);
}
