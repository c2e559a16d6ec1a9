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

/* A reload on its way to io, and what it replaced on its way back. */
struct tm_gatherer_change {
    struct tm_gatherer_change *next;
    struct tm_intake_change *intake; /* NULL: the plan stays */
    int64_t *reconnect_codes;
    size_t reconnect_code_count;
    int64_t sequence_start;
    double connects_per_second;
};

enum tm_link_use { TM_LINK_UNUSED, TM_LINK_USED, TM_LINK_LEAVING };

enum tm_command_type {
    TM_COMMAND_ADD,
    TM_COMMAND_REMOVE,
    TM_COMMAND_UPDATE,
    TM_COMMAND_RECONNECT,
    TM_COMMAND_OPENING,
    TM_COMMAND_SEND,
    TM_COMMAND_DROP,
    TM_COMMAND_TELL,
    TM_COMMAND_ROWS,
    TM_COMMAND_STOP
};

struct tm_command {
    enum tm_command_type type;
    int link;
    uint32_t generation; /* ADD */
    uint32_t slot;
    bool send;
    bool listed;             /* ADD, UPDATE */
    struct tm_ws_options ws; /* ADD, UPDATE: strings owned by the strings below; auth held */
    char *name, *url, *ca_file, *user_agent;
    int64_t quiet_us;
    const struct tm_stream *stream; /* ROWS; its plan is held */
    struct tm_buf bytes;
};

struct tm_gatherer {
    struct tm_journal *journal;
    struct tm_writer *writer;
    struct tm_metrics *metrics;

    /* io thread */
    int64_t *reconnect_codes;
    size_t reconnect_code_count;
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
    int64_t heard_us; /* engine/heard.h, as of the start */

    /* between the threads */
    struct tm_queue *commands, *events;
    struct tm_gap_log *gap_log;
    struct tm_metric *events_dropped, *connected, *durable;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_mutex_t lock; /* guards what follows */
    struct tm_gatherer_link_stats published[TM_GATHERER_LINKS_MAX];
    char published_names[TM_GATHERER_LINKS_MAX][96];
    struct tm_gatherer_stats stats;
    int64_t last_message_us;                  /* monotonic */
    struct tm_gatherer_change *changes;       /* for io, in order */
    struct tm_gatherer_change *spent;         /* back from io, to be freed by policy */
    bool link_vacated[TM_GATHERER_LINKS_MAX]; /* the number may be used again */

    /* policy thread */
    struct tm_plan *plan; /* of the last reload; io may still be at the one before */
    char *id;             /* what cannot change */
    struct tm_journal_options journal_options;
    enum tm_link_use link_use[TM_GATHERER_LINKS_MAX];
    uint32_t link_generation[TM_GATHERER_LINKS_MAX];
    int link_count; /* numbers are below this */
    int64_t started_us;
};

void tm_command_free(struct tm_command *c);

/* gatherer_reload.c, policy thread: what the plan of these options is for this gatherer (a reference). */
int tm_gatherer_compile(struct tm_gatherer *g, const struct tm_gatherer_options *options, struct tm_plan **out,
                        struct tm_error *err) TM_MUST_CHECK;
struct tm_writer_options tm_gatherer_writer_options(const struct tm_gatherer *g,
                                                    const struct tm_gatherer_options *options);
void tm_gatherer_keep_fixed(struct tm_gatherer *g, const struct tm_gatherer_options *options);
void tm_gatherer_change_destroy(struct tm_gatherer_change *c);
void tm_gatherer_free_spent(struct tm_gatherer *g);

/* Build the io half on the calling thread (journal and plan are there); the thread then runs
 * tm_gatherer_io_main. */
int tm_gatherer_io_open(struct tm_gatherer *g, const struct tm_gatherer_options *options,
                        struct tm_error *err) TM_MUST_CHECK;
void *tm_gatherer_io_main(void *arg);
void tm_gatherer_io_close(struct tm_gatherer *g); /* after the thread has ended */

#endif
