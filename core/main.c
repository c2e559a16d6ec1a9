/*
 * tidemill: argv and nothing else. The only file that knows every room.
 *
 * Exit status: 0 fine, 1 failed, 2 usage, 78 bad configuration.
 */
#include "control/client.h"
#include "control/daemon.h"
#include "control/granting.h"
#include "control/offline.h"
#include "control/remote.h"
#include "record/decode.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2
#define STATUS_TIMEOUT_US INT64_C(5000000)

struct program {
    const char *name, *arguments, *help;
    int (*run)(int argc, char **argv);
};

static const struct program programs[];

static int usage(const char *name);

/* The one argument that is not an option, or NULL; options must be in the list. */
static const char *parse(int argc, char **argv, const char *const *options, bool *given)
{
    const char *file = NULL;
    for (int i = 0; i < argc; i++) {
        size_t o = 0;
        while (options[o] && strcmp(options[o], argv[i]) != 0)
            o++;
        if (options[o]) {
            given[o] = true;
        } else if (argv[i][0] == '-' && argv[i][1]) {
            fprintf(stderr, "tidemill: unknown option %s\n", argv[i]);
            return NULL;
        } else if (file) {
            fprintf(stderr, "tidemill: expected one file, got %s and %s\n", file, argv[i]);
            return NULL;
        } else {
            file = argv[i];
        }
    }
    return file;
}

static int run(int argc, char **argv)
{
    static const char *const options[] = {NULL};
    const char *file = parse(argc, argv, options, NULL);
    if (!file)
        return usage("run");
    const char *path = tm_daemon_path(file);
    struct tm_script *script = tm_offline_load(path);
    return script ? tm_daemon_run(script, path, TM_VERSION) : TM_EXIT_CONFIG;
}

static int check(int argc, char **argv)
{
    static const char *const options[] = {"--json", NULL};
    bool given[1] = {false};
    const char *file = parse(argc, argv, options, given);
    return file ? tm_offline_check(file, given[0]) : usage("check");
}

static int schema(int argc, char **argv)
{
    static const char *const options[] = {"--local", "--production", NULL};
    bool given[2] = {false, false};
    const char *file = parse(argc, argv, options, given);
    if (!file || (given[0] && given[1]))
        return usage("schema");
    return tm_offline_schema(file, given[0] ? TM_SCHEMA_LOCAL : given[1] ? TM_SCHEMA_PRODUCTION : TM_SCHEMA_ROLE);
}

static int migrate(int argc, char **argv)
{
    static const char *const options[] = {NULL};
    const char *file = parse(argc, argv, options, NULL);
    return file ? tm_offline_migrate(file) : usage("migrate");
}

/* Print what stands in the answer {"ok":true,"result":...}; its error goes to stderr. */
static int print_answer(struct tm_buf *answer)
{
    struct tm_span document, result;
    struct tm_buf out = {0};
    size_t len = answer->len;
    if (tm_buf_reserve(answer, 16) < 0)
        return 1;
    memset(answer->data + len, 0, 16); /* the scanner looks ahead */
    document = (struct tm_span){(const char *)answer->data, len};
    bool ok = tm_json_get(document, "result", &result) == TM_OK;
    if (!ok && tm_json_get(document, "error", &result) < 0)
        result = document;
    int rc = tm_client_pretty(result.at, result.len, &out);
    if (!rc)
        fwrite(out.data, 1, out.len, ok ? stdout : stderr);
    tm_buf_fini(&out);
    return ok && !rc ? 0 : 1;
}

/* The socket of --socket or of the environment, and whether --json is there (`json` NULL: it may not). NULL: usage. */
static const char *parse_remote(const char *name, int argc, char **argv, bool *json)
{
    const char *path = getenv("TIDEMILL_SOCKET");
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            path = argv[++i];
        } else if (json && strcmp(argv[i], "--json") == 0) {
            *json = true;
        } else {
            (void)usage(name);
            return NULL;
        }
    }
    if (path && *path)
        return path;
    fprintf(stderr, "tidemill %s: expected --socket PATH or TIDEMILL_SOCKET\n", name);
    return NULL;
}

static int reload(int argc, char **argv)
{
    bool json = false;
    const char *path = parse_remote("reload", argc, argv, &json);
    return path ? tm_remote_reload(path, json) : EXIT_USAGE;
}

static int status(int argc, char **argv)
{
    const char *path = parse_remote("status", argc, argv, NULL);
    if (!path)
        return EXIT_USAGE;
    struct tm_buf answer = {0};
    struct tm_error err;
    int rc = tm_client_ask(path, "status", STATUS_TIMEOUT_US, &answer, &err);
    if (rc)
        fprintf(stderr, "tidemill status: %s\n", err.message);
    rc = rc ? 1 : print_answer(&answer);
    tm_buf_fini(&answer);
    return rc;
}

static int version(int argc, char **argv)
{
    (void)argv;
    if (argc)
        return usage("version");
    puts("tidemill " TM_VERSION);
    return 0;
}

static int help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("tidemill captures an exchange's market data as its Lua script says.\n");
    for (const struct program *p = programs; p->name; p++)
        printf("  tidemill %-8s %-30s %s\n", p->name, p->arguments, p->help);
    puts(
        "\nLIBRARIES, also in TIDEMILL_GRANT: what scripts may use beyond the sandbox, some of io,os,debug,ffi,jit; the\n"
        "last three let a script take off its own guards.");
    puts("\nExit status: 0 fine, 1 failed, 2 usage, 78 bad configuration.");
    return 0;
}

static const struct program programs[] = {
    {"run", "[--grant LIBRARIES] FILE", "run the gatherer or deduplicator of a script", run},
    {"check", "[--grant LIBRARIES] [--json] FILE", "check a script as start would; all problems at once", check},
    {"schema", "[--local|--production] FILE", "print the SQL of a script's tables", schema},
    {"migrate", "FILE", "create or bring up to date the tables of the script's store", migrate},
    {"reload", "[--socket PATH] [--json]", "make a running process read its script anew (or TIDEMILL_SOCKET)", reload},
    {"status", "[--socket PATH]", "what a running process is doing (or TIDEMILL_SOCKET)", status},
    {"version", "", "print the version", version},
    {"help", "", "print this", help},
    {0},
};

static int usage(const char *name)
{
    for (const struct program *p = programs; p->name; p++)
        if (strcmp(p->name, name) == 0)
            fprintf(stderr, "usage: tidemill %s %s\n", p->name, p->arguments);
    return EXIT_USAGE;
}

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
    const char *name = argc > 1 ? argv[1] : "";
    bool daemon = strcmp(name, "run") == 0;
    if (daemon)
        hold_signals();
    struct tm_error err;
    if (tm_granting_take(&argc, argv, &err) < 0) {
        fprintf(stderr, "tidemill: %s\n", err.message);
        return EXIT_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    for (const struct program *p = programs; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p->run(argc - 2, argv + 2);
    fprintf(stderr, "tidemill: %s%s; try 'tidemill help'\n", *name ? "unknown command " : "expected a command", name);
    return EXIT_USAGE;
}
