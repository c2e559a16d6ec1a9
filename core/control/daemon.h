/*
 * `tidemill run`: start everything in order, serve until asked to stop, stop in the reverse order.
 *
 *     check the script -> policy, HTTP addresses -> control socket -> engine (its threads start) -> admin thread (health,
 *     metrics, watch over policy) -> the script's handlers
 *
 * The calling thread becomes the policy thread. SIGHUP, SIGTERM and SIGINT must be blocked before (main does it first
 * of all), so that no signal is lost or deadly while things start. SIGTERM and SIGINT stop; SIGHUP reloads the
 * script (script/policy.h), many of them in a row as few times as will do; while it stops they are ignored. systemd is
 * told if it wants to know (control/notify.h).
 */
#ifndef TM_CONTROL_DAEMON_H
#define TM_CONTROL_DAEMON_H

#include "script/policy.h"

/* The path as an absolute one: by this name the script is loaded now and at each reload. A static buffer. */
const char *tm_daemon_path(const char *path);

#define TM_DAEMON_HTTP_PARALLEL 8 /* requests of policy at once */

/* The script is loaded and has no problems; it is taken over. Returns the exit status: 0 stopped, 1 failed. */
int tm_daemon_run(struct tm_script *script, const char *path, const char *version) TM_MUST_CHECK;

/*
 * Start all of it and stop at once, before the loop turns: no handler runs and no link is opened. So a test, or a unit
 * file, learns whether it would start. Not without traces: the journal's directory is made and the schema is migrated if
 * the store can be reached meanwhile.
 */
int tm_daemon_probe(struct tm_script *script, const char *path, const char *version) TM_MUST_CHECK;

#endif
