/*
 * tidemill-exchange: a simulated exchange that speaks Kalshi's market data protocol. This file knows all the others:
 * it reads the command line, makes the parts in their order, prints where it listens, and runs the loop until it is
 * told to stop.
 */
#include "base/clock.h"
#include "base/log.h"
#include "exchange/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define LEDGER_FLUSH_US 1000000
#define AGENDA_EVENTS_PER_S 1000.0 /* what a second means for later closings when events are made flat out */

struct exchange {
    struct tm_options opt;
    struct tm_loop *loop;
    struct tm_markets *markets;
    struct tm_ledger *ledger;
    struct tm_feed feed;
    struct tm_faults faults;
    struct tm_auth *auth;
    struct tm_generator *generator;
    struct tm_replay *replay;
    struct tm_pacer pacer;
    struct tm_rest rest;
    struct tm_control control;
    struct tm_server server;
    struct tm_timer flush;
    struct tm_signal term, interrupt;
};

static void publish(void *arg, const struct tm_event *event)
{
    tm_feed_publish(arg, event);
}

static void cleared(void *arg, uint32_t market)
{
    tm_feed_cleared(arg, market);
}

static void pass_on(void *arg, const struct tm_event *event)
{
    tm_feed_pass_on(arg, event);
}

static void on_stop(void *arg)
{
    struct exchange *x = arg;
    tm_loop_stop(x->loop);
}

static void on_flush(void *arg)
{
    struct exchange *x = arg;
    tm_ledger_flush(x->ledger, false);
}

/* As many descriptors as the system lets us have: there may be hundreds of clients. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int make_markets(struct exchange *x, struct tm_error *err)
{
    const struct tm_options *o = &x->opt;
    struct tm_markets_setup setup = {.seed = o->seed,
                                     .count = o->markets,
                                     .capacity = 2 * o->markets + 65536,
                                     .origin_us = o->start_us ? o->start_us : tm_clock_wall_us(),
                                     .structure = o->structure,
                                     .combo_every = o->combo_every};
    int rc = o->replay ? tm_replay_count_lines(o->replay, &setup.capacity, err) : TM_OK;
    if (rc)
        return rc;
    setup.count = o->replay ? 0 : setup.count;
    x->markets = tm_markets_create(&setup);
    return TM_OK;
}

static int make_source(struct exchange *x, struct tm_error *err)
{
    const struct tm_options *o = &x->opt;
    struct tm_sink sink = {publish, cleared, pass_on, &x->feed};
    if (o->replay)
        return tm_replay_open(o->replay, x->markets, sink, &x->replay, err);
    struct tm_generator_setup setup = {.seed = o->seed,
                                       .markets = x->markets,
                                       .style = &o->style,
                                       .sink = sink,
                                       .repeat = o->repeat,
                                       .events_per_s = o->rate > 0 ? o->rate : AGENDA_EVENTS_PER_S,
                                       .depth = o->depth};
    for (int i = 0; i < TM_MIX_COUNT; i++)
        setup.mix[i] = o->mix[i];
    x->generator = tm_generator_create(&setup);
    return TM_OK;
}

static int add_faults(struct exchange *x, struct tm_error *err)
{
    for (size_t i = 0; i < x->opt.faults; i++) {
        struct tm_fault fault;
        int rc = tm_fault_parse(x->opt.fault[i], &fault, err);
        if (rc)
            return rc;
        tm_faults_add(&x->faults, &fault);
    }
    return TM_OK;
}

static int open_all(struct exchange *x, struct tm_error *err)
{
    int rc = make_markets(x, err);
    if (!rc)
        rc = tm_ledger_open(x->opt.ledger, x->markets, &x->ledger, err);
    if (!rc)
        rc = tm_auth_create(&x->opt, &x->auth, err);
    if (rc)
        return rc;
    tm_feed_init(&x->feed, &x->opt, x->loop, x->markets, x->ledger);
    tm_faults_init(&x->faults, &x->feed);
    rc = make_source(x, err);
    if (!rc)
        rc = tm_pacer_init(&x->pacer, &x->feed, &x->faults, x->generator, x->replay, err);
    if (!rc)
        rc = add_faults(x, err);
    if (rc)
        return rc;
    tm_rest_init(&x->rest, x->auth, &x->feed, &x->faults);
    x->control = (struct tm_control){&x->feed, &x->faults, &x->pacer, &x->rest, x->loop};
    x->server = (struct tm_server){.loop = x->loop,
                                   .feed = &x->feed,
                                   .rest = &x->rest,
                                   .control = &x->control,
                                   .auth = x->auth,
                                   .faults = &x->faults};
    return tm_server_open(&x->server, &x->opt, err);
}

static void announce(const struct exchange *x)
{
    const char *at = x->server.plain.address, *tls = x->server.secure.address;
    printf("listening ws=ws://%s%s rest=http://%s%s control=http://%s%s", at, TM_WS_PATH, at, TM_REST_BASE, at,
           TM_CONTROL_BASE);
    if (x->server.secure.fd >= 0)
        printf(" wss=wss://%s%s https=https://%s%s", tls, TM_WS_PATH, tls, TM_REST_BASE);
    printf("\n");
    (void)fflush(stdout);
}

static void run(struct exchange *x)
{
    tm_signal_init(&x->term, x->loop, SIGTERM, on_stop, x);
    tm_signal_init(&x->interrupt, x->loop, SIGINT, on_stop, x);
    tm_timer_init(&x->flush, x->loop, on_flush, x);
    tm_timer_start(&x->flush, LEDGER_FLUSH_US, LEDGER_FLUSH_US);
    announce(x);
    tm_pacer_run(&x->pacer, x->loop);
    tm_loop_run(x->loop);
    tm_pacer_fini(&x->pacer);
    tm_timer_stop(&x->flush);
    tm_signal_fini(&x->term);
    tm_signal_fini(&x->interrupt);
}

static void close_all(struct exchange *x)
{
    tm_server_close(&x->server);
    tm_faults_fini(&x->faults);
    tm_rest_fini(&x->rest);
    tm_feed_fini(&x->feed);
    if (x->generator)
        tm_generator_destroy(x->generator);
    if (x->replay)
        tm_replay_close(x->replay);
    tm_auth_put(x->auth);
    tm_ledger_close(x->ledger);
    tm_markets_destroy(x->markets);
    tm_loop_destroy(x->loop);
}

int main(int argc, char **argv)
{
    static struct exchange x;
    struct tm_error err;
    bool help;
    tm_log_init(TM_LOG_INFO, TM_LOG_LOGFMT, NULL);
    if (tm_options_parse(&x.opt, argc, argv, &help, &err)) {
        (void)fprintf(stderr, "tidemill-exchange: %s\n", err.message);
        return 2;
    }
    if (help) {
        tm_options_help(stdout);
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    raise_limits();
    x.loop = tm_loop_create();
    int rc = open_all(&x, &err);
    if (rc) { /* the process ends: what was opened goes with it */
        (void)fprintf(stderr, "tidemill-exchange: %s\n", err.message);
        return rc == TM_EINVAL ? 2 : 1;
    }
    if (tm_log_start(&err))
        tm_log(TM_LOG_ERROR, "exchange", "the log has no thread of its own: whoever logs may have to wait for stderr",
               TM_F_ERR(&err));
    run(&x);
    bool failed = x.replay && tm_replay_failed(x.replay);
    close_all(&x);
    return failed;
}
