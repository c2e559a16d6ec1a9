#include "control/console.h"

#include "base/clock.h"
#include "base/log.h"
#include "control/page.h"
#include "net/wsd.h"

#include <stdlib.h>
#include <string.h>

#define TURN_US TM_US_PER_S

/* Nothing from elsewhere, nothing inline, in nobody's frame. */
static const char page_headers[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "Referrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\n";

struct tm_console {
    struct tm_console_options options;
    struct tm_wsd *wsd;
    struct tm_timer turn;
    struct tm_buf document;
    struct tm_metric *consoles;
};

static void serve_page(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)arg;
    (void)query;
    const struct tm_page_file *f = tm_page_files;
    while (strcmp(f->path, path) != 0)
        f++; /* only their paths lead here */
    answer->content_type = f->content_type;
    answer->headers = page_headers;
    if (tm_buf_append(answer->body, f->bytes, (size_t)(f->end - f->bytes)))
        answer->status = 500;
}

static void serve_state(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    struct tm_console *c = arg;
    (void)path;
    answer->content_type = "application/json";
    if (tm_state_put(c->options.state, strcmp(query, "history") == 0, answer->body) ||
        tm_buf_append(answer->body, "\n", 1))
        answer->status = 500;
}

static void on_open(void *arg, struct tm_buf *out)
{
    struct tm_console *c = arg;
    if (tm_state_put(c->options.state, true, out))
        tm_buf_clear(out); /* no memory: the next turn brings it, without what was before */
}

static int tell(struct tm_console *c)
{
    tm_buf_clear(&c->document);
    int rc = tm_state_put(c->options.state, false, &c->document);
    return rc ? rc : tm_wsd_tell(c->wsd, (const char *)c->document.data, c->document.len);
}

static void on_turn(void *arg)
{
    struct tm_console *c = arg;
    tm_state_sample(c->options.state);
    tm_metric_set(c->consoles, (double)tm_wsd_count(c->wsd));
    if (tm_wsd_count(c->wsd) && tell(c))
        TM_LOG_LIMITED(TM_LOG_WARN, "console", "no memory for the state; the pages miss a second");
}

static int add_routes(struct tm_console *c, struct tm_error *err)
{
    const struct tm_console_options *o = &c->options;
    int rc = TM_OK;
    tm_httpd_allow_names(o->httpd, o->names ? o->names : "");
    for (const struct tm_page_file *f = tm_page_files; !rc && f->path; f++)
        rc = tm_httpd_page(o->httpd, o->address, f->path, serve_page, c, err);
    rc = rc ? rc : tm_httpd_page(o->httpd, o->address, "/state", serve_state, c, err);
    return rc ? rc : tm_httpd_socket(o->httpd, o->address, "/live", tm_wsd_take, c->wsd, err);
}

int tm_console_open(const struct tm_console_options *options, struct tm_console **out, struct tm_error *err)
{
    struct tm_console *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    c->options = *options;
    c->consoles = tm_metrics_gauge(options->metrics, "tidemill_consoles", "Console pages that are open.", NULL);
    struct tm_wsd_options wsd = {.loop = options->loop, .peers_max = TM_CONSOLES_MAX, .on_open = on_open, .arg = c};
    tm_timer_init(&c->turn, options->loop, on_turn, c);
    int rc = tm_wsd_create(&wsd, &c->wsd, err);
    rc = rc ? rc : add_routes(c, err);
    if (rc) {
        tm_console_close(c);
        return rc;
    }
    tm_timer_start(&c->turn, TURN_US, TURN_US);
    *out = c;
    return TM_OK;
}

void tm_console_close(struct tm_console *c)
{
    if (!c)
        return;
    tm_timer_stop(&c->turn);
    tm_wsd_destroy(c->wsd);
    tm_buf_fini(&c->document);
    free(c);
}
