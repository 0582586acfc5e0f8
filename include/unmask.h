/* SPDX-License-Identifier: Apache-2.0
 *
 * unmask: run diffusion language models.
 *
 * Two nouns carry the interface. A `um_engine` is a loaded model; it is shared. A `um_request` is
 * one generation; it reports what happens to it as events. The host program drives the engine:
 *
 *     um_engine_open -> um_request_create ... -> while (um_engine_step(...) == UM_OK)
 *                                                    um_request_next_event(...)
 *
 * One call of um_engine_step makes one forward pass for all live requests, and starts no thread but
 * the engine's own pool of workers. The library never exits, aborts or prints.
 *
 * Threads: um_engine_step, um_engine_logits and um_engine_score take turns behind a lock, and so do
 * the calls on requests; any thread may call any of them at any time on the same engine. A
 * um_tokenizer and the um_model_info of an engine do not change after they are opened, and may be
 * read from everywhere.
 */
#ifndef UNMASK_H
#define UNMASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UM_VERSION_MAJOR 0
#define UM_VERSION_MINOR 1
#define UM_VERSION_PATCH 0

#if defined(__GNUC__)
#define UM_API __attribute__((visibility("default")))
#else
#define UM_API
#endif

/* ---- Status and errors ---------------------------------------------------------------------- */

/* name, number, sentence. The numbers are stable. */
#define UM_STATUS_MAP(X)                                              \
    X(OK, 0, "done")                                                  \
    X(AGAIN, 1, "nothing to report yet")                              \
    X(INVALID, 2, "an argument or a parameter is out of range")       \
    X(NOT_FOUND, 3, "a file, a tensor or a name does not exist")      \
    X(IO, 4, "reading or writing failed")                             \
    X(FORMAT, 5, "a file is damaged or contradicts itself")           \
    X(UNSUPPORTED, 6, "valid, but not something this version can do") \
    X(NO_MEMORY, 7, "memory does not suffice")                        \
    X(LIMIT, 8, "longer than the context or the cache")               \
    X(NUMERIC, 9, "a computation gave a value that is not a number")  \
    X(CANCELLED, 10, "the request was cancelled")                     \
    X(DEVICE, 11, "a device failed")                                  \
    X(INTERNAL, 12, "a defect in this library")

typedef enum um_status {
#define UM_STATUS_ENUM(name, number, sentence) UM_##name = number,
    UM_STATUS_MAP(UM_STATUS_ENUM)
#undef UM_STATUS_ENUM
} um_status;

/* Filled by a call that fails, when the caller passes one; untouched by a call that succeeds.
 * `message` is a whole sentence with what was expected and what was found. `where` names the file,
 * the tensor or the parameter, or is empty. `byte_pos` is an offset in that file, or -1. */
typedef struct um_error {
    um_status status;
    char message[640];
    char where[256];
    int64_t byte_pos;
} um_error;

/* Returns a constant sentence for a status; never NULL. */
UM_API const char *um_status_sentence(um_status status);
/* Returns a constant name such as "UM_FORMAT"; never NULL. */
UM_API const char *um_status_name(um_status status);
/* Returns "0.1.0"; constant. */
UM_API const char *um_version(void);
/* Frees what a function of this header says the caller frees. Accepts NULL. */
UM_API void um_free(void *memory);

/* ---- Tokenizer ------------------------------------------------------------------------------ */

/* The text side of a model: vocabulary, special tokens, chat template. Immutable once open. */
typedef struct um_tokenizer um_tokenizer;

/* Opens the tokenizer of a GGUF file or of a model directory. A directory may hold one alone:
 * tokenizer.json, and if present tokenizer_config.json and chat_template.jinja. On success
 * *tokenizer is the caller's, to be closed. UM_NOT_FOUND where there is no tokenizer.json: such a
 * model runs on ids. */
UM_API um_status um_tokenizer_open(const char *directory, um_tokenizer **tokenizer, um_error *err);
/* Opens what a directory has for text: like um_tokenizer_open, but a directory with a chat
 * template and no vocabulary is accepted; then only um_tokenizer_render_chat works. */
UM_API um_status um_tokenizer_open_template(const char *directory, um_tokenizer **tokenizer,
                                            um_error *err);
/* Closes and clears *tokenizer. Accepts NULL and a NULL inside. */
UM_API void um_tokenizer_close(um_tokenizer **tokenizer);

/* Encodes n_bytes of UTF-8. Special tokens in the text are recognised; none is added.
 * *ids [*n_ids] i32 is the caller's, freed with um_free; it is not NULL even where *n_ids is 0.
 * UM_INVALID for text that is not UTF-8, with the byte's position. */
UM_API um_status um_tokenizer_encode(const um_tokenizer *tokenizer, const char *text,
                                     size_t n_bytes, int32_t **ids, size_t *n_ids, um_error *err);

/* Decodes ids [n_ids] to UTF-8; bytes that form no character become U+FFFD. With skip_special,
 * special tokens give nothing, and neither do ids that no token has: models have rows to spare.
 * *text is the caller's, zero-terminated, freed with um_free; *n_bytes (may be NULL) is its length.
 * UM_INVALID for a negative id, and without skip_special for one that no token has. */
UM_API um_status um_tokenizer_decode(const um_tokenizer *tokenizer, const int32_t *ids,
                                     size_t n_ids, bool skip_special, char **text, size_t *n_bytes,
                                     um_error *err);

/* The bytes of one token, which need not be whole characters: decoding joins them before it looks
 * for characters. Nothing for a special token under skip_special. *bytes is the caller's,
 * zero-terminated, freed with um_free. UM_INVALID as for um_tokenizer_decode. */
UM_API um_status um_tokenizer_token_bytes(const um_tokenizer *tokenizer, int32_t id,
                                          bool skip_special, char **bytes, size_t *n_bytes,
                                          um_error *err);

