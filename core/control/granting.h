/* The operator's grants from the command line and the environment (script/grant.h says what they are). */
#ifndef TM_CONTROL_GRANTING_H
#define TM_CONTROL_GRANTING_H

#include "base/error.h"

/*
 * Take "--grant LIBRARIES" and "--grant=LIBRARIES" out of the arguments, or else TIDEMILL_GRANT from the environment, and
 * set them for the process. TM_EINVAL for a name that is unknown or missing; the message is for people.
 */
int tm_granting_take(int *argc, char **argv, struct tm_error *err) TM_MUST_CHECK;

#endif
