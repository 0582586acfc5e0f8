/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of all commands. One table (option_table.c) describes each of them once: parsing,
 * help and the check of the shell completion read it. Numbers are read strictly: the whole argument
 * must be a number within the range. An option given twice is a mistake, not an override.
 */
#ifndef PROGRAMS_OPTIONS_H
#define PROGRAMS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum command_id {
    COMMAND_RUN,
    COMMAND_LOGITS,
    COMMAND_TOKENIZE,
    COMMAND_INSPECT,
    COMMAND_SCORE,
    COMMAND_BENCH,
    COMMAND_QUANTIZE,
    COMMAND_SERVE,
    COMMAND_COUNT
} command_id;

typedef enum option_id {
    OPTION_MODEL,
    OPTION_PROMPT,
    OPTION_IDS,
    OPTION_FILE,
    OPTION_JSONL,
    OPTION_CHAT,
    OPTION_TOOLS,
    OPTION_RENDER,
    OPTION_DECODE,
    OPTION_SYSTEM,
    OPTION_RAW,
    OPTION_SUFFIX,
    OPTION_MAX_TOKENS,
    OPTION_IGNORE_EOS,
    OPTION_JSON_OBJECT,
    OPTION_JSON_SCHEMA,
    OPTION_BLOCK,
    OPTION_SUB_BLOCK,
    OPTION_ATTENTION,
    OPTION_POLICY,
    OPTION_POLICY_ARGS,
    OPTION_THRESHOLD,
    OPTION_STEPS,
    OPTION_REMASK,
    OPTION_EDIT_THRESHOLD,
    OPTION_POST_STEPS,
    OPTION_EPS,
    OPTION_ALG_TEMP,
    OPTION_FACTOR,
    OPTION_ENTROPY_BOUND,
    OPTION_LOW_THRESHOLD,
    OPTION_CREDIT_ALPHA,
    OPTION_CREDIT_BETA,
    OPTION_CREDIT_GAMMA,
    OPTION_WINDOW,
    OPTION_BLOCK_ADD,
    OPTION_BLOCK_READY,
    OPTION_METRIC,
    OPTION_TEMPERATURE,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_MIN_P,
    OPTION_SEED,
    OPTION_CFG,
    OPTION_LOGITS_EOS_INF,
    OPTION_CONFIDENCE_EOS_EOT_INF,
    OPTION_CACHE,
    OPTION_FOLD,
    OPTION_PREFILL_CHUNK,
    OPTION_EXPERT_CAP,
    OPTION_PACK_CACHE,
    OPTION_PRECISION,
    OPTION_KV_TYPE,
    OPTION_DEVICE,
    OPTION_THREADS,
    OPTION_MASK_TOKEN,
    OPTION_WATCH,
    OPTION_DELAY,
    OPTION_COLUMNS,
    OPTION_JSON,
    OPTION_PRINT_IDS,
    OPTION_TRACE,
    OPTION_SVG,
    OPTION_OUTPUT,
    OPTION_POLICIES,
    OPTION_CONTEXT,
    OPTION_ANSWER,
    OPTION_ANSWER_IDS,
    OPTION_CHOICES,
    OPTION_ITEMS, /* --jsonl of score */
    OPTION_TEMPLATE,
    OPTION_SAMPLES,
    OPTION_MASKS,
    OPTION_SYNTHETIC,
    OPTION_TYPE,
    OPTION_IMATRIX,
    OPTION_PURE,
    OPTION_FORCE,
    OPTION_LAYERS,
    OPTION_ROWS,
    OPTION_PREFILL,
    OPTION_REPEAT,
    OPTION_TOKENS_PER_FORWARD,
    OPTION_CSV,
    OPTION_PLOT,
    OPTION_HOST,
    OPTION_PORT,
    OPTION_SERVED_MODEL_NAME,
    OPTION_API_KEY,
    OPTION_TLS_CERT,
    OPTION_TLS_KEY,
    OPTION_CACHE_TOKENS,
    OPTION_MAX_STEP_MS,
    OPTION_PREFIX_CACHE,
    OPTION_MAX_QUEUE,
    OPTION_MAX_CONNECTIONS,
    OPTION_MAX_BODY_BYTES,
    OPTION_TIMEOUT,
    OPTION_LOG,
    OPTION_CONFIG,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_COUNT
} option_id;

typedef enum option_type {
    OPTION_TYPE_FLAG,
    OPTION_TYPE_TEXT,
    OPTION_TYPE_INTEGER,
    OPTION_TYPE_REAL,
    OPTION_TYPE_CHOICE /* one of the words in `choices`, separated by '|' */
} option_type;

typedef struct option_spec {
    const char *name;     /* without the dashes */
    char short_name;      /* 0: none */
    const char *argument; /* as help names it; NULL for a flag */
    option_type type;
    unsigned commands; /* bit 1 << command_id */
    double minimum, maximum;
    bool is_above_minimum; /* the minimum itself is not allowed */
    const char *choices;   /* of a CHOICE */
    const char *help;
} option_spec;

typedef struct option_value {
    bool is_set;
    const char *text; /* the argument as given: borrowed from argv */
    int64_t integer;  /* of an INTEGER; of a CHOICE: the index of the word, from 0 */
    double real;
} option_value;

/* What a command line says. Borrows from argv. */
typedef struct options {
    command_id command;
    option_value values[OPTION_COUNT];
} options;

/* Indexed by option_id; the order of the table is the order of the help. */
extern const option_spec option_table[OPTION_COUNT];

/* Reads the arguments after the command's name. UM_INVALID with a sentence that names the option,
 * what was expected and what was found. Stops at --help, whose value is then set. */
um_status options_parse(command_id command, int n_args, char **args, options *o, um_error *err);

/* Sets an option by its name unless it is set already; a flag's text is "true" or "false". What the
 * text lives in outlives the options. UM_INVALID as above. */
um_status options_add(options *o, const char *name, const char *text, um_error *err);

bool options_has(const options *o, option_id id);
/* The argument, or NULL where the option was not given. */
const char *options_text(const options *o, option_id id);
int64_t options_integer(const options *o, option_id id, int64_t fallback);
double options_real(const options *o, option_id id, double fallback);

/* Refuses the second option where both are given: "--b does not go with --a: REASON". */
um_status options_refuse_pair(const options *o, option_id first, option_id second,
                              const char *reason, um_error *err);
/* Refuses a command line without the option. */
um_status options_require(const options *o, option_id id, um_error *err);

/* The name nearest to what was typed among n words, or NULL if none is near. */
const char *options_nearest(const char *typed, const char *const *words, size_t n);

#endif
