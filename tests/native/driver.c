/* Runs the kernels of `codegen/native.c` on one case after the other: `driver CASE ...`, each of which is a file.

   A file is a header of numbers of 64 bits: the size of `call`, whether gradients are wanted, and the number of its
   pointers; for each of them its offset in `call`, where in the file its array begins, and the size of that in bytes;
   then `call`, whose pointers are 0, and the arrays. What the kernels write into arrays is written back to the file,
   with what they return in place of the size of `call`. Each array has its own memory, so that sanitizers see its ends. */

#define LEAST_WORK 1 /* so that small cases have threads */
#include "native.c"
#include <stdio.h>

enum { SIZE, BACKWARD, POINTERS, HEADER };
enum { FIELD, BEGIN, BYTES, ENTRY };

static int run_case(FILE *file) {
    int64_t header[HEADER];
    if (fread(header, sizeof header, 1, file) != 1 || header[SIZE] != sizeof(call))
        return 1;
    const int64_t count = header[POINTERS];
    int64_t(*entries)[ENTRY] = malloc(count * sizeof *entries);
    void **arrays = malloc(count * sizeof *arrays);
    call c;
    int wrong = !entries || !arrays || fread(entries, sizeof *entries, count, file) != (size_t)count;
    wrong = wrong || fread(&c, sizeof c, 1, file) != 1;
    for (int64_t n = 0; n < count && !wrong; n++) {
        arrays[n] = malloc(entries[n][BYTES]);
        wrong = !arrays[n] || fseek(file, entries[n][BEGIN], SEEK_SET);
        wrong = wrong || fread(arrays[n], 1, entries[n][BYTES], file) != (size_t)entries[n][BYTES];
        memcpy((char *)&c + entries[n][FIELD], &arrays[n], sizeof arrays[n]);
    }
    if (wrong)
        return 1;
    int64_t fault = maskdsl_forward(&c);
    if (fault == NONE && header[BACKWARD])
        fault = maskdsl_backward(&c);
    rewind(file);
    fwrite(&fault, sizeof fault, 1, file);
    for (int64_t n = 0; n < count; n++) {
        fseek(file, entries[n][BEGIN], SEEK_SET);
        fwrite(arrays[n], 1, entries[n][BYTES], file);
        free(arrays[n]);
    }
    free(arrays), free(entries);
    return ferror(file) != 0;
}

int main(int count, char **words) {
    for (int n = 1; n < count; n++) {
        FILE *file = fopen(words[n], "r+b");
        if (!file || run_case(file) || fclose(file)) {
            fprintf(stderr, "%s is no case\n", words[n]);
            return 1;
        }
    }
    return 0;
}
