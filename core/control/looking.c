#include "control/looking.h"

#include "base/clock.h"
#include "control/fetch.h"
#include "control/top.h"
#include "control/view.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_ADDRESS "127.0.0.1:8080"
#define TIMEOUT_US (5 * TM_US_PER_S)
#define WIDTH 110 /* where there is no terminal */

#define SOURCE_OPTIONS                                                                                                 \
    {"--socket", "PATH", "the process's control socket"},                                                              \
    {                                                                                                                  \
        "--at", "HOST:PORT", "its admin address; default TIDEMILL_HEALTH, TIDEMILL_SOCKET, " DEFAULT_ADDRESS           \
    }

const struct tm_cli_option tm_status_options[] = {
    SOURCE_OPTIONS,
    {"--json", NULL, "all of it, as it comes"},
    {0},
};

const struct tm_cli_option tm_top_options[] = {SOURCE_OPTIONS, {0}};

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool find_source(const struct tm_cli *cli, struct tm_fetch_source *out)
{
    const char *socket = tm_cli_value(cli, "--socket"), *at = tm_cli_value(cli, "--at");
    *out = (struct tm_fetch_source){socket, at};
    if (!socket && !at) {
        out->address = environment("TIDEMILL_HEALTH");
        out->socket = out->address ? NULL : environment("TIDEMILL_SOCKET");
        out->address = out->address || out->socket ? out->address : DEFAULT_ADDRESS;
    }
    return !socket || !at;
}

static bool is_dumb(void)
{
    const char *term = environment("TERM");
    return !term || strcmp(term, "dumb") == 0;
}

static struct tm_sheet make_sheet(void)
{
    struct winsize size = {0};
    bool terminal = isatty(STDOUT_FILENO);
    (void)setlocale(LC_CTYPE, "");
    if (terminal)
        (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    return (struct tm_sheet){.width = size.ws_col > 9 ? size.ws_col : WIDTH,
                             .colour = terminal && !is_dumb() && !environment("NO_COLOR"),
                             .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0};
}

static int print_view(struct tm_buf *document)
{
    struct tm_sheet sheet = make_sheet();
    size_t len = document->len;
    TM_FATAL_UNLESS(tm_buf_reserve(document, 16) == TM_OK);
    memset(document->data + len, 0, 16); /* the scanner looks ahead */
    tm_view_put(&sheet, (struct tm_span){(const char *)document->data, len}, NULL);
    bool out = fwrite(sheet.text.data, 1, sheet.text.len, stdout) == sheet.text.len && fflush(stdout) == 0;
    tm_sheet_fini(&sheet);
    return out ? TM_EXIT_OK : TM_EXIT_FAILED;
}

static int print_once(const struct tm_cli *cli, const struct tm_fetch_source *source, bool json)
{
    struct tm_buf document = {0};
    struct tm_error err;
    int rc = tm_fetch_now(source, TIMEOUT_US, &document, &err);
    if (rc)
        fprintf(stderr, "tidemill %s: %s\n", cli->command->name, err.message);
    else if (json)
        printf("%.*s\n", (int)document.len, (const char *)document.data);
    int status = rc ? TM_EXIT_FAILED : json ? TM_EXIT_OK : print_view(&document);
    tm_buf_fini(&document);
    return status;
}

int tm_status_command(const struct tm_cli *cli)
{
    struct tm_fetch_source source;
    if (!find_source(cli, &source))
        return tm_cli_usage(cli->command, "expected --socket or --at, not both");
    return print_once(cli, &source, tm_cli_given(cli, "--json"));
}

int tm_top_command(const struct tm_cli *cli)
{
    struct tm_fetch_source source;
    if (!find_source(cli, &source))
        return tm_cli_usage(cli->command, "expected --socket or --at, not both");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || is_dumb())
        return print_once(cli, &source, false); /* what cannot be drawn anew is printed once */
    struct tm_sheet sheet = make_sheet();
    return tm_top_run(&source, sheet.colour, sheet.utf8);
}
