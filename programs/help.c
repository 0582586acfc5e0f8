/* SPDX-License-Identifier: Apache-2.0
 *
 * Help: a usage line, a sentence, the options of the table wrapped at 80 columns.
 */
#include "programs/help.h"

#include <string.h>

#include "programs/policy_options.h"

/* Options are grouped where a command has many; their policies are named where these are few. */
enum { HELP_COLUMNS = 80, HELP_INDENT = 26, GROUPED_MIN = 25, NAMED_READERS_MAX = 4 };

/* A heading stands before the first option of its group that a command has. */
static const struct {
    option_id first;
    const char *text;
} headings[] = {
    {OPTION_MODEL, "What to write"},
    {OPTION_BLOCK, "How to decode"},
    {OPTION_REMASK, "How to decode: what few policies read"},
    {OPTION_TEMPERATURE, "What to draw from"},
    {OPTION_CACHE, "How to run"},
    {OPTION_WATCH, "What to print"},
};

typedef struct command_spec {
    const char *name;
    const char *usage;
    const char *summary; /* one line of the program's help */
    const char *text;
} command_spec;

static const command_spec command_table[COMMAND_COUNT] = {
    [COMMAND_RUN] = {"run", "unmask run -m DIR [-p TEXT | --ids LIST] [OPTION]...",
                     "write text with a model, or talk with it",
                     "Without -p and --ids: a conversation. The answer goes to standard output, "
                     "progress to standard error. Values in parentheses are the defaults."},
    [COMMAND_LOGITS] = {"logits", "unmask logits -m DIR --ids LIST -o FILE [OPTION]...",
                        "write a model's raw scores to a file",
                        "One forward over the whole sequence under the model's own mask."},
    [COMMAND_TOKENIZE] = {"tokenize",
                          "unmask tokenize -m DIR (-p TEXT | --file FILE | --jsonl FILE | --chat "
                          "FILE | --decode LIST)",
                          "turn text into token ids, and back",
                          "Prints a JSON array of token ids. Special tokens in the text are "
                          "recognised; none is added. The directory may hold a tokenizer alone."},
    [COMMAND_INSPECT] = {"inspect", "unmask inspect (-m DIR | --policies) [OPTION]...",
                         "show what a model's directory holds",
                         "Architecture, shapes, bytes by type, memory, defaults of decoding."},
    [COMMAND_SCORE] = {"score",
                       "unmask score -m DIR (-p TEXT | --ids LIST) (--answer TEXT | --answer-ids "
                       "LIST | --choices JSON) [OPTION]... | unmask score -m DIR --jsonl FILE "
                       "[OPTION]...",
                       "tell how likely an answer is",
                       "A lower bound of the log-likelihood in nats, estimated with random masks, "
                       "and its standard error. Prompt and answer are the raw text unless "
                       "--template is given."},
    [COMMAND_BENCH] = {"bench", "unmask bench (-m DIR | --synthetic SHAPE) [OPTION]...",
                       "measure speed beside the machine's limits",
                       "First what the machine can do at most, measured by small loops; then "
                       "prefill and steps of the model, each with the time that the limits would "
                       "allow and which of them binds."},
    [COMMAND_QUANTIZE] = {"quantize", "unmask quantize -m DIR -t TYPE -o FILE [OPTION]...",
                          "write a model as a GGUF file with fewer bits",
                          "The file holds configuration, tokenizer and weights, and runs with -m "
                          "FILE. With --verbose, and on a terminal, the error of each tensor is "
                          "printed: the root of the mean square of the change, relative to the "
                          "weights."},
    [COMMAND_SERVE] = {"serve", "unmask serve (-m DIR | --synthetic SHAPE) [OPTION]...",
                       "serve a model over HTTP, with a page to talk to it",
                       "OpenAI's and Anthropic's routes, streams, metrics; docs/server.md names "
                       "them. SIGTERM takes no more requests, ends those that run, and leaves; a "
                       "second one leaves at once."},
};

