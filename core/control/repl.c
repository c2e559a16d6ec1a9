/*
 * tidemill repl: a person's session. Editing, history and completion are libedit's; what is typed goes to the process, which
 * says whether it is whole. Without a terminal stdin is read as it comes: no prompts, and the first failure ends it.
 */
#include "control/asking.h"

#include "record/decode.h"

#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_LINES 2000
#define PATH_BYTES 1024
#define WORDS_MAX 200

struct repl {
    const char *socket;
    struct tm_frames *frames; /* NULL: the connection is lost */
    EditLine *edit;
    History *history;
    char history_path[PATH_BYTES];
    char prompt[80];
    struct tm_buf text; /* the lines of what is not whole yet */
    bool abandoned;     /* Ctrl-C at the prompt */
    bool color;
};

/* ---- the connection ---- */

static int ask(struct repl *r, const char *op, const char *text, size_t len, bool json, struct tm_frames_answer *answer,
               struct tm_error *err)
{
    struct tm_frames_request request = {.op = op,
                                        .text = text,
                                        .len = len,
                                        .json = json,
                                        .color = r->color,
                                        .width = tm_asking_width(),
                                        .on_output = tm_asking_print,
                                        .arg = stdout};
    int rc = r->frames ? TM_OK : tm_frames_open(r->socket, &r->frames, err);
    rc = rc ? rc : tm_frames_ask(r->frames, &request, answer, err);
    if (rc) {
        tm_frames_close(r->frames);
        r->frames = NULL;
    }
    return rc;
}

static int greet(struct repl *r, struct tm_error *err)
{
    static const char question[] = "status().id";
    struct tm_frames_answer answer;
    struct tm_buf id = {0};
    int rc = ask(r, "eval", question, sizeof question - 1, true, &answer, err);
    bool known = !rc && answer.ok && tm_frames_text(answer.result, &id) == TM_OK;
    (void)snprintf(r->prompt, sizeof r->prompt, "%.60s> ", known ? (const char *)id.data : "tidemill");
    tm_buf_fini(&id);
    return rc;
}

/* ---- history ---- */

/* $TIDEMILL_HISTORY, else in the state directory of the XDG convention. "" when there is no home. */
static void find_history(char path[PATH_BYTES])
{
    const char *given = getenv("TIDEMILL_HISTORY"), *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    path[0] = '\0';
    if (given) {
        (void)snprintf(path, PATH_BYTES, "%s", given);
        return;
    }
    if (!(state && *state) && !(home && *home))
        return;
    bool xdg = state && *state;
    (void)snprintf(path, PATH_BYTES, "%s%s", xdg ? state : home, xdg ? "" : "/.local");
    (void)mkdir(path, 0700);
    (void)snprintf(path, PATH_BYTES, "%s%s/tidemill", xdg ? state : home, xdg ? "" : "/.local/state");
    *strrchr(path, '/') = '\0';
    (void)mkdir(path, 0700);
    strcat(path, "/tidemill");
    (void)mkdir(path, 0700);
    strcat(path, "/history");
}

static void open_history(struct repl *r)
{
    HistEvent event;
    r->history = history_init();
    TM_FATAL_UNLESS(r->history);
    history(r->history, &event, H_SETSIZE, HISTORY_LINES);
    history(r->history, &event, H_SETUNIQUE, 1);
    find_history(r->history_path);
    if (r->history_path[0])
        history(r->history, &event, H_LOAD, r->history_path);
}

static void keep_history(struct repl *r)
{
    HistEvent event;
    mode_t old = umask(0077); /* what people type is theirs */
    if (r->history_path[0])
        history(r->history, &event, H_SAVE, r->history_path);
    umask(old);
    history_end(r->history);
}

/* ---- completion ---- */

struct words {
    char *list[WORDS_MAX];
    size_t count, common; /* of their beginnings, bytes */
    size_t typed;
};

static void add_word(struct words *w, const char *word)
{
    size_t same = 0;
    char *copy = strdup(word);
    TM_FATAL_UNLESS(copy);
    while (w->count && word[same] && word[same] == w->list[0][same])
        same++;
    w->common = w->count == 0 ? strlen(word) : same < w->common ? same : w->common;
    w->list[w->count++] = copy;
}

