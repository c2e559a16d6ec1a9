/*
 * The control side, under /control, for tests and demos:
 *
 *   GET  /control/stats         events emitted by stream, frames and bytes, per client too, faults under way
 *   POST /control/start, stop   let generation begin (without waiting for clients) or hold it
 *   POST /control/fault         begin or arm faults, one a line, all or none; the text is the body or the query (faults.h)
 *   POST /control/clear         end all faults
 *   GET  /control/ledger-flush  answers when the ledger is on disk
 *   POST /control/quit          stop the program
 *
 * It is as open as the listener is: listen on loopback. Loop's thread.
 */
#ifndef TM_EXCHANGE_CONTROL_H
#define TM_EXCHANGE_CONTROL_H

#include "exchange/pacer.h"
#include "exchange/rest.h"

#define TM_CONTROL_BASE "/control"

struct tm_control {
    struct tm_feed *feed;
    struct tm_faults *faults;
    struct tm_pacer *pacer;
    struct tm_rest *rest;
    struct tm_loop *loop;
};

void tm_control_handle(struct tm_control *c, const struct tm_request *r, struct tm_reply *reply);

#endif
