#include "base/clock.h"
#include "store/pg.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int tm_stop_init(struct tm_stop *stop)
{
    atomic_init(&stop->stopped, false);
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return stop->fd < 0 ? TM_EIO : TM_OK;
}

void tm_stop_request(struct tm_stop *stop)
{
    atomic_store(&stop->stopped, true);
    /* the counter is never read, so that the descriptor stays readable for every waiter */
    eventfd_t one = 1;
    (void)eventfd_write(stop->fd, one);
}

void tm_stop_fini(struct tm_stop *stop)
{
    close(stop->fd);
    stop->fd = -1;
}

int tm_stop_wait(struct tm_stop *stop, int64_t us)
{
    int64_t until_us = tm_clock_mono_us() + us;
    struct pollfd fd = {.fd = stop->fd, .events = POLLIN};
    for (;;) {
        if (atomic_load(&stop->stopped))
            return TM_ESTOPPED;
        int64_t left_us = until_us - tm_clock_mono_us();
        if (left_us <= 0)
            return TM_OK;
        struct timespec ts = {.tv_sec = left_us / TM_US_PER_S, .tv_nsec = left_us % TM_US_PER_S * 1000};
        if (ppoll(&fd, 1, &ts, NULL) < 0 && errno != EINTR)
            return TM_EIO;
    }
}
