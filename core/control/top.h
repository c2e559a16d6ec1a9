/*
 * `tidemill top`: the state of a running process on a terminal, each second until 'q'. The screen is given back as it was,
 * also after a signal. Returns the exit status: 0, or 1 when the process was never reached; one that goes away later is
 * waited for.
 */
#ifndef TM_CONTROL_TOP_H
#define TM_CONTROL_TOP_H

#include "control/fetch.h"

#include <stdbool.h>

/* On standard input and output, which are a terminal. */
int tm_top_run(const struct tm_fetch_source *source, bool colour, bool utf8);

#endif
