/* What the commands of the archive share: the script, the database, the target, the span of time, and how far they are. */
#ifndef TM_CONTROL_ARCHIVE_PRIVATE_H
#define TM_CONTROL_ARCHIVE_PRIVATE_H

#include "archive/restore.h"
#include "archive/settings.h"
#include "control/cli.h"
#include "script/script.h"
#include "store/pg.h"

#define TM_ARCHIVE_STREAMS_MAX 32

struct tm_archive_session {
    const struct tm_cli *cli;
    const char *who; /* the command's name, for messages */
    struct tm_script *script;
    const struct tm_config *config;
    struct tm_archive_settings settings; /* the script's, with `to` as the command line has it */
    struct tm_stop stop;
    struct tm_pg *pg;
    struct tm_target *target;
    int64_t since_us, until_us;
    char names[1024];
    const char *streams[TM_ARCHIVE_STREAMS_MAX + 1]; /* into `names` */
    bool json, terminal, drawn;
    int64_t started_us, drawn_us;
    struct tm_buf gaps; /* as JSON */
};

/* Load the script and read the options; an exit status, TM_EXIT_OK when all is well. */
int tm_archive_begin(struct tm_archive_session *s, const struct tm_cli *cli, const char *who, const char *path);
/* Connect; what fails is said. `writes`: the database must take some. */
int tm_archive_connect(struct tm_archive_session *s, bool writes, struct tm_error *err) TM_MUST_CHECK;
int tm_archive_open_target(struct tm_archive_session *s, bool read_only, struct tm_error *err) TM_MUST_CHECK;
/* Say what failed, close everything; the exit status. */
int tm_archive_end(struct tm_archive_session *s, int rc, const struct tm_error *err);

/* The streams that were asked for; NULL: all. */
const char *const *tm_archive_streams(const struct tm_archive_session *s);

/* A bar on a terminal's stderr, and gaps on stdout; in the forms of archive/restore.h. `arg` is the session. */
void tm_archive_tell(void *arg, const struct tm_restore_counts *counts);
void tm_archive_gap(void *arg, const struct tm_restore_gap *gap);

/* A Ctrl-C ends what is under way between two objects. */
void tm_archive_heed_signals(struct tm_archive_session *s);

#endif