/* Renders the chat template. messages_json is a JSON array of {"role", "content", ...}; tools_json
 * an array of tools or NULL. variables_json is an object of further variables that the template
 * may read ("enable_thinking": false), or NULL. *text is the caller's, freed with um_free. */
UM_API um_status um_tokenizer_render_chat(const um_tokenizer *tokenizer, const char *messages_json,
                                          const char *tools_json, const char *variables_json,
                                          bool add_generation_prompt, char **text, um_error *err);

/* True where a chat template was found. */
UM_API bool um_tokenizer_has_chat_template(const um_tokenizer *tokenizer);

/* ---- Constraints ---------------------------------------------------------------------------- */

/* A set of texts that an answer must be one of: documents of JSON, all or those that satisfy a
 * schema. A request under a constraint commits a token only where the rest of the answer can still
 * be completed within max_tokens, whatever the order in which positions are filled; so its answer
 * is such a document, always. docs/decoding.md says which schemas there are, and what is left of
 * the ways to write a document. Immutable, any thread, any number of requests and engines of the
 * same vocabulary. */
typedef struct um_constraint um_constraint;

/* Any JSON object. The tokenizer is not kept. On success *constraint is the caller's. */
UM_API um_status um_constraint_json_object(const um_tokenizer *tokenizer,
                                           um_constraint **constraint, um_error *err);
/* Documents that satisfy a JSON schema of n_bytes. Takes time and memory that grow with the
 * vocabulary and the number of strings in the schema. UM_FORMAT: the schema is not JSON.
 * UM_INVALID: it is no schema, or nothing satisfies it. UM_UNSUPPORTED names the keyword that is
 * not honoured. UM_LIMIT: it needs too large an automaton. */
UM_API um_status um_constraint_json_schema(const um_tokenizer *tokenizer, const char *schema,
                                           size_t n_bytes, um_constraint **constraint,
                                           um_error *err);
/* Memory that it takes, about; 0 for NULL. */
UM_API size_t um_constraint_bytes(const um_constraint *constraint);
/* Gives the caller's hold back and clears *constraint; it lives on in the requests that it was
 * given to. Accepts NULL and a NULL inside. */
UM_API void um_constraint_free(um_constraint **constraint);

/* ---- Policies ------------------------------------------------------------------------------- */

/* A policy says after each forward which positions take which token. The built-in ones and those
 * that a shared object brings go through this interface alone. A policy is a pure function: it
 * keeps nothing but the state that the engine gives it, so that a run can be repeated and replayed.
 *
 * A shared object exports
 *
 *     const um_policy *um_policy_entry(void);
 *
 * and is named by its path in um_request_options.policy ("./mine.so": whatever holds a '/').
 * It stays loaded while a request uses it. It runs inside the process: the engine checks what a
 * policy decides (bounds, prompt, progress) and ends its request alone where that is wrong; it can
 * not stop a function that never returns, that aborts, or that writes over memory which is not its
 * own (writes past the end of `changes` or of its state, and over tokens or states, are noticed).
 */

/* Changes when a struct below changes in a way that old objects could not bear. */
#define UM_POLICY_ABI 1

typedef enum um_position_state {
    UM_POSITION_PROMPT = 0,   /* never changes, even where its token is the mask token */
    UM_POSITION_MASKED = 1,   /* undecided; only these count as masks */
    UM_POSITION_COMMITTED = 2 /* holds a token of the answer */
} um_position_state;

/* What the model proposes for a position. p is softmax(logits) over the whole vocabulary. */
typedef struct um_candidate {
    int32_t
        token; /* the best one but the mask, or the drawn one where the temperature is above 0 */
    /* Its confidence, in the family's sense: p, or where the temperature is above 0 and the family
     * says so, its probability in the distribution that was drawn from. */
    float probability;
    /* The best and the second-best probability, and the entropy in nats: of p at temperature 0,
     * else of the distribution that was drawn from (UM_POLICY_SEES_SPREAD), else of p. The mask
     * counts as a token where the temperature is 0. */
    float top_probability, second_probability, entropy;
    float mask_probability; /* p of the mask token */
    bool prefers_mask;      /* temperature 0: the mask token is more probable than `token` */
    float log_sum_exp;      /* of the logits, for UM_POLICY_SEES_LOGITS */
} um_candidate;

typedef enum um_metric {
    UM_METRIC_DEFAULT = 0,
    UM_METRIC_CONFIDENCE = 1, /* a probability: the higher, the surer */
    UM_METRIC_ENTROPY = 2     /* an entropy, in nats: the lower, the surer */
} um_metric;

/* A request's parameters with every default filled in; docs/decoding.md says what each one does. */
typedef struct um_policy_params {
    double threshold, edit_threshold, low_threshold, factor, entropy_bound, eps, alg_temp;
    double credit_alpha, credit_beta, credit_gamma;
    double block_add, block_ready;
    int32_t steps;         /* forwards for a block, at least 1 */
    int32_t post_steps;    /* forwards that may start without a mask */
    int32_t window;        /* blocks that may be open at once, at least 1 */
    bool is_random;        /* random remasking: positions are drawn, not ranked */
    bool is_inclusive;     /* the family commits at p >= threshold instead of p > threshold */
    um_metric metric;      /* as the request has it; the policy knows its own default */
    const char *arguments; /* um_request_options.policy_args, or "" */
} um_policy_params;

/* What a policy sees: the open blocks before this step's changes. Everything is the engine's and
 * valid during the call only. */
