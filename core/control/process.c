#include "control/process.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 65536

void tm_process_init(struct tm_process_metrics *p, struct tm_metrics *m)
{
    p->start_us = tm_clock_wall_us();
    p->start_mono_us = tm_clock_mono_us();
    p->resident = tm_metrics_gauge(m, "process_resident_memory_bytes", "Memory in RAM", NULL);
    p->fds = tm_metrics_gauge(m, "process_open_fds", "Open file descriptors", NULL);
    p->cpu = tm_metrics_counter(m, "process_cpu_seconds_total", "CPU time of all threads", NULL);
    p->start = tm_metrics_gauge(m, "process_start_time_seconds", "Start, Unix time", NULL);
    p->uptime = tm_metrics_gauge(m, "tidemill_uptime_seconds", "Time since the start", NULL);
    p->log_lost = tm_metrics_counter(m, "tidemill_log_lost_total", "Lines of the log that stderr did not take", NULL);
}

static double resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    int n = fscanf(f, "%ld %ld", &total, &resident);
    fclose(f);
    return n == 2 ? (double)resident * (double)sysconf(_SC_PAGESIZE) : 0;
}

static double open_fds(void)
{
    double count = -3; /* ".", ".." and the directory itself */
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

void tm_process_update(struct tm_process_metrics *p)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    tm_metric_set(p->resident, resident_bytes());
    tm_metric_set(p->fds, open_fds());
    tm_metric_set(p->cpu, (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    tm_metric_set(p->start, (double)p->start_us / 1e6);
    tm_metric_set(p->uptime, (double)(tm_clock_mono_us() - p->start_mono_us) / 1e6);
    tm_metric_set(p->log_lost, (double)tm_log_lost());
}

void tm_process_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    rlim_t wanted = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
    if (limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}