static void read_words(struct tm_span result, struct words *w)
{
    struct tm_span part;
    struct tm_buf text = {0};
    char path[32];
    if (tm_json_get(result, "typed", &part) == TM_OK && tm_frames_text(part, &text) == TM_OK)
        w->typed = text.len;
    for (size_t i = 0; i < WORDS_MAX; i++) {
        (void)snprintf(path, sizeof path, "words[%zu]", i);
        if (tm_json_get(result, path, &part) < 0 || tm_frames_text(part, &text) < 0)
            break;
        add_word(w, (const char *)text.data);
    }
    tm_buf_fini(&text);
}

static void print_words(const struct words *w)
{
    size_t widest = 0, columns = (size_t)tm_asking_width();
    for (size_t i = 0; i < w->count; i++)
        widest = strlen(w->list[i]) > widest ? strlen(w->list[i]) : widest;
    size_t each = columns / (widest + 2) ? columns / (widest + 2) : 1;
    fputc('\n', stdout);
    for (size_t i = 0; i < w->count; i++)
        printf("%-*s%s", (int)widest + 2, w->list[i], i % each == each - 1 || i + 1 == w->count ? "\n" : "");
    fflush(stdout);
}

static unsigned char offer(EditLine *edit, const struct words *w)
{
    if (w->count == 0)
        return CC_ERROR;
    if (w->common > w->typed) {
        char more[256];
        (void)snprintf(more, sizeof more, "%.*s", (int)(w->common - w->typed), w->list[0] + w->typed);
        return el_insertstr(edit, more) < 0 ? CC_ERROR : CC_REFRESH;
    }
    if (w->count == 1)
        return CC_NORM;
    print_words(w);
    return CC_REDISPLAY;
}

static unsigned char complete(EditLine *edit, int key)
{
    (void)key;
    struct repl *r = NULL;
    struct words words = {0};
    struct tm_frames_answer answer;
    struct tm_error err;
    el_get(edit, EL_CLIENTDATA, &r);
    const LineInfo *line = el_line(edit);
    size_t before = r->text.len;
    int rc = tm_buf_append(&r->text, line->buffer, (size_t)(line->cursor - line->buffer));
    rc = rc ? rc : ask(r, "complete", (const char *)r->text.data, r->text.len, true, &answer, &err);
    r->text.len = before;
    if (!rc && answer.ok)
        read_words(answer.result, &words);
    unsigned char result = offer(edit, &words);
    for (size_t i = 0; i < words.count; i++)
        free(words.list[i]);
    return result;
}

/* ---- editing ---- */

static char *prompt(EditLine *edit)
{
    static char more[] = "..> ";
    struct repl *r = NULL;
    el_get(edit, EL_CLIENTDATA, &r);
    return r->text.len ? more : r->prompt;
}

/* Ctrl-C at the prompt: what was typed is dropped. */
static unsigned char abandon(EditLine *edit, int key)
{
    (void)key;
    struct repl *r = NULL;
    el_get(edit, EL_CLIENTDATA, &r);
    r->abandoned = true;
    fputs("^C", stdout);
    return CC_NEWLINE;
}