typedef struct um_policy_view {
    const um_policy_params *params;
    int32_t n; /* positions of the window: one block, or several of a multi-block one */
    int32_t first_position; /* of the window, from the start of the prompt */
    int32_t block_len;      /* positions of a block; the last one of a canvas may be shorter */
    int32_t blocks_left;    /* blocks behind the window that may still be opened */
    int32_t n_carried;      /* blocks that the last step finished: block-causal models take them
                               through the model once more, beside the window */
    int32_t i_step;         /* forwards since the window's first block became the first */
    int32_t vocab, mask_token;
    int32_t delete_token, split_token; /* of LLaDA2.2, or -1 */
    const int32_t *tokens;             /* [n] before the step */
    const uint8_t *states;             /* [n] um_position_state before the step */
    const um_candidate *candidates; /* [n]; defined at masked positions, and at committed ones with
                                       UM_POLICY_SCORES_COMMITTED; else zeros */
    const float *const *logits; /* [n] rows of [vocab] f32 with UM_POLICY_SEES_LOGITS, NULL where
                                   not scored; else NULL */
    int32_t *order;             /* [n] scratch */
    double *keys;               /* [n] scratch */
    void *state;                /* [state_bytes], or NULL */
    /* A uniform draw in (0, 1) for a position of the window at this step: a function of seed,
     * request, position and step, the same however often it is asked for. */
    double (*draw)(const struct um_policy_view *view, int32_t index);
    const void *draw_key; /* the engine's */
} um_policy_view;

/* One position takes a token. Committed positions may take the mask token: they are open again. */
typedef struct um_policy_change {
    int32_t index; /* in the window */
    int32_t token; /* of the vocabulary */
    float probability;
} um_policy_change;

/* What a policy decides. The engine clears the counts before each call. */
typedef struct um_policy_decision {
    um_policy_change *changes; /* [n of the view], the engine's */
    int32_t n_changes;         /* in rising order of index, each index at most once */
    int32_t n_finished;        /* blocks at the front of the window that are frozen now */
} um_policy_decision;

/* um_policy.flags */
enum {
    UM_POLICY_SCORES_COMMITTED = 1 << 0, /* committed positions are scored as well as masked ones */
    UM_POLICY_SEES_LOGITS = 1 << 1,      /* view.logits is filled: [scored rows, vocab] is stored */
    UM_POLICY_SEES_SPREAD = 1 << 2,      /* top, second and entropy at a temperature above 0 */
    UM_POLICY_MULTI_BLOCK = 1 << 3, /* the window may hold several blocks: open, params.window */
    UM_POLICY_KEEPS_STATE = 1 << 4, /* state is zeroed once a request, not once a block */
    UM_POLICY_MAY_IDLE = 1 << 5,    /* a step may change nothing and finish nothing */
    UM_POLICY_IS_GREEDY = 1 << 6,   /* does not draw: the temperature must be 0 */
    UM_POLICY_INSERTS = 1 << 7      /* needs a model with edit tokens (LLaDA2.2) */
};

/* um_policy.reads: which parameters a policy reads. A request that sets another one is refused. */
enum {
    UM_READS_THRESHOLD = 1 << 0,
    UM_READS_EDIT = 1 << 1, /* edit_threshold, post_steps */
    UM_READS_STEPS = 1 << 2,
    UM_READS_REMASK = 1 << 3,
    UM_READS_LOW_THRESHOLD = 1 << 4,
    UM_READS_FACTOR = 1 << 5,
    UM_READS_ENTROPY_BOUND = 1 << 6,
    UM_READS_EPS = 1 << 7,
    UM_READS_ALG_TEMP = 1 << 8,
    UM_READS_CREDIT = 1 << 9,  /* credit_alpha, credit_beta, credit_gamma */
    UM_READS_WINDOW = 1 << 10, /* window, block_add, block_ready */
    UM_READS_METRIC = 1 << 11,
    UM_READS_ARGUMENTS = 1 << 12
};

typedef struct um_policy {
    uint32_t abi;       /* UM_POLICY_ABI */
    uint32_t flags;     /* UM_POLICY_* */
    uint32_t reads;     /* UM_READS_* */
    const char *name;   /* a word */
    const char *source; /* where its formula is written */
    /* Bytes of state for a window of at most n positions; NULL: none. At most 1 GiB. */
    size_t (*state_bytes)(const um_policy_params *params, int32_t n);
    /* A sentence that says why these parameters do not do, or NULL; the function may be NULL. */
    const char *(*refuse)(const um_policy_params *params);
    /* UM_POLICY_MULTI_BLOCK: how many blocks to add behind the window before a forward; candidates,
     * logits and draws are not there yet. */
    int32_t (*open)(const um_policy_view *view);
    /* Called after a forward, from the thread that calls um_engine_step, as is `open`. */
    void (*step)(const um_policy_view *view, um_policy_decision *decision);
} um_policy;

/* What a shared object with a policy defines; the library itself does not. Returns a constant. */
UM_API const um_policy *um_policy_entry(void);

/* The built-in policy of a name, or NULL. */
UM_API const um_policy *um_policy_find(const char *name);
/* The i-th built-in policy, or NULL past the end. */
UM_API const um_policy *um_policy_at(int32_t i);

/* ---- Models --------------------------------------------------------------------------------- */

typedef enum um_attention {
    UM_ATTENTION_FULL = 0,        /* every position sees every other one of a fixed canvas */
    UM_ATTENTION_BLOCK_CAUSAL = 1 /* a position sees its own block and all earlier ones */
} um_attention;

typedef enum um_cache_mode {
    UM_CACHE_DEFAULT = 0, /* the exact one */
    UM_CACHE_EXACT = 1,   /* pages for block-causal models, none for full attention: same result */
    UM_CACHE_NONE = 2,    /* everything is recomputed at each step: the definition */
    UM_CACHE_PREFIX = 3,  /* Fast-dLLM's prefix cache, full attention only: an approximation */
    UM_CACHE_DUAL = 4     /* Fast-dLLM's dual cache, full attention only: an approximation */
} um_cache_mode;

