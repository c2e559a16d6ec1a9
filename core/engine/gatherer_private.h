/*
 * Inside the gatherer: what its two halves share. gatherer.c is what the policy thread calls, gatherer_io.c
 * what the io thread does; they meet in the command and event queues and in the published statistics, nowhere
 * else.
 */
#ifndef TM_ENGINE_GATHERER_PRIVATE_H
#define TM_ENGINE_GATHERER_PRIVATE_H

#include "base/queue.h"
#include "engine/gatherer.h"
#include "engine/intake.h"

#include <pthread.h>

#define TM_GATHERER_LINKS_MAX 1000

struct tm_io_link; /* a link and its feed, io thread only */

enum tm_command_type {
    TM_COMMAND_ADD,
    TM_COMMAND_REMOVE,
    TM_COMMAND_RECONNECT,
    TM_COMMAND_OPENING,
    TM_COMMAND_SEND,
    TM_COMMAND_TELL,
    TM_COMMAND_ROWS,
    TM_COMMAND_STOP
};

struct tm_command {
    enum tm_command_type type;
    int link;
    uint32_t slot;
    bool send;
    struct tm_ws_options ws; /* ADD: strings owned by the strings below */
    char *name, *url, *ca_file, *user_agent;
    int64_t quiet_us;
    const struct tm_stream *stream;
    struct tm_buf bytes;
};

struct tm_gatherer {
    struct tm_plan *plan;
    struct tm_journal *journal;
    struct tm_writer *writer;
    int64_t *reconnect_codes;
    size_t reconnect_code_count;

    /* io thread */
    pthread_t thread;
    struct tm_loop *loop;
    struct tm_ws_context *ws;
    struct tm_link_limiter *limiter;
    struct tm_intake *intake;
    struct tm_async commands_ready;
    struct tm_prepare turn_end;
    struct tm_timer publish, stop_deadline;
    struct tm_io_link *links[TM_GATHERER_LINKS_MAX];
    bool stopping;

    /* between the threads */
    struct tm_queue *commands, *events;
    struct tm_metric *events_dropped, *connected;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_mutex_t lock; /* guards what follows */
    struct tm_gatherer_link_stats published[TM_GATHERER_LINKS_MAX];
    char published_names[TM_GATHERER_LINKS_MAX][96];
    struct tm_gatherer_stats stats;
    int64_t last_message_us; /* monotonic */

    /* policy thread */
    int link_count; /* numbers given out */
    int64_t started_us;
};

void tm_command_free(struct tm_command *c);

/* Build the io half on the calling thread (journal and plan are there); the thread then runs
 * tm_gatherer_io_main. */
int tm_gatherer_io_open(struct tm_gatherer *g, const struct tm_gatherer_options *options,
                        struct tm_error *err) TM_MUST_CHECK;
void *tm_gatherer_io_main(void *arg);
void tm_gatherer_io_close(struct tm_gatherer *g); /* after the thread has ended */

#endif
