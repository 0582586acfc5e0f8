/* SPDX-License-Identifier: Apache-2.0
 *
 * A constraint as requests hold it: counted, and immutable behind the count.
 */
#ifndef ENGINE_CONSTRAINT_API_H
#define ENGINE_CONSTRAINT_API_H

#include "decode/token_graph.h"
#include "unmask.h"

um_constraint *constraint_acquire(um_constraint *constraint);
void constraint_release(um_constraint *constraint); /* accepts NULL */
const token_graph *constraint_graph(const um_constraint *constraint);

#endif
