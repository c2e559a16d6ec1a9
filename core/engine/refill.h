/*
 * Bringing back from the archive what policy asks for (lua/recovery/archive.lua): rows of tidemill.restores in production,
 * one manifest each, on the exporter's thread.
 *
 *     policy          wanted ---------------> looked ----------------> approved --------------> done | failed
 *     this                     dry run: rows,          policy, or a               tm_restore
 *                              bytes, is it there      person's word
 *
 * A failure of production or of the target is none of the manifest's: it is tried again. Where the archive has not what the
 * manifest promises, the state is failed, and the gap has a name in tidemill.absent.
 */
#ifndef TM_ENGINE_REFILL_H
#define TM_ENGINE_REFILL_H

#include "engine/exporter.h"

/* The oldest row that waits for us; 1: one was dealt with, 0: none. */
int tm_refill_step(const struct tm_export_sink *sink, const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;

#endif
