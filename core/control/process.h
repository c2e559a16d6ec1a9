/* What the process itself uses: memory, descriptors, CPU, time. Linux /proc; any thread. */
#ifndef TM_CONTROL_PROCESS_H
#define TM_CONTROL_PROCESS_H

#include "engine/metrics.h"

#include <stdint.h>

struct tm_process_metrics {
    struct tm_metric *resident, *fds, *cpu, *start, *uptime, *log_lost;
    int64_t start_us, start_mono_us;
};

void tm_process_init(struct tm_process_metrics *p, struct tm_metrics *m);
/* Read /proc and set the metrics; called when somebody looks. */
void tm_process_update(struct tm_process_metrics *p);

/* Raise the soft limit of descriptors to the hard one, at most 65536. */
void tm_process_raise_files(void);

#endif
