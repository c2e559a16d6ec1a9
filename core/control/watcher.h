/*
 * The watch at work: every 200 ms a snapshot of the engine's statistics goes through engine/watch.h, and what comes out
 * is logged and handed to the script. On the policy thread; the script and its limits are looked up each time, so a
 * reload needs no word here.
 */
#ifndef TM_CONTROL_WATCHER_H
#define TM_CONTROL_WATCHER_H

#include "engine/watch.h"
#include "loop/loop.h"

struct tm_daemon;
struct tm_watcher;

/* When the newest file of an earlier life's journal was last written, Unix microseconds; 0: there is none. Ask before
 * the journal is opened, as that writes. */
int64_t tm_watcher_last_life(const char *journal_dir);

/* Everything of the daemon runs already. */
struct tm_watcher *tm_watcher_start(struct tm_daemon *d, int64_t born_us);
void tm_watcher_stop(struct tm_watcher *w); /* NULL is fine */

#endif
