/*
 * The listeners and what hangs on them: accepted connections, first HTTP, some later WebSocket clients. Decides by
 * path: /trade-api/ws/v2 upgrades, /trade-api/v2 is REST, /control is control. Owns its connections; they are freed
 * at the end of the turn in which they closed. Loop's thread.
 */
#ifndef TM_EXCHANGE_SERVER_H
#define TM_EXCHANGE_SERVER_H

#include "exchange/control.h"

#define TM_WS_PATH "/trade-api/ws/v2"

struct tm_peer;

struct tm_listener {
    struct tm_server *server;
    struct tm_io io;
    int fd; /* -1: none */
    bool tls;
    char address[64]; /* where it listens, host:port */
};

struct tm_server {
    struct tm_loop *loop;
    struct tm_feed *feed;
    struct tm_rest *rest;
    struct tm_control *control;
    const struct tm_auth *auth;
    struct tm_faults *faults;
    SSL_CTX *tls;
    struct tm_listener plain, secure;
    struct tm_prepare turn;
    struct tm_peer *peers, *gone;
};

/* The pointers above `tls` are set by the caller; everything else by this. */
int tm_server_open(struct tm_server *s, const struct tm_options *o, struct tm_error *err) TM_MUST_CHECK;
void tm_server_close(struct tm_server *s);

#endif