/* A policy that corrects tokens ends a block with a forward that changes nothing. */
typedef enum um_fold {
    /* Block-causal models with the exact cache: that forward is the first one of the next block as
     * well. Where it does change something, what it says of the next block is forgotten; a block
     * whose correction goes on is not tried a third time. No token, probability or draw differs;
     * about one forward a block is saved. */
    UM_FOLD_AUTO = 0,
    UM_FOLD_OFF = 1 /* as many forwards as the families' code makes */
} um_fold;

typedef enum um_remask {
    UM_REMASK_DEFAULT = 0,
    UM_REMASK_LOW_CONFIDENCE = 1, /* commit the positions with the highest probability */
    UM_REMASK_RANDOM = 2          /* commit positions drawn uniformly */
} um_remask;

typedef enum um_request_attention {
    UM_ATTENTION_OF_MODEL = 0,
    /* For models of full attention that were fine-tuned so (D2F): the prompt sees itself, a block
     * of the answer the prompt, earlier blocks and itself. The exact cache then holds keys and
     * values. */
    UM_ATTENTION_OF_BLOCKS = 1
} um_request_attention;

typedef enum um_precision {
    UM_PRECISION_REFERENCE = 0, /* float32 activations and sums over the stored weights */
    /* The default. Weights of block types (GGUF's Q8_0, Q4_K ...) are repacked when the model is
     * opened, and meet activations quantized to 8 bits by row and group of 32. Where the processor
     * is faster so (AMX), they are dequantized to bfloat16 instead, but for experts, and meet
     * activations rounded to bfloat16, as do weights of bfloat16. All else as above. */
    UM_PRECISION_FAST = 1
} um_precision;

/* How keys and values are stored in the cache. Every step reads all of them that its rows see;
 * products and sums are float32 whatever the type. */
typedef enum um_kv_type {
    UM_KV_AUTO = 0, /* float32 with the reference precision, bfloat16 with the fast one */
    UM_KV_F32 = 1,  /* 4 bytes a number, exact */
    UM_KV_BF16 = 2, /* 2 bytes a number */
    UM_KV_INT8 = 3  /* 1 byte, and a float32 scale for each position and head */
} um_kv_type;

#define UM_STOP_TOKENS_MAX 16

/* What a model directory, or a GGUF file, holds. Strings live as long as the struct's owner. */
typedef struct um_model_info {
    char architecture[64]; /* "LLaDA2MoeModelLM" */
    char family[32];       /* "llada2_moe", "llada" */
    um_attention attention;
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim;
    int32_t vocab;                                 /* rows of the output head */
    int32_t context;                               /* positions that the model was made for */
    int32_t n_experts, n_active, n_shared_experts; /* 0 where the model is dense */
    int32_t mask_token;
    int32_t n_stop_tokens;
    int32_t stop_tokens[UM_STOP_TOKENS_MAX]; /* any of them ends the text */
    int32_t eos_token, eot_token;            /* end of the text, end of a turn; -1: none known */
    int32_t delete_token, split_token;       /* edit tokens of LLaDA2.2, or -1 */
    bool is_shifted;                         /* logits row i predicts position i + 1 */
    int64_t n_parameters, n_tensors;
    int64_t bytes_f32, bytes_f16, bytes_bf16; /* weights by stored type */
    int64_t bytes_blocks;                     /* of all block types (Q8_0, Q4_K, ...) */
    /* Keys and values of one position, all layers: in the engine's type, or in float32 where no
     * engine is open (um_model_cache_bytes says it for each type). */
    int64_t cache_bytes_per_token;
    /* Defaults of the family, as changed by generation_config.json. */
    char policy[32];
    um_remask remask;
    int32_t block_len;         /* 0: the whole answer is one block (full attention only) */
    int32_t sub_block;         /* positions denoised together inside a block; 0: the block */
    int32_t steps, post_steps; /* steps: forwards a block; 0: as many as tokens */
    double threshold, edit_threshold, temperature, top_p, cfg_scale;
    int32_t top_k;
} um_model_info;

/* Reads what a directory or a GGUF file holds, and checks every tensor's name, type and shape,
 * without reading weights. mask_token: -1 for the model's own. */
UM_API um_status um_model_inspect(const char *directory, int32_t mask_token, um_model_info *info,
                                  um_error *err);

/* Bytes of keys and values of one position in all layers, stored as `type`; AUTO: as float32. */
UM_API int64_t um_model_cache_bytes(const um_model_info *info, um_kv_type type);

/* ---- Engine --------------------------------------------------------------------------------- */

typedef struct um_engine um_engine;
typedef struct um_request um_request;

/* Progress of a long operation: `what` is "loading" (done and total are bytes), then, where weights
 * are repacked, "packing", or "reading packed weights" where they are read from a cache, and
 * "placing" where they are copied to a device. Called from the thread that called the library. */
typedef void (*um_progress_fn)(void *user, const char *what, int64_t done, int64_t total);

/* Steps inside a block that are queued before the one before them is known, decided on the device
 * and checked by the policy: no answer, event or number depends on it. It is for devices that would
 * wait for the host; blocks that need the host in every step (constraints, penalties, top-k, top-p
 * and min-p, log-probabilities, guidance, policies other than threshold, schedule, static, dynamic
 * and edit) go on step by step. */
typedef enum um_ahead {
    UM_AHEAD_AUTO = 0, /* on GPUs */
    UM_AHEAD_ON = 1,   /* on the CPU as well: for tests, it gains nothing there */
    UM_AHEAD_OFF = 2
} um_ahead;

