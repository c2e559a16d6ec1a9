/*
 * `tidemill test DIR|FILE...`: tests of policy (script/test.h), one after the other, as text for people (in colours on a
 * terminal), as TAP, and as JUnit XML. Of a directory all files below it named *_test.lua are taken, in the order of their
 * paths. The last line is "N passed, N failed"; exit status 1 unless all passed and there was one.
 */
#ifndef TM_CONTROL_TESTING_H
#define TM_CONTROL_TESTING_H

#include "control/cli.h"

extern const struct tm_cli_option tm_testing_options[];
int tm_testing_command(const struct tm_cli *cli);

#endif
