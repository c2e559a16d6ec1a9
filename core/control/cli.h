/*
 * The command line: one table of commands says what each takes and what help prints, so that all of them parse alike.
 *
 *     tidemill COMMAND [OPTIONS] FILE...       tidemill help COMMAND       tidemill COMMAND --help
 *
 * Options may stand anywhere; a value follows as the next word or after "=". "--" ends them. An unknown command or
 * option is answered with the nearest name. Nothing here allocates; a command gets pointers into argv.
 */
#ifndef TM_CONTROL_CLI_H
#define TM_CONTROL_CLI_H

#include <stdbool.h>
#include <stddef.h>

#define TM_EXIT_OK 0
#define TM_EXIT_FAILED 1
#define TM_EXIT_USAGE 2
#define TM_EXIT_CONFIG 78

#define TM_CLI_OPTIONS_MAX 16
#define TM_CLI_FILES_MAX 256

struct tm_cli_option {
    const char *name;  /* "--json" */
    const char *value; /* what help calls its value: "FILE"; NULL: it takes none */
    const char *help;
};

struct tm_cli;

struct tm_cli_command {
    const char *name;
    const char *files;                   /* what help calls the arguments: "FILE", "DIR|FILE..."; NULL: it takes none */
    const char *help;                    /* one line */
    const struct tm_cli_option *options; /* ended by one without name; NULL: none */
    size_t files_min, files_max;
    int (*run)(const struct tm_cli *cli);
};

struct tm_cli {
    const struct tm_cli_command *command;
    const char *values[TM_CLI_OPTIONS_MAX]; /* by option; "" for one without value that was given; NULL: not given */
    const char *files[TM_CLI_FILES_MAX];
    size_t file_count;
};

/* Find the command, parse what follows it, run it. `about` is the first line of help. Returns the exit status. */
int tm_cli_main(const struct tm_cli_command *commands, const char *about, int argc, char **argv);

/* An option of this command by name: its value ("" if it takes none), NULL when it was not given. */
const char *tm_cli_value(const struct tm_cli *cli, const char *name);
bool tm_cli_given(const struct tm_cli *cli, const char *name);

/* Say what is wrong and how it is used; returns TM_EXIT_USAGE. */
int tm_cli_usage(const struct tm_cli_command *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A whole number in decimal from `low` to `high`; false when it is none. */
bool tm_cli_number(const char *text, long long low, long long high, long long *out);

#endif