/* Fill with um_engine_options_init, then change what differs. */
typedef struct um_engine_options {
    const char *directory; /* model directory or GGUF file, required; not kept */
    /* Where the model computes: "cpu", or "cuda:0" for the first NVIDIA GPU. NULL: what the
     * environment variable UNMASK_DEVICE names, or else the CPU. Not kept. */
    const char *device;
    int32_t n_threads;      /* 0: one for each core this process may use */
    int32_t mask_token;     /* -1: from the model */
    um_precision precision; /* default UM_PRECISION_FAST */
    int64_t cache_tokens;   /* positions that the page pool can hold; 0: the model's context */
    /* Mixtures of experts: the experts of a layer that the positions of a block may reach together,
     * from those of a token to all; 0: no bound. Fewer weights are read, and the result is an
     * approximation (docs/families.md). */
    int32_t expert_cap;
    /* For measuring without a file: the shape of a published model with random weights, in place of
     * a directory: llada2-mini, llada-8b, llada-moe, sdar-8b, dream-7b, llada-169m. What it writes
     * is noise. */
    const char *synthetic;
    const char *synthetic_type; /* f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k */
    int32_t synthetic_layers;   /* 0: all; fewer take less memory, and measured times are scaled */
    um_kv_type kv_type;
    /* NULL, or a file for packed weights: where it was written for this model and is whole, weights
     * are read from it and not packed anew; else it is written, to be there next time (UM_IO where
     * that fails). About as large as the weights. For this machine's use: whoever can write to it
     * decides what the model computes. Not kept. */
    const char *pack_cache;
    um_progress_fn progress; /* may be NULL */
    void *progress_user;
    /* Scheduling (docs/architecture.md): nothing here changes an answer. */
    double max_step_ms;   /* 0: no bound. While a request denoises, a step takes only as much of
                             others' prompts along as it is expected to hold within this time, but
                             at least one block */
    int32_t max_requests; /* that hold pages at the same time; 0: no bound */
    int32_t max_queue;    /* that wait for their first forward; 0: no bound */
    um_ahead ahead;       /* default UM_AHEAD_AUTO */
    bool prefix_cache; /* default false: frozen blocks of prompts and answers are kept while there
                          is room, and shared by requests that begin alike (block-causal models and
                          the exact cache; elsewhere a prefix depends on what follows it) */
} um_engine_options;

UM_API void um_engine_options_init(um_engine_options *options);

/* Loads a model. On success *engine is the caller's, to be closed. Says before loading (with
 * UM_NO_MEMORY) when the memory of the device does not suffice, and what is needed. A device that
 * is not there: UM_UNSUPPORTED where this build or the driver has none, UM_INVALID for a name or a
 * number that does not exist, UM_DEVICE where the driver fails. */
UM_API um_status um_engine_open(const um_engine_options *options, um_engine **engine,
                                um_error *err);
/* Closes and clears *engine. All requests must have been destroyed. Accepts NULL. */
UM_API void um_engine_close(um_engine **engine);
/* Borrowed; valid until the engine is closed. */
UM_API const um_model_info *um_engine_info(const um_engine *engine);
/* "cpu", "cuda:0": the device in use. Valid until the engine is closed. */
UM_API const char *um_engine_device(const um_engine *engine);
/* "scalar", "avx2", "avxvnni", "avx512", "amx" or "cuda": the kernels in use. Constant string. */
UM_API const char *um_engine_kernels(const um_engine *engine);
UM_API int32_t um_engine_threads(const um_engine *engine);
/* How the cache of this engine stores keys and values; never AUTO. */
UM_API um_kv_type um_engine_kv_type(const um_engine *engine);

/* Pages of the cache: how many exist, and how many no request holds. */
UM_API void um_engine_pages(um_engine *engine, int64_t *n_pages, int64_t *n_free);

/* What the engine has done and how it stands after its last step. Counters only rise. */
typedef struct um_stats {
    int64_t pages_free;   /* hold nothing */
    int64_t pages_used;   /* held by requests */
    int64_t pages_cached; /* of the prefix cache alone: taken when pages are needed */
    int64_t requests_running, requests_waiting;
    /* Counters. */
    int64_t requests_accepted, requests_done, requests_failed; /* failed: cancelled ones, too */
    int64_t preemptions;    /* requests that were put back for want of pages */
    int64_t forwards;       /* of the model, each for many requests */
    int64_t forwards_ns;    /* time inside them */
    int64_t forwards_ahead; /* of these, queued before the one before them was known (um_ahead) */
    int64_t gaps_ns;        /* the device's time between the end of a step and the beginning of such
                               a one behind it */
    int64_t rows_prefill;   /* prompts, and what is computed again after a request was put back */
    int64_t rows_block;     /* of open blocks */
    int64_t rows_folded;    /* of a block that goes through beside the open one: the one before it,
                               or the next one */
    int64_t commits, edits; /* changes to masked positions, and to others */
    int64_t blocks_finished;
    int64_t tokens_queried; /* prompt tokens that were looked up in the prefix cache */
    int64_t tokens_cached;  /* ... and found there */
} um_stats;

/* Does not wait for a step that is being made. Any thread. */
UM_API void um_engine_stats(um_engine *engine, um_stats *stats);

/* One forward over a whole sequence under the model's own mask, without cache.
 *   ids    [n]          i32, each within the vocabulary
 *   logits [n, vocab]   f32, the caller's
 * block_len: 0 for the family's. */
UM_API um_status um_engine_logits(um_engine *engine, const int32_t *ids, size_t n,
                                  int32_t block_len, float *logits, um_error *err);

/* Makes one forward pass for all live requests and queues their events. A request takes part only
 * when its events have been taken, that is, after um_request_next_event has said UM_AGAIN for it: a
 * slow reader holds back its own request and no other. UM_OK: something was done. UM_AGAIN: nothing
 * could be done (no request is live, or none has had its events taken). Faults, also of memory or
 * device, are events of the requests they befall. */
UM_API um_status um_engine_step(um_engine *engine, um_error *err);

/* ---- Requests ------------------------------------------------------------------------------- */

enum { UM_TOP_LOGPROBS_MAX = 20, UM_REQUEST_STOP_TOKENS_MAX = 1024, UM_LOGIT_BIAS_MAX = 65536 };

/* Added to a token's logit. Minus infinity: the token is never proposed. */
typedef struct um_logit_bias {
    int32_t token;
    float bias;
} um_logit_bias;

