/*
 * The state document (control/state.h) as lines for a terminal: what `tidemill status` prints once and `tidemill top` again
 * and again. The most urgent comes first, as a small screen shows no more. Pure but for the sheet.
 */
#ifndef TM_CONTROL_VIEW_H
#define TM_CONTROL_VIEW_H

#include "control/view_text.h"

/* Figures of the last seconds, as top collects them: the newest last. */
#define TM_VIEW_SECONDS 120
struct tm_view_history {
    size_t count; /* up to TM_VIEW_SECONDS */
    float rows[TM_VIEW_SECONDS], lag_s[TM_VIEW_SECONDS];
};

/* `history` may be NULL. 16 readable bytes follow the document. */
void tm_view_put(struct tm_sheet *sheet, struct tm_span document, const struct tm_view_history *history);

/* The figures of this document into the history. */
void tm_view_note(struct tm_view_history *history, struct tm_span document);

#endif
