/* Decoding .uigc files from C, and from every language that calls C.
 *
 *     uigc_codec* codec;
 *     uigc_header header;
 *     if (uigc_read_header(data, size, &header)) puts(uigc_last_error());         (without a bundle, in microseconds)
 *     if (uigc_open("bundle", NULL, &codec)) puts(uigc_last_error());             (once)
 *     uint8_t* pixels = malloc(3 * (size_t)header.width * (size_t)header.height);
 *     if (uigc_decompress(codec, data, size, pixels, 3 * (size_t)header.width, header.height)) ...
 *     uigc_close(codec);
 *
 * Results. Functions return 0, or an exit code of the command `uigc` (docs/CLI.md), and uigc_last_error() has a sentence
 * with the fact, what was expected and what to do. A call that fails writes nothing to the buffers of the caller. No
 * exception leaves the library, and it neither prints nor ends the process.
 *
 * Ownership. The caller owns all that it passes in; nothing of it is kept or looked at once a call has returned. The
 * only thing that the library hands out is a codec, which uigc_close() frees.
 *
 * Threads. Any number of threads may call functions with the same codec; each decodes a file of its own. uigc_close()
 * comes after the last of these calls has returned. The last error is that of the calling thread. The first
 * uigc_open() of a process sets the environment variable ORT_DISABLE_TELEMETRY to 1, unless it is set: do that earlier
 * where other threads read the environment at the same time. A codec does not survive fork(); open one in the child.
 *
 * Hostile input. Files may come from strangers; bundles are programs, and must be trusted (docs/SECURITY.md). */

#ifndef UIGC_H
#define UIGC_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(UIGC_BUILDING)
#define UIGC_API __declspec(dllexport)
#elif defined(_WIN32)
#define UIGC_API __declspec(dllimport)
#else
#define UIGC_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
#define UIGC_NOEXCEPT noexcept
extern "C" {
#else
#define UIGC_NOEXCEPT
#endif

#define UIGC_VERSION "0.1.0"

enum uigc_result {
    UIGC_OK = 0,
    UIGC_INTERNAL = 1,             /* a bug, or memory ran out */
    UIGC_USAGE = 2,                /* arguments that are missing or do not fit each other */
    UIGC_UNRECOGNIZED_FILE = 5,    /* not a .uigc file */
    UIGC_UNSUPPORTED_VERSION = 6,  /* a file of a newer version of the format */
    UIGC_PRIOR_MISMATCH = 7,       /* a file written with another prior: give the bundle that wrote it */
    UIGC_CORRUPT_FILE = 8,         /* a truncated or damaged file */
    UIGC_TOO_LARGE = 9,            /* an image beyond the limits on its size */
    UIGC_BUNDLE = 10,              /* a missing or inconsistent bundle */
    UIGC_PROVIDER = 11,            /* ONNX Runtime does not start, or a graph fails or returns nonsense */
    UIGC_INEXACT = 13              /* a prior that was not computed exactly */
};

/* What the header of a file says. */
typedef struct uigc_header {
    int32_t width, height; /* of the image, in pixels: 1 to 16384 */
    int32_t columns, rows; /* of the grid, in tokens of 16x16 pixels */
    int32_t mode;          /* 0 entire, 1 edge, 2 edge_more */
    int32_t seed;          /* 0 to 255 if lost tokens are drawn, else -1 */
} uigc_header;

typedef struct uigc_codec uigc_codec;

/* Affects speed, and pixels by rounding, but never a token. Begin with UIGC_OPTIONS, which is what NULL stands for. */
typedef struct uigc_options {
    size_t size;                 /* sizeof(uigc_options) */
    int32_t threads;             /* of each graph; 0: a thread for each core */
    int64_t max_pixels;          /* the largest image; 0: what the bundle and the format allow */
    const char* precision;       /* of the prior: "fp32", "fp16" or "int8"; NULL: the fastest that the bundle has */
    const char* pixel_precision; /* of the pixel decoder, as above */
} uigc_options;
#define UIGC_OPTIONS {sizeof(uigc_options), 0, 0, NULL, NULL}

/* Reads the header of a file of `size` bytes, and checks all of the file that can be checked without a bundle. */
UIGC_API int uigc_read_header(const uint8_t* data, size_t size, uigc_header* header) UIGC_NOEXCEPT;

/* Opens the bundle in a folder (UTF-8), and compares all its files with their hashes. Graphs are loaded when the first
 * file has passed the checks of its header, so the first call takes longer than the others. `codec` is NULL on failure. */
UIGC_API int uigc_open(const char* bundle, const uigc_options* options, uigc_codec** codec) UIGC_NOEXCEPT;

/* Decodes a file to its image: `rows` rows of red, green and blue bytes (sRGB), `stride` bytes from one row to the next.
 * `rows` must be the height that the file states, and `stride` at least three times its width. */
UIGC_API int uigc_decompress(uigc_codec* codec, const uint8_t* data, size_t size, uint8_t* pixels, size_t stride,
                             int32_t rows) UIGC_NOEXCEPT;

/* Decodes a file to its grid of tokens in raster order, for a pixel decoder of your own or a comparison. `count` must
 * be the number of tokens that the header states, rows * columns. */
UIGC_API int uigc_decode_tokens(uigc_codec* codec, const uint8_t* data, size_t size, int32_t* tokens,
                                size_t count) UIGC_NOEXCEPT;

/* Frees a codec; NULL is allowed. */
UIGC_API void uigc_close(uigc_codec* codec) UIGC_NOEXCEPT;

/* Returns the sentence of the last failure on this thread, "" if its last call succeeded; valid until its next call. */
UIGC_API const char* uigc_last_error(void) UIGC_NOEXCEPT;

/* Returns the version of the library, which is UIGC_VERSION if it fits this header. */
UIGC_API const char* uigc_version(void) UIGC_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