/* Fill with um_request_options_init: it sets each field to "the model's default". */
typedef struct um_request_options {
    const int32_t *prompt; /* [n_prompt] i32, copied; a mask token in it stays a prompt token */
    size_t n_prompt;       /* at least 1 */
    int32_t max_tokens;    /* tokens to write, at least 1; default 256 */
    /* Infilling: [n_suffix] i32, copied. Stands right behind the max_tokens positions that are
     * written, from the first forward on, and never changes. What is written must see it: with
     * block-causal attention the first position to write and the last one of the suffix are in one
     * block, and where logits are shifted the former does not begin that block. NULL: none. */
    const int32_t *suffix;
    size_t n_suffix;
    int32_t block_len;  /* 0: default */
    int32_t sub_block;  /* block-causal: positions denoised together inside a block; 0: default */
    const char *policy; /* a built-in policy's name or a shared object's path; NULL: default; not
                           kept */
    const char *policy_args; /* text for a policy from a shared object; NULL: none; copied */
    double threshold;        /* 0..1; NaN: default */
    double edit_threshold;   /* 0..1; NaN: default */
    int32_t post_steps;      /* forwards of `edit` after the last mask, at least 0; -1: default */
    int32_t steps;           /* forwards for each block, at least 1; 0: default */
    um_remask remask;
    /* Of one policy or a few each (docs/decoding.md); NaN, 0: default. */
    double low_threshold; /* `hierarchy`: 0..1 */
    double factor;        /* `factor`: above 0 */
    double entropy_bound; /* `entropy-bound`: above 0, nats */
    double eps;           /* `origin` and its kin: the last noise level, below 1; 0: even steps */
    double alg_temp; /* `entropy` and its kin: temperature of the choice of positions; 0: none */
    double credit_alpha, credit_beta, credit_gamma; /* `credit`: weight, decay 0..1, power */
    int32_t window;                                 /* `multi-block`: blocks open at once */
    double block_add; /* `multi-block`: share of a block that is decided when the next one opens */
    double block_ready; /* `multi-block`: share of a block decided that lets the next one force */
    um_request_attention attention;
    um_metric metric;            /* what is compared or ranked (`multi-block`, `entropy-bound`) */
    bool logits_eos_inf;         /* the end-of-text token is never proposed (LLaDA) */
    bool confidence_eos_eot_inf; /* end tokens have no confidence (LLaDA) */
    double cfg_scale;            /* classifier-free guidance, 0 or more; NaN: default */
    double temperature;          /* 0 is greedy; NaN: default */
    int32_t top_k;               /* 0: off; -1: default */
    double top_p;                /* above 0, at most 1; 1: off; NaN: default */
    double min_p;                /* 0..1; 0: off; NaN: default */
    uint64_t seed;
    uint64_t request_key; /* a second key of the draws, for many requests under one seed */
    bool ignore_eos;      /* write max_tokens tokens whatever they are */
    um_cache_mode cache;
    um_fold fold;
    int32_t prefill_chunk; /* prompt tokens a forward, rounded down to whole blocks; 0: default */
    um_constraint *constraint; /* NULL: none; held by the request while it lives */
    /* What follows changes logits before anything is read from them: after guidance, before
     * probabilities, temperature and truncation. docs/decoding.md has the formulas. */
    const um_logit_bias *logit_bias; /* [n_logit_bias], each token once; copied */
    int32_t n_logit_bias;
    double frequency_penalty;  /* times a token's count in the answer, subtracted; 0: off */
    double presence_penalty;   /* subtracted where the count is not 0; 0: off */
    double repetition_penalty; /* above 0; 1: off. Logits of tokens that the prompt or the answer
                                  has are divided by it, negative ones multiplied */
    /* The end of the text. */
    const int32_t *stop_tokens; /* [n_stop_tokens] further ids that end it; also with ignore_eos;
                                   copied */
    int32_t n_stop_tokens;
    int32_t min_tokens; /* no end before so many tokens: end tokens are not proposed there */
    /* -1: none. Else changes say the log-probability of their token and, up to 20, the most
     * probable tokens of their position, in the forward that made the change. */
    int32_t top_logprobs;
    int32_t priority; /* higher ones are admitted first and put back last; 0: default */
} um_request_options;

UM_API void um_request_options_init(um_request_options *options);
/* Checks what needs no model: that a built-in policy has the name, and reads what is set. */
UM_API um_status um_request_options_check(const um_request_options *options, um_error *err);

/* Checks the options against the model and queues the request. On success *request is the
 * caller's, to be destroyed before the engine is closed. UM_INVALID names the parameter; UM_LIMIT
 * where prompt and max_tokens exceed the context or the page pool; UM_AGAIN where max_queue
 * requests are waiting: the same call may succeed later. */
UM_API um_status um_request_create(um_engine *engine, const um_request_options *options,
                                   um_request **request, um_error *err);
/* Asks for the end of a request: the next um_engine_step ends it with UM_CANCELLED as its last
 * event and gives its pages back. Any thread, at any time. Accepts NULL. */
UM_API void um_request_cancel(um_request *request);
/* Cancels if need be, frees, and clears *request. Accepts NULL and a NULL inside. */
UM_API void um_request_destroy(um_request **request);

typedef enum um_event_kind {
    UM_EVENT_ACCEPTED = 0, /* pages are held; the first forward is next */
    /* Prompt tokens went through the model; once more, with those of finished blocks, after the
     * request was put back for want of pages. */
    UM_EVENT_PREFILL = 1,
    UM_EVENT_STEP = 2,  /* one denoising forward; of two blocks where it is folded (um_fold) */
    UM_EVENT_BLOCK = 3, /* a block is finished and frozen */
    UM_EVENT_DONE = 4,  /* the last event of a request that ended well */
    UM_EVENT_ERROR = 5  /* the last event of a request that failed or was cancelled */
} um_event_kind;

