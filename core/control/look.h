/*
 * What the control socket tells of a running process, and what it changes there, beyond status and reload: commands of the
 * table (control/command.h), whose context is the daemon. lua/tidemill/repl/ makes them fit for people.
 *
 *     links                            connections, with what they are subscribed to
 *     streams                          of the plan: columns, keys, windows
 *     metrics [TEXT]                   series whose name contains the text
 *     registries                       what is kept in memory of upsert streams
 *     entries STREAM [PATTERN [N]]     entries of one, by their key: "KX*"; 20
 *     sessions, changes
 *     manual NAME                      what lua/REFERENCE.md has of a function or class of the library
 *     log-level LEVEL
 *     kill SESSION [close]
 */
#ifndef TM_CONTROL_LOOK_H
#define TM_CONTROL_LOOK_H

#include "control/command.h"

typedef int tm_look_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err);

tm_look_command tm_look_links, tm_look_streams, tm_look_metrics, tm_look_registries, tm_look_entries, tm_look_sessions,
    tm_look_changes, tm_look_manual, tm_look_log_level, tm_look_kill;

#endif
