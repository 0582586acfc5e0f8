/* SPDX-License-Identifier: Apache-2.0
 *
 * The options that say how an engine is opened, for every command that opens one.
 */
#ifndef PROGRAMS_ENGINE_SETTINGS_H
#define PROGRAMS_ENGINE_SETTINGS_H

#include "programs/options.h"
#include "programs/progress.h"
#include "unmask.h"

/* Model, threads, precision and their kin as given, all else by default. Texts are borrowed. */
void engine_settings(const options *o, progress *bar, um_engine_options *settings);

/* UM_INVALID unless there is one model, a directory or a synthetic one, and what describes the
 * latter goes with it. */
um_status engine_settings_check_model(const options *o, um_error *err);

#endif
