/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of all options: what is parsed, what help says. docs/unmask.1 and tools/completion.bash
 * say the same; tests/cli/test_usage.py compares them with the help.
 */
#include "programs/options.h"

#define RUN (1u << COMMAND_RUN)
#define LOGITS (1u << COMMAND_LOGITS)
#define TOKENIZE (1u << COMMAND_TOKENIZE)
#define INSPECT (1u << COMMAND_INSPECT)
#define SCORE (1u << COMMAND_SCORE)
#define BENCH (1u << COMMAND_BENCH)
#define QUANTIZE (1u << COMMAND_QUANTIZE)
#define SERVE (1u << COMMAND_SERVE)
#define ALL (RUN | LOGITS | TOKENIZE | INSPECT | SCORE | BENCH | QUANTIZE | SERVE)
#define INT_MAXIMUM 2147483647.0
#define REAL_MAXIMUM 1e6

#define FLAG(name_, where, help_) \
    { .name = name_, .type = OPTION_TYPE_FLAG, .commands = where, .help = help_ }
#define TEXT(name_, argument_, where, help_)                                               \
    {                                                                                      \
        .name = name_, .argument = argument_, .type = OPTION_TYPE_TEXT, .commands = where, \
        .help = help_                                                                      \
    }
#define INTEGER(name_, low, high, where, help_)                                         \
    {                                                                                   \
        .name = name_, .argument = "N", .type = OPTION_TYPE_INTEGER, .commands = where, \
        .minimum = low, .maximum = high, .help = help_                                  \
    }
#define REAL(name_, argument_, low, high, where, help_)                                    \
    {                                                                                      \
        .name = name_, .argument = argument_, .type = OPTION_TYPE_REAL, .commands = where, \
        .minimum = low, .maximum = high, .help = help_                                     \
    }
/* The minimum itself is not allowed. */
#define REAL_ABOVE(name_, argument_, low, high, where, help_)                              \
    {                                                                                      \
        .name = name_, .argument = argument_, .type = OPTION_TYPE_REAL, .commands = where, \
        .minimum = low, .maximum = high, .is_above_minimum = true, .help = help_           \
    }
#define CHOICE(name_, choices_, where, help_)                                               \
    {                                                                                       \
        .name = name_, .argument = choices_, .type = OPTION_TYPE_CHOICE, .commands = where, \
        .choices = choices_, .help = help_                                                  \
    }