static void print_spaces(FILE *file, int n) {
    fprintf(file, "%*s", n, "");
}

/* Prints words from `column` on, with further lines indented. */
static void print_wrapped(FILE *file, const char *text, int column, int indent) {
    bool is_line_start = true;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (!is_line_start && column + 1 + n > HELP_COLUMNS) {
            fputc('\n', file);
            print_spaces(file, indent);
            column = indent;
            is_line_start = true;
        }
        if (!is_line_start) {
            fputc(' ', file);
            column++;
        }
        fwrite(text, 1, (size_t)n, file);
        column += n;
        is_line_start = false;
        text += n + (text[n] == ' ');
    }
    fputc('\n', file);
}

/* The help of an option, with the names of policies that it is about. */
static void print_help(FILE *file, option_id id) {
    char names[POLICY_OPTIONS_TEXT_BYTES], text[2 * POLICY_OPTIONS_TEXT_BYTES];
    const char *help = option_table[id].help;
    int n = policy_options_readers(id, names);
    if (id == OPTION_POLICY)
        snprintf(text, sizeof text, "%s %s", help, names);
    else if (n > 0 && n <= NAMED_READERS_MAX)
        snprintf(text, sizeof text, "%s: %s", names, help);
    else
        snprintf(text, sizeof text, "%s", help);
    print_wrapped(file, text, HELP_INDENT, HELP_INDENT);
}

static void print_option(FILE *file, option_id id) {
    const option_spec *spec = &option_table[id];
    char head[128];
    int n = snprintf(head, sizeof head, "  %c%c%s--%s%s%s", spec->short_name ? '-' : ' ',
                     spec->short_name ? spec->short_name : ' ', spec->short_name ? ", " : "  ",
                     spec->name, spec->argument ? " " : "", spec->argument ? spec->argument : "");
    fputs(head, file);
    if (n > HELP_INDENT - 2) {
        fputc('\n', file);
        n = 0;
    }
    print_spaces(file, HELP_INDENT - n);
    print_help(file, id);
}

static void print_options(FILE *file, command_id command) {
    int n_options = 0;
    size_t i_heading = 0, n_headings = sizeof headings / sizeof *headings;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        n_options += (option_table[i].commands & (1u << command)) != 0;
    if (n_options < GROUPED_MIN) n_headings = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (!(option_table[i].commands & (1u << command))) continue;
        const char *heading = NULL;
        while (i_heading < n_headings && i >= headings[i_heading].first)
            heading = headings[i_heading++].text;
        if (heading) fprintf(file, "%s%s:\n", i_heading > 1 ? "\n" : "", heading);
        print_option(file, (option_id)i);
    }
}

void help_print_command(FILE *file, command_id command) {
    const command_spec *spec = &command_table[command];
    fputs("usage: ", file);
    print_wrapped(file, spec->usage, 7, 11);
    fputc('\n', file);
    print_wrapped(file, spec->text, 0, 0);
    fputc('\n', file);
    print_options(file, command);
    if (command == COMMAND_RUN)
        fputs(
            "\nIn a conversation: /help, /clear, /system TEXT, /quit. Ctrl-C ends the answer,\n"
            "Ctrl-D the conversation.\n",
            file);
}

void help_print_program(FILE *file) {
    fputs("usage: unmask COMMAND [OPTION]...\n\nRuns diffusion language models.\n\n", file);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(file, "  %-10s%s\n", command_table[i].name, command_table[i].summary);
    fputs(
        "  help      print this text, or that of a command\n\n"
        "  --version print the version\n  --help    print this text\n\n"
        "unmask COMMAND --help tells about a command; man unmask tells all.\n"
        "Exit codes: 0 done, 1 the world's fault, 2 wrong usage.\n",
        file);
}

const char *help_command_name(command_id command) {
    return command_table[command].name;
}

command_id help_find_command(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(command_table[i].name, name) == 0) return (command_id)i;
    return COMMAND_COUNT;
}
