/* SPDX-License-Identifier: Apache-2.0
 *
 * The two halves of a request's settings: which policy with which parameters, and all the rest.
 */
#ifndef ENGINE_SETTINGS_H
#define ENGINE_SETTINGS_H

#include "engine/engine.h"

/* ---- Refusing (settings.c): each sets an error that names the parameter and returns UM_INVALID.
 */

um_status settings_refuse(um_error *err, const char *parameter, const char *sentence);
um_status settings_refuse_real(um_error *err, const char *parameter, const char *expected,
                               double found);
um_status settings_refuse_int(um_error *err, const char *parameter, const char *expected,
                              int64_t found);

/* A probability that may be left to the default (NaN). */
um_status settings_fraction(double given, double fallback, const char *parameter, double *value,
                            um_error *err);

/* ---- settings_policy.c ---------------------------------------------------------------------- */

/* Finds the policy by name, by path, or by the parameters that are given, and refuses what it does
 * not read. Sets settings->policy and ->plugin. */
um_status settings_find_policy(const um_model_info *info, const um_request_options *options,
                               request_settings *settings, um_error *err);
/* Fills settings->params with every default; unit_len is known. */
um_status settings_fill_params(const um_model_info *info, const model_traits *traits,
                               const um_request_options *options, request_settings *settings,
                               um_error *err);

#endif