const option_spec option_table[OPTION_COUNT] = {
    [OPTION_MODEL] =
        {.name = "model",
         .short_name = 'm',
         .argument = "DIR",
         .type = OPTION_TYPE_TEXT,
         .commands = ALL,
         .help = "the model's directory, in the layout of the Hugging Face hub, or a GGUF file"},
    [OPTION_PROMPT] = {.name = "prompt",
                       .short_name = 'p',
                       .argument = "TEXT",
                       .type = OPTION_TYPE_TEXT,
                       .commands = RUN | TOKENIZE | SCORE,
                       .help =
                           "the prompt; run puts it into the model's chat template, if it has one"},
    [OPTION_IDS] =
        TEXT("ids", "LIST", RUN | LOGITS | SCORE,
             "the prompt as token ids, separated by spaces or commas: works without a tokenizer"),
    [OPTION_FILE] = TEXT("file", "FILE", TOKENIZE, "the text of a file"),
    [OPTION_JSONL] = TEXT("jsonl", "FILE", TOKENIZE,
                          "a file whose lines are JSON strings; prints one array a line"),
    [OPTION_CHAT] =
        TEXT("chat", "FILE", TOKENIZE,
             "a conversation: a JSON array of messages, each with \"role\" and \"content\""),
    [OPTION_TOOLS] =
        TEXT("tools", "FILE", TOKENIZE, "with --chat: a JSON array of tools for the template"),
    [OPTION_RENDER] = FLAG("render", TOKENIZE,
                           "with --chat: print the text that the template gives instead of ids"),
    [OPTION_DECODE] = TEXT("decode", "LIST", TOKENIZE, "token ids; prints their text"),
    [OPTION_SYSTEM] = TEXT("system", "TEXT", RUN, "the system message of the chat template"),
    [OPTION_RAW] = FLAG("raw", RUN, "give the prompt to the model as it is, without chat template"),
    [OPTION_SUFFIX] = TEXT("suffix", "TEXT", RUN,
                           "text that comes behind the answer, which fills --max-tokens between"),
    [OPTION_MAX_TOKENS] =
        INTEGER("max-tokens", 1, INT_MAXIMUM, RUN, "tokens to write at most (256)"),
    [OPTION_IGNORE_EOS] =
        FLAG("ignore-eos", RUN, "write all of --max-tokens, past the end of the text"),
    [OPTION_JSON_OBJECT] = FLAG("json-object", RUN, "the answer is a JSON object, always"),
    [OPTION_JSON_SCHEMA] = TEXT("json-schema", "FILE", RUN,
                                "the answer is a JSON document that satisfies the schema, always"),
    [OPTION_BLOCK] = INTEGER("block", 1, INT_MAXIMUM, RUN | LOGITS | SCORE,
                             "length of a block in tokens (the model's)"),
    [OPTION_SUB_BLOCK] =
        INTEGER("sub-block", 1, INT_MAXIMUM, RUN,
                "block-causal models: tokens of a block that are denoised together, a divisor of "
                "the block (the model's)"),
    [OPTION_ATTENTION] =
        CHOICE("attention", "model|blocks", RUN,
               "blocks: a model of full attention that was fine-tuned to see the prompt, earlier "
               "blocks and its own (D2F) (model)"),
    [OPTION_POLICY] = TEXT("policy", "NAME", RUN,
                           "how tokens are committed (the model's); a shared object of your own is "
                           "named by its path, with a '/'. Built in:"),
    [OPTION_POLICY_ARGS] =
        TEXT("policy-args", "TEXT", RUN, "text for a policy from a shared object"),
    [OPTION_THRESHOLD] =
        REAL("threshold", "X", 0, 1, RUN, "commit tokens with a probability above X (the model's)"),
    [OPTION_STEPS] = INTEGER("steps", 1, INT_MAXIMUM, RUN, "forwards for each block (the model's)"),
    [OPTION_REMASK] = CHOICE("remask", "low-confidence|random", RUN,
                             "which positions of a block are committed first (the model's)"),
    [OPTION_EDIT_THRESHOLD] = REAL("edit-threshold", "X", 0, 1, RUN,
                                   "replace a committed token by one with a probability above X"),
    [OPTION_POST_STEPS] = INTEGER("post-steps", 0, INT_MAXIMUM, RUN,
                                  "forwards that may still correct a block after its last mask"),
    [OPTION_EPS] =
        REAL("eps", "X", 0, 0.999, RUN, "the last noise level; 0: even steps (the model's)"),
    [OPTION_ALG_TEMP] = REAL("alg-temp", "T", 0, REAL_MAXIMUM, RUN,
                             "temperature of the choice of positions; 0 takes the best (0)"),
    [OPTION_FACTOR] = REAL_ABOVE(
        "factor", "X", 0, REAL_MAXIMUM, RUN,
        "commit the k best where the last one's probability is at least 1 - X/(k+1) (1)"),
    [OPTION_ENTROPY_BOUND] =
        REAL_ABOVE("entropy-bound", "X", 0, REAL_MAXIMUM, RUN,
                   "commit the surest while their entropies add up to less than X nats (0.35)"),
    [OPTION_LOW_THRESHOLD] = REAL("low-threshold", "X", 0, 1, RUN,
                                  "of each run of masks commit the best if it is above X (0.4)"),
    [OPTION_CREDIT_ALPHA] =
        REAL("credit-alpha", "X", 0, 100, RUN, "weight of the credit in the logits (0.7)"),
    [OPTION_CREDIT_BETA] =
        REAL("credit-beta", "X", 0, 1, RUN, "what a forward leaves of the credit (0.8)"),
    [OPTION_CREDIT_GAMMA] = REAL("credit-gamma", "X", 0, 100, RUN,
                                 "power of the probability that is added to the credit (0.2)"),
    [OPTION_WINDOW] = INTEGER("window", 1, 1024, RUN, "blocks that may be open at once (4)"),
    [OPTION_BLOCK_ADD] = REAL("block-add", "X", 0, 1, RUN,
                              "share of a block that is decided when the next one opens (0.1)"),
    [OPTION_BLOCK_READY] =
        REAL("block-ready", "X", 0, 1, RUN,
             "share of the blocks before it that is decided when a block commits its best token "
             "whatever its probability (0.95)"),
    [OPTION_METRIC] = CHOICE("metric", "confidence|entropy", RUN,
                             "what is sure: a high probability or a low entropy (the policy's)"),
    [OPTION_TEMPERATURE] =
        REAL("temperature", "T", 0, REAL_MAXIMUM, RUN,
             "temperature of the draws; 0 takes the most probable token (the model's)"),
    [OPTION_TOP_K] = {.name = "top-k",
                      .argument = "K",
                      .type = OPTION_TYPE_INTEGER,
                      .commands = RUN,
                      .minimum = 0,
                      .maximum = INT_MAXIMUM,
                      .help = "draw among the K most probable tokens (0: off)"},
    [OPTION_TOP_P] = REAL_ABOVE("top-p", "P", 0, 1, RUN,
                                "draw among the tokens that hold P of the probability (1: off)"),
    [OPTION_MIN_P] =
        REAL("min-p", "P", 0, 1, RUN,
             "draw among tokens with at least P times the highest probability (0: off)"),
    [OPTION_SEED] = INTEGER("seed", 0, 9223372036854775807.0, RUN | SCORE, "seed of the draws (0)"),
    [OPTION_CFG] = REAL("cfg", "X", 0, REAL_MAXIMUM, RUN | SCORE,
                        "scale of classifier-free guidance (0: off)"),
    [OPTION_LOGITS_EOS_INF] =
        FLAG("logits-eos-inf", RUN, "LLaDA: never propose the end of the text"),
    [OPTION_CONFIDENCE_EOS_EOT_INF] =
        FLAG("confidence-eos-eot-inf", RUN,
             "LLaDA: commit the end of a turn last, as if its probability were 0"),
    [OPTION_CACHE] =
        CHOICE("cache", "exact|none|prefix|dual", RUN,
               "keep keys and values: exact (the default); none recomputes all at each step; "
               "prefix and dual "
               "are Fast-dLLM's approximations for models that attend in both directions"),
    [OPTION_FOLD] =
        CHOICE("fold", "auto|off", RUN,
               "auto (the default): the forward that finds nothing to correct in a block "
               "is the next one's first; off: as many forwards as the families' code"),
    [OPTION_PREFILL_CHUNK] =
        INTEGER("prefill-chunk", 1, INT_MAXIMUM, RUN, "prompt tokens in one forward"),
    [OPTION_EXPERT_CAP] = INTEGER(
        "expert-cap", 1, INT_MAXIMUM, RUN | LOGITS | SCORE | BENCH | SERVE,
        "mixtures of experts: the positions of a block reach at most N experts of a layer, an "
        "approximation that reads fewer weights (no bound)"),
    [OPTION_PACK_CACHE] =
        TEXT("pack-cache", "FILE", RUN | LOGITS | SCORE | BENCH | SERVE,
             "quantized weights as this processor wants them: read from FILE where it was "
             "written for this model, else written to it; the next start is faster"),
    [OPTION_PRECISION] = CHOICE("precision", "reference|fast", RUN | LOGITS | SCORE | BENCH | SERVE,
                                "fast (the default): activations of 8 bits, or of bfloat16 "
                                "with AMX, where weights are quantized; reference: float32"),
    [OPTION_KV_TYPE] =
        CHOICE("kv-type", "auto|f32|bf16|int8", RUN | LOGITS | INSPECT | SCORE | BENCH | SERVE,
               "how the cache stores keys and values (auto: f32, or bf16 with "
               "--precision fast)"),
    [OPTION_DEVICE] =
        TEXT("device", "NAME", RUN | LOGITS | SCORE | BENCH | SERVE,
             "where the model computes: cpu, or cuda:N for GPU number N (cpu, or what "
             "UNMASK_DEVICE names)"),
    [OPTION_THREADS] = INTEGER("threads", 1, 1024, RUN | LOGITS | SCORE | BENCH | QUANTIZE | SERVE,
                               "threads (one for each core)"),
    [OPTION_MASK_TOKEN] =
        INTEGER("mask-token", 0, INT_MAXIMUM, RUN | LOGITS | INSPECT | SCORE | QUANTIZE | SERVE,
                "id of the mask token (the model's)"),
    [OPTION_WATCH] = FLAG("watch", RUN, "show in the terminal how masks become text"),
    [OPTION_DELAY] =
        INTEGER("delay", 0, 60000, RUN, "with --watch: milliseconds after each step (60)"),
    [OPTION_COLUMNS] = INTEGER("columns", 1, 10000, RUN,
                               "with --watch: a new line after every N tokens (a sudoku: 9)"),
    [OPTION_JSON] = FLAG("json", RUN | INSPECT | SCORE | BENCH | QUANTIZE, "print one JSON object"),
    [OPTION_PRINT_IDS] = FLAG("print-ids", RUN, "print token ids instead of text"),
    [OPTION_TRACE] =
        TEXT("trace", "FILE", RUN, "write one JSON object a line for each denoising forward"),
    [OPTION_SVG] = TEXT("svg", "FILE", RUN,
                        "write how the answer came into being as an animated picture, which "
                        "--columns breaks as it does --watch"),
    [OPTION_OUTPUT] = {.name = "output",
                       .short_name = 'o',
                       .argument = "FILE",
                       .type = OPTION_TYPE_TEXT,
                       .commands = LOGITS | QUANTIZE,
                       .help = "the file to write. logits: safetensors, tensor \"logits\" [n, "
                               "vocabulary] float32; quantize: GGUF"},
    [OPTION_POLICIES] =
        FLAG("policies", INSPECT,
             "list the built-in policies instead: what each one reads, where its formula is from"),
    [OPTION_CONTEXT] = INTEGER("context", 1, INT_MAXIMUM, INSPECT | BENCH,
                               "inspect: show the memory at a context of N tokens as well; bench: "
                               "positions in the cache before a step (512)"),
    [OPTION_ANSWER] = TEXT("answer", "TEXT", SCORE, "the answer whose likelihood is wanted"),
    [OPTION_ANSWER_IDS] = TEXT("answer-ids", "LIST", SCORE, "the answer as token ids"),
    [OPTION_CHOICES] =
        TEXT("choices", "JSON", SCORE, "a JSON array of answers: scores each, says which is best"),
    [OPTION_ITEMS] =
        TEXT("jsonl", "FILE", SCORE,
             "one JSON object a line: \"prompt\" with \"answer\", or with \"choices\" and perhaps "
             "\"label\"; texts or arrays of token ids"),
    [OPTION_TEMPLATE] = FLAG(
        "template", SCORE, "put the prompt into the model's chat template (the raw text is given)"),
    [OPTION_SAMPLES] =
        INTEGER("samples", 1, 1000000, SCORE, "draws of masks for each answer (128)"),
    [OPTION_MASKS] = FLAG("masks", SCORE, "with --json: every sample with its masked positions"),
    [OPTION_SYNTHETIC] = TEXT("synthetic", "SHAPE", BENCH | SERVE,
                              "a published shape with random weights instead of a model: "
                              "llada2-mini, llada-8b, llada-moe, sdar-8b, dream-7b, llada-169m"),
    [OPTION_TYPE] = {.name = "type",
                     .short_name = 't',
                     .argument = "f32|f16|bf16|q8_0|q4_0|q4_k|q5_k|q6_k",
                     .type = OPTION_TYPE_CHOICE,
                     .commands = BENCH | QUANTIZE | SERVE,
                     .choices = "f32|f16|bf16|q8_0|q4_0|q4_k|q5_k|q6_k",
                     .help = "with --synthetic: the type of the weights (q4_0); quantize: the "
                             "type to write, q4_k and q5_k with some tensors in q6_k"},
    [OPTION_IMATRIX] = TEXT("imatrix", "FILE", QUANTIZE,
                            "a text that is run through the model to see which inputs of each "
                            "weight count; errors are weighed by them"),
    [OPTION_PURE] = FLAG("pure", QUANTIZE, "one type for all matrices"),
    [OPTION_FORCE] = FLAG("force", QUANTIZE, "replace the file if it exists"),
    [OPTION_LAYERS] = INTEGER("layers", 1, 1000, BENCH | SERVE,
                              "with --synthetic: N layers only; bench scales its figures to all"),
    [OPTION_ROWS] = TEXT("rows", "LIST", BENCH, "positions of a step (1,8,32,64)"),
    [OPTION_PREFILL] =
        INTEGER("prefill", 0, 1000000, BENCH, "positions of the prefill forward (512); 0: none"),
    [OPTION_REPEAT] = INTEGER("repeat", 1, 1000, BENCH, "forwards a figure is the median of (7)"),
    [OPTION_TOKENS_PER_FORWARD] =
        TEXT("tokens-per-forward", "LIST", BENCH, "for tokens a second (1,2,4,8)"),
    [OPTION_CSV] = FLAG("csv", BENCH, "print comma-separated values"),
    [OPTION_PLOT] = TEXT("plot", "FILE", BENCH, "draw a roofline as SVG"),
    [OPTION_HOST] = TEXT("host", "HOST", SERVE,
                         "the name or address to listen on (127.0.0.1: this machine alone)"),
    [OPTION_PORT] = INTEGER("port", 0, 65535, SERVE, "the port; 0: any free one (8000)"),
    [OPTION_SERVED_MODEL_NAME] = TEXT("served-model-name", "NAME", SERVE,
                                      "what clients call the model (its directory or file name)"),
    [OPTION_API_KEY] =
        TEXT("api-key", "KEY", SERVE,
             "ask clients for a key; better given as UNMASK_API_KEY or in --config, where other "
             "users of the machine do not see it"),
    [OPTION_TLS_CERT] = TEXT("tls-cert", "FILE", SERVE, "a certificate (PEM): serve over TLS"),
    [OPTION_TLS_KEY] = TEXT("tls-key", "FILE", SERVE, "its key (PEM)"),
    [OPTION_CACHE_TOKENS] =
        INTEGER("cache-tokens", 1, INT_MAXIMUM, SERVE,
                "positions that the cache holds for all requests together (four contexts, at most "
                "65536, at least one context)"),
    [OPTION_MAX_STEP_MS] =
        REAL("max-step-ms", "X", 0, 1e6, SERVE,
             "prompts that come in lengthen a step of running requests to about X at most (no "
             "bound)"),
    [OPTION_PREFIX_CACHE] =
        CHOICE("prefix-cache", "off|on", SERVE,
               "on (the default): what prompts and answers have in common is computed once "
               "(block-causal models)"),
    [OPTION_MAX_QUEUE] = INTEGER("max-queue", 1, 1000000, SERVE,
                                 "requests that run or wait; more are told to come back (256)"),
    [OPTION_MAX_CONNECTIONS] =
        INTEGER("max-connections", 1, 1000000, SERVE, "open connections at most (1024)"),
    [OPTION_MAX_BODY_BYTES] =
        INTEGER("max-body-bytes", 1024, INT_MAXIMUM, SERVE, "a request's length at most (4194304)"),
    [OPTION_TIMEOUT] =
        INTEGER("timeout", 1, 86400, SERVE,
                "seconds after which a client is cut off that sends or takes nothing "
                "(60)"),
    [OPTION_LOG] = TEXT("log", "FILE", SERVE,
                        "where each request is noted, one line of JSON each; SIGHUP opens it anew "
                        "(standard error)"),
    [OPTION_CONFIG] = TEXT("config", "FILE", SERVE,
                           "a file with lines such as \"port = 8000\"; the command line and then "
                           "variables such as UNMASK_PORT come first"),
    [OPTION_VERBOSE] = FLAG("verbose", RUN | LOGITS | SCORE | BENCH | QUANTIZE | SERVE,
                            "progress and summary also where standard error is no terminal"),
    [OPTION_HELP] = {.name = "help",
                     .short_name = 'h',
                     .type = OPTION_TYPE_FLAG,
                     .commands = ALL,
                     .help = "print this text"},
};