static unsigned char suspend(EditLine *edit, int key)
{
    (void)key;
    el_set(edit, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(edit, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

static void open_editor(struct repl *r)
{
    r->edit = el_init("tidemill", stdin, stdout, stderr);
    TM_FATAL_UNLESS(r->edit);
    el_set(r->edit, EL_CLIENTDATA, r);
    el_set(r->edit, EL_PROMPT, prompt);
    el_set(r->edit, EL_EDITOR, "emacs");
    el_set(r->edit, EL_HIST, history, r->history);
    el_set(r->edit, EL_ADDFN, "tidemill-complete", "complete names of the process", complete);
    el_set(r->edit, EL_ADDFN, "tidemill-abandon", "drop what was typed", abandon);
    el_set(r->edit, EL_ADDFN, "tidemill-suspend", "stop until fg", suspend);
    el_source(r->edit, NULL);
    el_set(r->edit, EL_BIND, "^I", "tidemill-complete", NULL);
    el_set(r->edit, EL_SETTY, "-d", "-isig", NULL); /* while a line is edited: keys, not signals */
    el_set(r->edit, EL_BIND, "^C", "tidemill-abandon", NULL);
    el_set(r->edit, EL_BIND, "^Z", "tidemill-suspend", NULL);
    el_set(r->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
}

/* ---- commands ---- */

static void print_answer(const struct tm_frames_answer *answer)
{
    if (answer->ok && answer->text) {
        tm_asking_print(stdout, answer->text, strlen(answer->text));
        fputc('\n', stdout);
    } else if (!answer->ok) {
        const char *text = answer->error ? answer->error : "the answer is not understood";
        tm_asking_print(stderr, text, strlen(text));
        fputc('\n', stderr);
    }
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\n")] == '\0';
}

/* 1: it is whole and was run; 0: it needs more lines; negative: it failed. `last`: no more can come. */
static int run(struct repl *r, bool last)
{
    struct tm_frames_answer answer;
    struct tm_error err;
    int rc = ask(r, "eval", (const char *)r->text.data, r->text.len, false, &answer, &err);
    if (rc) {
        fprintf(stderr, "tidemill repl: %s\n", err.message);
        return -1;
    }
    if (!answer.ok && answer.unfinished && !last)
        return 0;
    print_answer(&answer);
    return answer.ok ? 1 : -1;
}

static void remember(struct repl *r)
{
    HistEvent event;
    const char *text = tm_buf_cstr(&r->text);
    size_t len = text ? strlen(text) : 0;
    if (len && text[len - 1] == '\n')
        r->text.data[len - 1] = '\0';
    if (text && !is_blank(text))
        history(r->history, &event, H_ENTER, text);
}

/* An interrupt from before the line was typed concerns nothing; one right behind it is for the command. The terminal is
 * the editor's before the prompt shows: libedit alone takes it after, and a key in between would be the driver's. */
static const char *read_line(struct repl *r, int *count)
{
    el_set(r->edit, EL_PREP_TERM, 1);
    tm_frames_interrupted = 0;
    return el_gets(r->edit, count);
}

static void take_line(struct repl *r, const char *line, int count)
{
    bool blank = is_blank(line);
    if (r->abandoned || (blank && r->text.len == 0)) {
        if (r->abandoned)
            fputc('\n', stdout);
        r->abandoned = false;
        tm_buf_clear(&r->text);
        return;
    }
    if (tm_buf_append(&r->text, line, (size_t)count) == TM_OK && run(r, blank) == 0)
        return;
    remember(r);
    tm_buf_clear(&r->text);
}

static int converse(struct repl *r)
{
    struct tm_error err;
    const char *line;
    int count = 0;
    if (greet(r, &err) < 0) {
        fprintf(stderr, "tidemill repl: %s\n", err.message);
        return TM_EXIT_FAILED;
    }
    puts("help says what there is, Ctrl-D leaves.");
    open_history(r);
    open_editor(r);
    while ((line = read_line(r, &count)) && count > 0)
        take_line(r, line, count);
    fputc('\n', stdout);
    el_end(r->edit);
    keep_history(r);
    return TM_EXIT_OK;
}

/* ---- without a terminal ---- */

static int read_stdin(struct repl *r)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    int result = 1;
    while (result >= 0 && !tm_frames_interrupted && (len = getline(&line, &size, stdin)) > 0) {
        if (tm_buf_append(&r->text, line, (size_t)len) < 0)
            break;
        if (is_blank((const char *)tm_buf_cstr(&r->text)) || (result = run(r, false)) > 0)
            tm_buf_clear(&r->text);
    }
    free(line);
    if (result == 0 && r->text.len)
        result = run(r, true);
    return result < 0 ? TM_EXIT_FAILED : TM_EXIT_OK;
}

int tm_repl_command(const struct tm_cli *cli)
{
    struct repl r = {.socket = cli->file_count ? cli->files[0] : tm_asking_socket(cli)};
    if (!r.socket)
        return TM_EXIT_USAGE;
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    r.color = terminal && tm_asking_color(STDOUT_FILENO);
    tm_asking_hold_interrupts();
    int status = terminal ? converse(&r) : read_stdin(&r);
    tm_frames_close(r.frames);
    tm_buf_fini(&r.text);
    return status;
}