typedef enum um_finish_reason { UM_FINISH_STOP = 0, UM_FINISH_LENGTH = 1 } um_finish_reason;

/* log softmax(l) of a token: l as changed by bias and penalties, at temperature 1. */
typedef struct um_token_logprob {
    int32_t token;
    float log_probability;
} um_token_logprob;

/* One position's change. An edit changes a position that was not masked. */
typedef struct um_change {
    int32_t position; /* from the start of the prompt */
    int32_t token;
    float probability;
    bool is_edit;
    /* With top_logprobs: of the token, NaN where the forward did not score the position (a token
     * that a policy moved); and the most probable ones but the mask, ties by rising id. Else NaN
     * and none. */
    float log_probability;
    int32_t n_top;
    const um_token_logprob *top; /* [n_top] */
} um_change;

typedef struct um_event {
    um_event_kind kind;
    /* UM_EVENT_ACCEPTED, UM_EVENT_DONE */
    int32_t n_cached; /* prompt tokens whose keys and values were in the prefix cache */
    /* UM_EVENT_PREFILL */
    int32_t prefill_done, prefill_total; /* tokens */
    /* UM_EVENT_STEP, UM_EVENT_BLOCK */
    int32_t forward;        /* denoising forwards of this request, from 0 */
    int32_t block;          /* block-causal: position / block_len; full: from the prompt's end */
    int32_t first_position; /* of the open blocks, from the start of the prompt */
    int32_t n_inputs;       /* length of the open blocks; BLOCK: of those that are finished */
    const int32_t *inputs;  /* [n_inputs] ids of them before the step; after it for BLOCK */
    int32_t n_changes;
    const um_change *changes; /* [n_changes], by position */
    /* UM_EVENT_DONE */
    um_finish_reason finish;
    int32_t n_tokens;      /* the answer, without the token that stopped it */
    const int32_t *tokens; /* [n_tokens] */
    int32_t forwards, prefill_forwards;
    int32_t preemptions;           /* how often it was put back for want of pages */
    int64_t prefill_ns, decode_ns; /* time inside um_engine_step while this request took part */
    /* UM_EVENT_ERROR */
    um_error error;
} um_event;

/* Takes the next event. Its pointers stay valid until the next call on the same request.
 * UM_AGAIN: none is queued. */
UM_API um_status um_request_next_event(um_request *request, um_event *event);

/* ---- Measuring ------------------------------------------------------------------------------ */

/* What the machine can do at most with the engine's threads and the instructions of its kernels. */
typedef struct um_machine {
    double read_gbps;   /* 1e9 bytes a second from memory */
    double f32_gflops;  /* a fused multiply-add is two operations */
    double bf16_gflops; /* 0: no kernel multiplies bfloat16; float32's figure counts */
    double int8_gops;
} um_machine;

/* Measures with loops that do nothing else, about a second; other requests wait. */
UM_API um_status um_engine_machine(um_engine *engine, um_machine *machine, um_error *err);

typedef enum um_phase {
    UM_PHASE_STEP = 0,   /* the output head runs for all rows, at temperature 0 */
    UM_PHASE_PREFILL = 1 /* the head does not run */
} um_phase;

typedef struct um_measure_options {
    um_phase phase;
    int32_t n_rows;    /* positions of the span */
    int32_t context;   /* positions in the cache before it */
    int32_t n_repeats; /* 1 to 1000, after one that is not counted */
} um_measure_options;

/* Of all layers: where the engine holds fewer than its shape has, times, bytes and operations of
 * the layers are scaled up, those of the head are not. */
typedef struct um_measurement {
    double ms, ms_min; /* median and least */
    double bytes;      /* weights that the rows touch, keys and values */
    double int8_ops, bf16_ops, f32_ops;
    double experts_touched;  /* of a layer, mean; 0 for dense models */
    double limit_ms;         /* the larger of reading `bytes` and of all operations */
    const char *limit;       /* "read", "f32", "bf16" or "int8": what binds. Constant string */
    double percent_of_limit; /* 100 * limit_ms / ms */
} um_measurement;

/* Times forwards of one span. UM_INVALID; UM_LIMIT: more positions than the model's context or the
 * cache holds. */
UM_API um_status um_engine_measure(um_engine *engine, const um_measure_options *options,
                                   const um_machine *machine, um_measurement *measurement,
                                   um_error *err);
/* Layers of the engine's shape; um_model_info has those that are there. */
UM_API int32_t um_engine_full_layers(const um_engine *engine);

/* ---- Score ---------------------------------------------------------------------------------- */

/* The likelihood of an answer after a prompt, bounded from below by Monte Carlo: in each sample a
 * random part of the answer is masked, and what the model gives for the masked tokens is weighed by
 * the inverse of the masked share (LLaDA, arXiv 2502.09992, equation 6 and eval_llada.py). With k
 * of n tokens masked, a sample is
 *
 *   -(n / k) * sum over the masked positions of the cross-entropy of the answer's token, in nats
 *
 * Block-causal models: exact block by block. A block sees what comes before it as it is, its own
 * part of the answer is masked like the above, and a sample is the sum over the blocks. Where the
 * logits are shifted as well (Fast-dLLM v2), a block's first token is written by the block before:
 * it is never masked and enters with its exact log-probability.
 *
 * k runs through its range evenly over the samples of a block (stratified), from a random start.
 * All draws are functions of (seed, item, sample, position), so that no number depends on threads,
 * on the size of batches, or on what else the engine does. */

/* Progress of um_engine_score, after each forward; `what` is "scoring", done and total count
 * samples of blocks. False stops it. Called from the thread that called the library, without its
 * locks. */
typedef bool (*um_score_progress_fn)(void *user, const char *what, int64_t done, int64_t total);

