/* SPDX-License-Identifier: Apache-2.0
 *
 * The program `unmask`: finds the command, parses its options, and turns its result into an exit
 * code. Everything else is in the command's own file.
 */
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "programs/commands.h"
#include "programs/help.h"
#include "programs/interrupt.h"
#include "programs/report.h"

static int (*const command_functions[COMMAND_COUNT])(const options *) = {
    [COMMAND_RUN] = run_command,           [COMMAND_LOGITS] = logits_command,
    [COMMAND_TOKENIZE] = tokenize_command, [COMMAND_INSPECT] = inspect_command,
    [COMMAND_SCORE] = score_command,       [COMMAND_BENCH] = bench_command,
    [COMMAND_QUANTIZE] = quantize_command, [COMMAND_SERVE] = serve_command,
};

/* The exit code of a command that printed: output that did not arrive is a failure. */
static int finish_output(void) {
    um_error err = {.byte_pos = -1};
    return report_flush_output(&err) == UM_OK ? REPORT_EXIT_DONE : report_error(NULL, &err);
}

static int refuse_command(const char *name) {
    const char *names[COMMAND_COUNT + 1] = {"help"};
    for (int i = 0; i < COMMAND_COUNT; i++) names[i + 1] = help_command_name((command_id)i);
    const char *nearest = options_nearest(name, names, COMMAND_COUNT + 1);
    um_error err;
    if (nearest)
        um_error_set(&err, UM_INVALID, "unknown command \"%s\"; did you mean %s?", name, nearest);
    else
        um_error_set(&err, UM_INVALID, "unknown command \"%s\"", name);
    return report_error(NULL, &err);
}

static int run_help(int n_args, char **args) {
    if (n_args == 0) {
        help_print_program(stdout);
        return finish_output();
    }
    command_id command = help_find_command(args[0]);
    if (command == COMMAND_COUNT && strcmp(args[0], "help") != 0) return refuse_command(args[0]);
    if (n_args > 1) {
        um_error err;
        um_error_set(&err, UM_INVALID, "help takes one command, found \"%s\" after it", args[1]);
        return report_error(NULL, &err);
    }
    if (command == COMMAND_COUNT)
        help_print_program(stdout);
    else
        help_print_command(stdout, command);
    return finish_output();
}

static int run_named(command_id command, int n_args, char **args) {
    options o;
    um_error err = {.byte_pos = -1};
    if (options_parse(command, n_args, args, &o, &err) != UM_OK)
        return report_error(help_command_name(command), &err);
    if (options_has(&o, OPTION_HELP)) {
        help_print_command(stdout, command);
        return finish_output();
    }
    return command_functions[command](&o);
}

int main(int argc, char **argv) {
    /* Characters and their widths follow the locale; numbers stay as C writes them. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    interrupt_catch();
    if (argc < 2) {
        help_print_program(stderr);
        return REPORT_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 && argc == 2) {
        printf("unmask %s\n", um_version());
        return finish_output();
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return run_help(argc - 2, argv + 2);
    command_id command = help_find_command(name);
    if (command == COMMAND_COUNT) return refuse_command(name);
    return run_named(command, argc - 2, argv + 2);
}
