// The limits of everything that a file, a manifest or a weights header states. They are checked before anything is
// allocated, and are those of the Python package; docs/SECURITY.md lists them.

#pragma once

#include <cstddef>
#include <cstdint>

namespace uigc::limits {

// Files and images.
constexpr int patch = 16;                            // side of a token in pixels
constexpr int side = 1 << 14;                        // pixels
constexpr std::int64_t pixels = 1 << 28;             // of an image, unless the caller says otherwise
constexpr std::int64_t whole_pixels = 1 << 22;       // the same for a tokenizer that looks at the whole image at once
constexpr std::size_t payload = (1 << 21) - 1;       // bytes
constexpr std::size_t file = 21 + payload;           // bytes, header included
constexpr std::int32_t logit = 2047;                 // magnitude of a logit, in steps of 1/32 nat

// Models.
constexpr int smallest_codebook = 4, codebook = 4096;
constexpr int window = 256, tile = 64;               // tokens each way
constexpr int halo = 1 << 12;                        // tokens
constexpr int layers = 1 << 10, heads = 1 << 8, width = 1 << 14;
constexpr int weight = (1 << 19) - 1;                // an entry of coder.weights
constexpr int summed_exactly = 32;                   // entries of coder.weights, whose sum float32 holds
constexpr int probability = 65535;                   // an entry of mask.table
constexpr int farthest = 448;                        // the last index of coder.weights
constexpr int contexts = 1 << 10;                    // entries of mask.table

// Bundles.
constexpr std::size_t manifest = 1 << 24;            // bytes
constexpr std::size_t weights_header = 1 << 24;      // bytes
constexpr std::size_t name = 200;                    // bytes of a file's name
constexpr std::size_t dimensions = 8;                // of a tensor
constexpr std::size_t json_depth = 64;               // arrays and objects inside each other
constexpr std::size_t json_values = 1 << 18;         // values in one text
constexpr std::size_t json_number = 40;              // characters of one number

}  // namespace uigc::limits
