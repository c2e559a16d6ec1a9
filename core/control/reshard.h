/*
 * `tidemill reshard SCRIPT`: production is shared in as many shards as the script says from now on (store/shards.h). All its
 * deduplicators have to be stopped. What they had taken is not lost: where shards had got differently far, what lies between
 * is polled again and found stored.
 */
#ifndef TM_CONTROL_RESHARD_H
#define TM_CONTROL_RESHARD_H

#include "control/cli.h"

int tm_reshard_command(const struct tm_cli *cli);

#endif
