/* decode BUNDLE FILE.uigc > OUT.ppm: decode a .uigc file in C. It ends with the exit codes of `uigc` (docs/CLI.md). */
#include <stdio.h>
#include <stdlib.h>
#include <uigc.h>

enum { LARGEST = 1 << 22 }; /* bytes; no .uigc file has half as many */

int main(int count, char** arguments) {
    static uint8_t data[LARGEST];
    uigc_header header;
    uigc_codec* codec = NULL;
    uint8_t* pixels = NULL;
    size_t size = 0, stride = 0;
    int result = UIGC_USAGE;
    FILE* file = count == 3 ? fopen(arguments[2], "rb") : NULL;
    if (!file) return fprintf(stderr, "usage: %s BUNDLE FILE.uigc > OUT.ppm\n", arguments[0]), result;
    size = fread(data, 1, sizeof data, file);
    fclose(file);

    result = uigc_read_header(data, size, &header); /* what is no .uigc file ends here, before anything is loaded */
    if (!result) result = uigc_open(arguments[1], NULL, &codec);
    if (!result) {
        stride = 3 * (size_t)header.width;
        pixels = malloc(stride * (size_t)header.height);
        result = pixels ? uigc_decompress(codec, data, size, pixels, stride, header.height) : UIGC_INTERNAL;
    }
    if (result) {
        fprintf(stderr, "%s\n", uigc_last_error());
    } else {
        printf("P6\n%d %d\n255\n", header.width, header.height);
        if (fwrite(pixels, stride, (size_t)header.height, stdout) != (size_t)header.height) result = 4;
    }
    free(pixels);
    uigc_close(codec);
    return result;
}
