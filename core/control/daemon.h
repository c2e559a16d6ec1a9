/*
 * `tidemill run`: start everything in order, serve until asked to stop, stop in the reverse order.
 *
 *     check the script -> metrics, HTTP addresses -> control socket -> engine (its threads start) -> admin thread
 *     (health, metrics, watch over policy) -> the script's handlers
 *
 * The calling thread becomes the policy thread. SIGHUP, SIGTERM and SIGINT must be blocked before (main does it first
 * of all), so that no signal is lost or deadly while things start. SIGTERM and SIGINT stop; SIGHUP checks the script
 * anew and reports the result.
 */
#ifndef TM_CONTROL_DAEMON_H
#define TM_CONTROL_DAEMON_H

#include "script/script.h"

/* The script is loaded and has no problems; it is taken over. Returns the exit status: 0 stopped, 1 failed. */
int tm_daemon_run(struct tm_script *script, const char *path, const char *version) TM_MUST_CHECK;

#endif
