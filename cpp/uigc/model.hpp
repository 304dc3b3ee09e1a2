// Everything that decoding needs from a bundle except the networks.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "limits.hpp"

namespace uigc {

using Bytes = std::vector<std::uint8_t>;
using Tokens = std::vector<std::int32_t>;
using PriorId = std::array<std::uint8_t, 4>;  // the first bytes of the id

struct Model {  // bundle.hpp reads it
    PriorId prior_id{};
    int codebook = 0;          // number of codewords
    int window = 0;            // side of a window in tokens
    int unknown = 0, pad = 0;  // tokens that stand for a position not known yet, and for padding
    int tile = 0;              // side of the schedule's tile in tokens
    std::vector<std::vector<std::pair<int, int>>> stages;  // (row, column) positions inside a tile, in coding order
    Tokens weights, mask;                                  // the tables coder.weights and mask.table
    // Whether stages return more than the logits of a token: behind them the weights of the high digits, which are sums
    // over the low ones, and the largest logit.
    bool has_sums = false;
};

namespace detail {

// Returns log2 of the number of low digits of a token: half of the bits of a codeword, rounded down.
inline int low_bits(int codebook) noexcept {
    int bits = 0;
    for (int size = codebook; size > 3; size >>= 2) ++bits;
    return bits;
}

// Returns whether stages of a bundle of this version give sums: from version 4 on, where float32 holds them.
inline bool has_sums(int version, int codebook) noexcept {
    return version >= 4 && 1 << low_bits(codebook) <= limits::summed_exactly;
}

inline bool in_range(const Tokens& table, int length, int largest) {
    const auto fits = [largest](std::int32_t entry) { return 1 <= entry && entry <= largest; };
    return table.size() == static_cast<std::size_t>(length) && std::all_of(table.begin(), table.end(), fits);
}

// Returns whether the stages name every position of the tile exactly once, and none is empty.
inline bool covers_tile(const Model& model) {
    const std::size_t side = static_cast<std::size_t>(model.tile);
    std::vector<bool> named(side * side);
    std::size_t count = 0;
    for (const auto& stage : model.stages) {
        if (stage.empty()) return false;
        for (const auto& [row, column] : stage) {
            if (row < 0 || column < 0 || row >= model.tile || column >= model.tile) return false;
            const std::size_t place = static_cast<std::size_t>(row) * side + static_cast<std::size_t>(column);
            if (named[place]) return false;
            named[place] = true;
            ++count;
        }
    }
    return count == named.size();
}

// Refuses a model with which decoding would not be defined.
inline void expect_sound(const Model& model) {
    const auto expect = [](bool holds, const char* fault) {
        if (!holds) throw BundleError(std::string("The model is not usable: ") + fault + "; export the bundle again.");
    };
    const int codebook = model.codebook;
    expect(limits::smallest_codebook <= codebook && codebook <= limits::codebook && !(codebook & (codebook - 1)),
           "its codebook is not a power of two from 4 to 4096");
    expect(model.unknown == codebook && model.pad == codebook + 1,
           "its tokens 'unknown' and 'pad' do not follow the codewords");
    expect(1 <= model.tile && model.tile <= limits::tile, "its tile is not 1 to 64 tokens wide");
    expect(1 <= model.window && model.window <= limits::window && model.window % model.tile == 0,
           "its window is not a multiple of its tile up to 256");
    expect(covers_tile(model), "its stages do not name every position of the tile exactly once");
    expect(in_range(model.weights, limits::farthest + 1, limits::weight),
           "its table 'coder.weights' is not 449 integers from 1 to 524287");
    expect(in_range(model.mask, limits::contexts, limits::probability),
           "its table 'mask.table' is not 1024 integers from 1 to 65535");
}

}  // namespace detail

// Returns how many numbers a stage returns for each token.
inline std::size_t row_length(const Model& model) noexcept {
    const auto codebook = static_cast<std::size_t>(model.codebook);
    return model.has_sums ? codebook + (codebook >> detail::low_bits(model.codebook)) + 1 : codebook;
}

}  // namespace uigc
