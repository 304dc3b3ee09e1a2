// From the bytes of a .uigc file to an image: a bundle and its graphs on ONNX Runtime. codec.cpp implements it; a program
// that includes this needs no header of ONNX Runtime's itself. uigc.h is the same for C and for all other languages.

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "bundle.hpp"
#include "uigc.hpp"

namespace uigc {

// Affects speed, and pixels by rounding, but never a token.
struct CodecOptions {
    int threads = 0;              // of each graph; 0: a thread for each core, as ONNX Runtime counts them
    std::string precision;        // of the prior: "fp32", "fp16" or "int8"; empty: the fastest that the bundle has
    std::string pixel_precision;  // of the pixel decoder, as above
    std::int64_t max_pixels = 0;  // the largest image; 0: what the bundle and the format allow
};

struct Image {
    int width = 0, height = 0;  // in pixels
    Bytes pixels;               // (height, width, 3): sRGB, red first, in raster order
};

// Decodes files with the graphs of a bundle. Any number of threads may call the same codec.
class Codec {
   public:
    // Opens a bundle and compares all its files with their hashes. Graphs are loaded, in the background, when the first
    // file has passed the checks of its header. Throws a BundleError, or a ProviderError if ONNX Runtime does not start.
    explicit Codec(const std::filesystem::path& bundle, const CodecOptions& options = {});
    ~Codec();
    Codec(const Codec&) = delete;
    Codec& operator=(const Codec&) = delete;

    const Bundle& bundle() const noexcept;

    // Decodes a file to its grid of tokens. Throws an Error; docs/CLI.md lists them by their exit codes.
    Grid decode_tokens(const Bytes& file) const;

    // Decodes a file to its image.
    Image decompress(const Bytes& file) const;

   private:
    class Networks;
    std::unique_ptr<Networks> networks_;
};

}  // namespace uigc
