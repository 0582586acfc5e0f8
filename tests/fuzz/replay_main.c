/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target over files instead of a fuzzer's inputs: each argument is a file or a folder.
 * It makes the corpus an ordinary test, also where clang's libFuzzer is missing.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return -1;
    }
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    rewind(file);
    uint8_t *data = malloc(n > 0 ? (size_t)n : 1);
    if (!data || fread(data, 1, (size_t)n, file) != (size_t)n) {
        fprintf(stderr, "cannot read %s\n", path);
        fclose(file);
        free(data);
        return -1;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, (size_t)n);
    free(data);
    return 1;
}

static int replay(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return replay_file(path);
    int n_done = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        int n = replay_file(file);
        if (n < 0) {
            closedir(directory);
            return -1;
        }
        n_done += n;
    }
    closedir(directory);
    return n_done;
}

int main(int argc, char **argv) {
    int n_done = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay(argv[i]);
        if (n < 0) return 1;
        n_done += n;
    }
    printf("%d inputs replayed\n", n_done);
    return n_done ? 0 : 1; /* an empty corpus is no test */
}
