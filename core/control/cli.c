#include "control/cli.h"

#include "base/nearest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_nearest(const char *name, const char *candidate, bool *done)
{
    if (!*done && tm_name_is_near(name, candidate)) {
        fprintf(stderr, ", did you mean %s?", candidate);
        *done = true;
    }
}

/* ---- help ---- */

static void print_usage(FILE *out, const struct tm_cli_command *c)
{
    fprintf(out, "usage: tidemill %s", c->name);
    for (const struct tm_cli_option *o = c->options; o && o->name; o++)
        fprintf(out, o->value ? " [%s %s]" : " [%s]", o->name, o->value);
    if (c->files)
        fprintf(out, c->files_min ? " %s" : " [%s]", c->files);
    fputc('\n', out);
}

int tm_cli_usage(const struct tm_cli_command *command, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, "tidemill %s: ", command->name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    print_usage(stderr, command);
    return TM_EXIT_USAGE;
}

static int help_command(const struct tm_cli_command *c)
{
    print_usage(stdout, c);
    printf("\n%s\n", c->help);
    for (const struct tm_cli_option *o = c->options; o && o->name; o++) {
        char left[64];
        (void)snprintf(left, sizeof left, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("%s  %-26s %s\n", o == c->options ? "\n" : "", left, o->help);
    }
    return TM_EXIT_OK;
}

static int help_all(const struct tm_cli_command *commands, const char *about)
{
    printf("%s\n\n", about);
    for (const struct tm_cli_command *c = commands; c->name; c++)
        printf("  tidemill %-8s %-16s %s\n", c->name, c->files ? c->files : "", c->help);
    puts(
        "\n'tidemill help COMMAND' lists its options.\n"
        "--grant LIBRARIES, or TIDEMILL_GRANT: what scripts may use beyond the sandbox, some of io,os,debug,ffi,jit; the\n"
        "last three let a script take off its own guards.\n"
        "Exit status: 0 fine, 1 failed, 2 usage, 78 bad configuration.");
    return TM_EXIT_OK;
}

static const struct tm_cli_command *find_command(const struct tm_cli_command *commands, const char *name)
{
    for (const struct tm_cli_command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static int unknown_command(const struct tm_cli_command *commands, const char *name)
{
    bool done = false;
    fprintf(stderr, "tidemill: %s%s", *name ? "unknown command " : "expected a command", name);
    for (const struct tm_cli_command *c = commands; *name && c->name; c++)
        print_nearest(name, c->name, &done);
    fprintf(stderr, "; try 'tidemill help'\n");
    return TM_EXIT_USAGE;
}

static int help(const struct tm_cli_command *commands, const char *about, const char *name)
{
    const struct tm_cli_command *c = name ? find_command(commands, name) : NULL;
    if (c)
        return help_command(c);
    return name ? unknown_command(commands, name) : help_all(commands, about);
}

/* ---- options ---- */

static int unknown_option(const struct tm_cli_command *c, const char *word)
{
    bool done = false;
    fprintf(stderr, "tidemill %s: unknown option %s", c->name, word);
    for (const struct tm_cli_option *o = c->options; o && o->name; o++)
        print_nearest(word, o->name, &done);
    fputc('\n', stderr);
    print_usage(stderr, c);
    return TM_EXIT_USAGE;
}

static int take_option(struct tm_cli *cli, char ***at)
{
    const char *word = **at, *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word), i = 0;
    const struct tm_cli_option *o = cli->command->options;
    for (; o && o->name && (strlen(o->name) != len || strncmp(o->name, word, len) != 0); o++)
        i++;
    if (!o || !o->name)
        return unknown_option(cli->command, word);
    if (!o->value && equals)
        return tm_cli_usage(cli->command, "%s takes no value", o->name);
    if (o->value && !equals && !*++*at)
        return tm_cli_usage(cli->command, "%s: expected %s after it", o->name, o->value);
    cli->values[i] = !o->value ? "" : equals ? equals + 1 : **at;
    return TM_EXIT_OK;
}

static int take_file(struct tm_cli *cli, const char *word)
{
    if (cli->file_count == cli->command->files_max || cli->file_count == TM_CLI_FILES_MAX)
        return tm_cli_usage(cli->command, "unexpected argument %s", word);
    cli->files[cli->file_count++] = word;
    return TM_EXIT_OK;
}

static int parse(struct tm_cli *cli, char **at)
{
    bool options = true;
    int rc = TM_EXIT_OK;
    for (; !rc && *at; at++) { /* an option without its value leaves `at` at the end */
        if (options && strcmp(*at, "--") == 0)
            options = false;
        else if (options && (*at)[0] == '-' && (*at)[1])
            rc = take_option(cli, &at);
        else
            rc = take_file(cli, *at);
    }
    if (!rc && cli->file_count < cli->command->files_min)
        rc = tm_cli_usage(cli->command, "expected %s", cli->command->files);
    return rc;
}

static bool asks_for_help(char **at)
{
    for (; *at && strcmp(*at, "--") != 0; at++)
        if (strcmp(*at, "--help") == 0 || strcmp(*at, "-h") == 0)
            return true;
    return false;
}

int tm_cli_main(const struct tm_cli_command *commands, const char *about, int argc, char **argv)
{
    static char *nothing[] = {NULL};
    const char *name = argc > 1 ? argv[1] : "";
    char **rest = argc > 1 ? argv + 2 : nothing;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help(commands, about, argc > 2 ? argv[2] : NULL);
    struct tm_cli cli = {.command = find_command(commands, strcmp(name, "--version") == 0 ? "version" : name)};
    if (!cli.command)
        return unknown_command(commands, name);
    if (asks_for_help(rest))
        return help_command(cli.command);
    int rc = parse(&cli, rest);
    return rc ? rc : cli.command->run(&cli);
}

const char *tm_cli_value(const struct tm_cli *cli, const char *name)
{
    size_t i = 0;
    for (const struct tm_cli_option *o = cli->command->options; o && o->name; o++, i++)
        if (strcmp(o->name, name) == 0)
            return cli->values[i];
    return NULL;
}

bool tm_cli_given(const struct tm_cli *cli, const char *name)
{
    return tm_cli_value(cli, name) != NULL;
}

bool tm_cli_number(const char *text, long long low, long long high, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && !errno && *out >= low && *out <= high;
}
