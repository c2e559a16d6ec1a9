/*
 * `tidemill plan`: what a script would run, and what that may cost at worst: memory, disk, and hours until something is
 * full under each outage. Nothing is started and nothing is looked at but the script.
 *
 * Bounds come from the engine's own constants and from the script; sizes of rows are measured: a typical row of each
 * stream is written by record/row and kept by engine/registry. What is assumed stands in the output.
 */
#ifndef TM_CONTROL_PLAN_H
#define TM_CONTROL_PLAN_H

#include "control/cli.h"

extern const struct tm_cli_option tm_plan_options[];
int tm_plan_command(const struct tm_cli *cli);

#endif
