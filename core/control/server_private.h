/* What server.c (the socket, accepting), server_session.c (lines and frames) and server_eval.c (commands in Lua) share. */
#ifndef TM_CONTROL_SERVER_PRIVATE_H
#define TM_CONTROL_SERVER_PRIVATE_H

#include "control/server.h"

#include <sys/un.h>

#define TM_CONTROL_OUT_REST 65536 /* so much may wait for a slow reader before its command rests */

struct tm_control_session {
    struct tm_control *control;
    struct tm_control_session *next;
    int fd;
    struct tm_control_peer peer;
    bool ended;   /* nothing more will be read: close when the answers are out */
    bool hung_up; /* ... or at once */
    bool closing; /* close at the next turn: we may be inside of it */
    bool framed;
    bool throttled; /* it has given too many commands: `later` goes on */
    struct tm_io io;
    struct tm_timer idle, later;
    int64_t
        begun_us; /* monotonic: when the line or frame under way began, or the session while it has given no command; 0: none */
    int64_t last_us; /* of the last command or its end */
    double tokens;
    int64_t tokens_us;
    uint64_t commands;
    struct tm_buf in, out;
    struct tm_session *lua; /* made with the first command in Lua */
    char request_id[32];    /* of the command under way, as it stands in the JSON */
    char running[120];      /* its text, for people */
};

struct tm_control {
    struct tm_control_options options;
    struct tm_access_table access;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    int fd;
    dev_t device; /* of the socket's file, so that only our own is removed */
    ino_t inode;
    struct tm_io io;
    struct tm_control_session *sessions;
    size_t session_count;
    uint32_t last_number;
    struct tm_control_peer peer; /* whose command runs */
};

/* ---- server_session.c ---- */

struct tm_control_session *tm_control_session_create(struct tm_control *c, int fd, const struct tm_control_peer *peer);
void tm_control_session_destroy(struct tm_control_session *s);
bool tm_control_session_is_idle(const struct tm_control_session *s);
/* There is something to be written, or a command has ended: go on. */
void tm_control_session_go_on(struct tm_control_session *s);

/* Append a frame. */
int tm_control_put_frame(struct tm_control_session *s, const char *json, size_t len) TM_MUST_CHECK;

/* Run a line of the command table as this peer; the whole answer with its newline. */
int tm_control_run(struct tm_control_session *s, const char *line, size_t len, struct tm_buf *out) TM_MUST_CHECK;

void tm_control_audit(const struct tm_control_session *s, const char *text, size_t len);

/* ---- server_eval.c ---- */

/* "eval TEXT" of a line: its answer comes later, or an error at once in `out`. */
int tm_control_eval_line(struct tm_control_session *s, const char *text, size_t len) TM_MUST_CHECK;
/* A request in JSON, readable 16 bytes beyond its end. */
int tm_control_eval_frame(struct tm_control_session *s, const char *json, size_t len) TM_MUST_CHECK;

#endif
