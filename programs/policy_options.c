/* SPDX-License-Identifier: Apache-2.0
 *
 * One table joins options and UM_READS_*; the names of parameters are those of the options with
 * '_' for '-', but for two.
 */
#include "programs/policy_options.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "programs/report.h"

static const struct {
    option_id option;
    uint32_t reads;
} readable[] = {
    {OPTION_THRESHOLD, UM_READS_THRESHOLD},
    {OPTION_EDIT_THRESHOLD, UM_READS_EDIT},
    {OPTION_POST_STEPS, UM_READS_EDIT},
    {OPTION_STEPS, UM_READS_STEPS},
    {OPTION_REMASK, UM_READS_REMASK},
    {OPTION_LOW_THRESHOLD, UM_READS_LOW_THRESHOLD},
    {OPTION_FACTOR, UM_READS_FACTOR},
    {OPTION_ENTROPY_BOUND, UM_READS_ENTROPY_BOUND},
    {OPTION_EPS, UM_READS_EPS},
    {OPTION_ALG_TEMP, UM_READS_ALG_TEMP},
    {OPTION_CREDIT_ALPHA, UM_READS_CREDIT},
    {OPTION_CREDIT_BETA, UM_READS_CREDIT},
    {OPTION_CREDIT_GAMMA, UM_READS_CREDIT},
    {OPTION_WINDOW, UM_READS_WINDOW},
    {OPTION_BLOCK_ADD, UM_READS_WINDOW},
    {OPTION_BLOCK_READY, UM_READS_WINDOW},
    {OPTION_METRIC, UM_READS_METRIC},
    {OPTION_POLICY_ARGS, UM_READS_ARGUMENTS},
};
enum { N_READABLE = sizeof readable / sizeof *readable };

/* Parameters whose option has a shorter name. */
static const struct {
    const char *parameter;
    option_id option;
} renamed[] = {{"block_len", OPTION_BLOCK}, {"cfg_scale", OPTION_CFG}};

/* The option that sets a parameter, or NULL. A prompt comes from one of several options. */
static const option_spec *find_option(const char *parameter) {
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
        if (strcmp(parameter, renamed[i].parameter) == 0) return &option_table[renamed[i].option];
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const option_spec *spec = &option_table[i];
        size_t n = 0;
        while (parameter[n] &&
               (spec->name[n] == parameter[n] || (spec->name[n] == '-' && parameter[n] == '_')))
            n++;
        if (parameter[n] || spec->name[n] || i == OPTION_PROMPT) continue;
        return spec->commands & (1u << COMMAND_RUN) ? spec : NULL;
    }
    return NULL;
}

void policy_options_rename(um_error *err) {
    const option_spec *spec = find_option(err->where);
    um_error found = *err;
    size_t n = strlen(found.where);
    char name[64];
    if (!spec) return;
    snprintf(name, sizeof name, "--%s", spec->name);
    bool is_first = strncmp(found.message, found.where, n) == 0 && found.message[n] == ':';
    if (is_first) um_error_set(err, found.status, "%s%s", name, found.message + n);
    err->where[0] = '\0'; /* what is set stays */
    um_error_at(err, name, found.byte_pos);
}

/* A file that is not there is better found before the model is loaded. */
static um_status check_file(const char *path, um_error *err) {
    if (access(path, R_OK) == 0) return UM_OK;
    return report_system(err, path, "cannot read the policy", errno);
}

um_status policy_options_check(const um_request_options *request, um_error *err) {
    const char *names[64];
    size_t n = 0;
    if (request->policy && strchr(request->policy, '/')) return check_file(request->policy, err);
    while (n < sizeof names / sizeof *names && um_policy_at((int32_t)n)) {
        names[n] = um_policy_at((int32_t)n)->name;
        n++;
    }
    bool is_known = !request->policy || um_policy_find(request->policy);
    const char *nearest = is_known ? NULL : options_nearest(request->policy, names, n);
    if (nearest)
        FAIL(UM_INVALID, err,
             "--policy: expected the name of a policy, found \"%s\"; did you mean "
             "%s?",
             request->policy, nearest);
    um_status status = um_request_options_check(request, err);
    if (status != UM_OK) policy_options_rename(err);
    return status;
}

/* Appends a word to a list. */
static void append(char text[POLICY_OPTIONS_TEXT_BYTES], const char *separator, const char *dashes,
                   const char *word) {
    size_t n = strlen(text);
    snprintf(text + n, POLICY_OPTIONS_TEXT_BYTES - n, "%s%s%s", n ? separator : "", dashes, word);
}

int policy_options_readers(option_id id, char text[POLICY_OPTIONS_TEXT_BYTES]) {
    uint32_t reads = 0;
    int n = 0;
    text[0] = '\0';
    for (int i = 0; i < N_READABLE; i++)
        if (readable[i].option == id) reads = readable[i].reads;
    if (!reads && id != OPTION_POLICY) return 0;
    for (int32_t i = 0; um_policy_at(i); i++) {
        if ((um_policy_at(i)->reads & reads) != reads) continue;
        append(text, ", ", "", um_policy_at(i)->name);
        n++;
    }
    return n;
}

void policy_options_print(FILE *file) {
    for (int32_t i = 0; um_policy_at(i); i++) {
        const um_policy *policy = um_policy_at(i);
        char text[POLICY_OPTIONS_TEXT_BYTES] = "";
        for (int j = 0; j < N_READABLE; j++)
            if (policy->reads & readable[j].reads)
                append(text, " ", "--", option_table[readable[j].option].name);
        fprintf(file, "%s%s\n", i ? "\n" : "", policy->name);
        if (*text) fprintf(file, "  reads   %s\n", text);
        fprintf(file, "  source  %s\n", policy->source);
    }
}

um_status policy_options_print_json(um_error *err) {
    json_t *list = json_array();
    for (int32_t i = 0; um_policy_at(i); i++) {
        const um_policy *policy = um_policy_at(i);
        json_t *reads = json_array();
        for (int j = 0; j < N_READABLE; j++)
            if (policy->reads & readable[j].reads)
                json_array_append_new(reads, json_string(option_table[readable[j].option].name));
        json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "name", policy->name, "reads",
                                              reads, "source", policy->source));
    }
    char *text = list ? json_dumps(list, 0) : NULL;
    if (text) puts(text);
    bool is_printed = text != NULL;
    free(text);
    json_decref(list);
    if (!is_printed) FAIL(UM_NO_MEMORY, err, "no memory for the JSON of the policies");
    return UM_OK;
}