/* Fill with um_score_options_init, then set prompt and answer. */
typedef struct um_score_options {
    const int32_t *prompt; /* [n_prompt] i32; not kept */
    size_t n_prompt;       /* at least 1 */
    const int32_t *answer; /* [n_answer] i32, without the mask token; not kept */
    size_t n_answer;       /* at least 1 */
    int32_t n_samples;     /* 1 to 1,000,000; default 128 */
    int32_t block_len;     /* block-causal models only; 0: the family's */
    double cfg_scale;      /* classifier-free guidance, 0 or more; default 0 (none) */
    uint64_t seed;
    uint64_t item;                 /* a second key of the draws, for many answers under one seed */
    um_score_progress_fn progress; /* may be NULL */
    void *progress_user;
} um_score_options;

typedef struct um_score_result {
    double log_likelihood; /* the mean of the samples: an estimate of the bound, in nats */
    /* sd / sqrt(n_samples), as of independent samples: on the safe side, since stratified ones
     * scatter less. NaN for a single sample. It says nothing of the gap between the bound and the
     * likelihood. */
    double standard_error;
    int32_t n_tokens; /* n_answer */
    int32_t n_samples;
} um_score_result;

UM_API void um_score_options_init(um_score_options *options);

/* Scores an answer. samples: NULL, or [n_samples] f64, the caller's, for each sample's value. Takes
 * pages of the cache from the start to the end of the call, at most half of the free ones unless a
 * single sample needs more, and the engine for one forward at a time: requests go on in between.
 * UM_INVALID names the parameter; UM_LIMIT where prompt and answer exceed the context or the page
 * pool; UM_AGAIN where others hold the pages: try again later; UM_CANCELLED where the progress
 * function said so. */
UM_API um_status um_engine_score(um_engine *engine, const um_score_options *options,
                                 um_score_result *result, double *samples, um_error *err);

/* The masks of a sample, as um_engine_score draws them: masked [n_answer] u8, 1 where the answer's
 * token is masked. Needs no engine. */
UM_API um_status um_score_masks(const um_model_info *info, const um_score_options *options,
                                int32_t i_sample, uint8_t *masked, um_error *err);

/* ---- Quantization --------------------------------------------------------------------------- */

/* How much each input of each weight counts, measured on text (um_importance_measure). Immutable;
 * any thread. */
typedef struct um_importance um_importance;

/* Progress of long operations that can be stopped: `what` is "measuring" (done and total count
 * tokens) or "quantizing" (bytes of the source). False stops it. Called from the thread that called
 * the library. */
typedef bool (*um_work_progress_fn)(void *user, const char *what, int64_t done, int64_t total);

/* Fill with um_importance_options_init, then set directory and ids. */
typedef struct um_importance_options {
    const char *directory;        /* model directory or GGUF file; not kept */
    const int32_t *ids;           /* [n_ids] i32, of ordinary text; not kept */
    size_t n_ids;                 /* at least 1 */
    int32_t n_threads;            /* 0: one for each core this process may use */
    int32_t mask_token;           /* -1: from the model */
    uint64_t seed;                /* of the masks */
    um_work_progress_fn progress; /* may be NULL */
    void *progress_user;
} um_importance_options;

UM_API void um_importance_options_init(um_importance_options *options);

/* Runs text through a model as a diffusion model sees it: each block (where attention is full, each
 * piece of text) with a random share of its tokens masked. For each linear weight the mean square
 * of each of its inputs is kept. The text is cut into pieces of at most 256 tokens. Opens the model
 * for itself, with float32 activations. On success *importance is the caller's, to be closed. */
UM_API um_status um_importance_measure(const um_importance_options *options,
                                       um_importance **importance, um_error *err);
/* Closes and clears *importance. Accepts NULL and a NULL inside. */
UM_API void um_importance_close(um_importance **importance);

/* A tensor as it was written. Strings live during the call. */
typedef struct um_quantized_tensor {
    const char *name;      /* in the file: "blk.3.attn_q.weight" */
    const char *from, *to; /* types: "BF16", "Q4_K" */
    const char *wanted;    /* where its rows do not fit the type it should have: that; else NULL */
    int64_t n_items, n_bytes;
    double error; /* sqrt(sum (written - w)^2 / sum w^2); 0 where all w are 0 */
    bool has_importance;
} um_quantized_tensor;

/* Fill with um_quantize_options_init, then set directory, output and type. */
typedef struct um_quantize_options {
    const char *directory; /* model directory, or GGUF file that is not quantized; not kept */
    const char *output;    /* the GGUF file to write; not kept */
    const char *type;      /* "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "f16", "bf16" or "f32" */
    bool is_pure;          /* one type for all matrices */
    bool may_replace;      /* the output may exist */
    int32_t n_threads;     /* 0: one for each core this process may use */
    int32_t mask_token;    /* -1: from the model */
    const um_importance *importance; /* of the same model, or NULL: all inputs count alike */
    um_work_progress_fn progress;    /* may be NULL */
    void (*tensor)(void *user, const um_quantized_tensor *tensor); /* after each; may be NULL */
    void *user;                                                    /* of both */
} um_quantize_options;

typedef struct um_quantize_result {
    int64_t n_tensors, n_parameters;
    int64_t n_bytes; /* of all tensors */
    int64_t file_bytes;
    double bits_per_weight; /* 8 * n_bytes / n_parameters */
    double error;           /* as a tensor's, over all of them */
} um_quantize_result;

UM_API void um_quantize_options_init(um_quantize_options *options);

/* Writes a model as a GGUF file, with its configuration and its tokenizer. The file appears when it
 * is whole; a failure leaves none. Memory stays below twice the largest tensor. The bits of the
 * file depend on the model, the type and the importances alone. UM_INVALID names a parameter;
 * UM_UNSUPPORTED says what a GGUF file cannot hold, or that the model is quantized already. */
UM_API um_status um_quantize(const um_quantize_options *options, um_quantize_result *result,
                             um_error *err);

#ifdef __cplusplus
}
#endif
#endif
