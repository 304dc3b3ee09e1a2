// The interface for C, uigc.h, on top of Codec. No exception crosses it.

#define UIGC_BUILDING
#include "uigc.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "codec.hpp"

struct uigc_codec {
    const uigc::Codec codec;
};

namespace {

thread_local char last_error[1024] = "";

void tell(const char* message) noexcept {
    std::size_t length = std::min(std::strlen(message), sizeof last_error - 1);
    // A sentence that is too long ends before a character, not inside one.
    while (message[length] != '\0' && (static_cast<unsigned char>(message[length]) & 0xC0u) == 0x80u) --length;
    std::memcpy(last_error, message, length);
    last_error[length] = '\0';
}

// Calls `work`, and turns what it throws into a result and a sentence.
template <typename Work>
int guarded(const Work& work) noexcept {
    last_error[0] = '\0';
    try {
        work();
        return UIGC_OK;
    } catch (const uigc::Error& error) {
        tell(error.what());
        return error.exit_code();
    } catch (const std::bad_alloc&) {
        tell("There is not enough memory for this image; scale it down, or set a limit on its pixels.");
    } catch (const std::exception& error) {
        tell((std::string("Unexpected: ") + error.what() + ".").c_str());
    } catch (...) {
        tell("Unexpected: an exception of an unknown kind.");
    }
    return UIGC_INTERNAL;
}

void expect(bool holds, const char* message) {
    if (!holds) throw uigc::UsageError(message);
}

// A copy of at most one byte more than a file can have, as read_file() returns.
uigc::Bytes bytes_of(const std::uint8_t* data, std::size_t size) {
    expect(data != nullptr || size == 0, "The data of the file is a null pointer; pass the bytes of a .uigc file.");
    return data ? uigc::Bytes(data, data + std::min(size, uigc::limits::file + 1)) : uigc::Bytes();
}

uigc::CodecOptions options_of(const uigc_options* given) {
    uigc::CodecOptions found;
    if (!given) return found;
    expect(given->size == sizeof(uigc_options),
           "The options have another size than this library expects; begin with UIGC_OPTIONS, and build with its header.");
    expect(given->threads >= 0 && given->max_pixels >= 0, "An option is negative; 0 stands for the default.");
    found.threads = given->threads;
    found.max_pixels = given->max_pixels;
    if (given->precision) found.precision = given->precision;
    if (given->pixel_precision) found.pixel_precision = given->pixel_precision;
    return found;
}

}  // namespace

int uigc_read_header(const uint8_t* data, size_t size, uigc_header* header) noexcept {
    return guarded([&] {
        expect(header != nullptr, "There is no place for the header; pass a pointer to a uigc_header.");
        const uigc::Header found = uigc::header(bytes_of(data, size));
        constexpr int patch = uigc::limits::patch;
        *header = {found.width, found.height, (found.width + patch - 1) / patch, (found.height + patch - 1) / patch,
                   found.mode, found.drawn ? found.seed : -1};
    });
}

int uigc_open(const char* bundle, const uigc_options* options, uigc_codec** codec) noexcept {
    if (codec) *codec = nullptr;
    return guarded([&] {
        expect(bundle && codec, "The folder of the bundle or the place for the codec is a null pointer; pass both.");
        *codec = new uigc_codec{uigc::Codec(std::filesystem::u8path(bundle), options_of(options))};
    });
}

int uigc_decompress(uigc_codec* codec, const uint8_t* data, size_t size, uint8_t* pixels, size_t stride,
                    int32_t rows) noexcept {
    return guarded([&] {
        expect(codec && pixels, "The codec or the place for the pixels is a null pointer; pass both.");
        const uigc::Bytes file = bytes_of(data, size);
        const uigc::Header header = uigc::header(file);
        const std::size_t row = 3 * static_cast<std::size_t>(header.width);
        expect(rows == header.height && stride >= row,
               "The place for the pixels does not fit the image; pass the height that uigc_read_header() states as "
               "rows, and at least three times its width as stride.");
        const uigc::Image image = codec->codec.decompress(file);
        for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y)
            std::memcpy(pixels + y * stride, image.pixels.data() + y * row, row);
    });
}

int uigc_decode_tokens(uigc_codec* codec, const uint8_t* data, size_t size, int32_t* tokens, size_t count) noexcept {
    return guarded([&] {
        expect(codec && tokens, "The codec or the place for the tokens is a null pointer; pass both.");
        const uigc::Bytes file = bytes_of(data, size);
        const uigc::Header header = uigc::header(file);
        const auto side = [](int pixels) {
            return static_cast<std::size_t>((pixels + uigc::limits::patch - 1) / uigc::limits::patch);
        };
        expect(count == side(header.width) * side(header.height),
               "The place for the tokens does not fit the grid; pass rows times columns of uigc_read_header() as count.");
        const uigc::Grid grid = codec->codec.decode_tokens(file);
        std::copy(grid.tokens.begin(), grid.tokens.end(), tokens);
    });
}

void uigc_close(uigc_codec* codec) noexcept { delete codec; }

const char* uigc_last_error() noexcept { return last_error; }

const char* uigc_version() noexcept { return UIGC_VERSION; }
