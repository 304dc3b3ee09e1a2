// The tokens that take the place of lost ones (docs/FORMAT.md, section 5).

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "bitstream.hpp"
#include "entropy_coder.hpp"
#include "errors.hpp"
#include "model.hpp"

namespace uigc::detail {

// Returns the upper and the lower half of a product of 128 bits.
inline std::pair<std::uint64_t, std::uint64_t> product(std::uint64_t a, std::uint64_t b) noexcept {
    const std::uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
    const std::uint64_t low = a0 * b0, cross = a1 * b0 + (low >> 32), other = a0 * b1 + (cross & 0xFFFFFFFFu);
    return {a1 * b1 + (cross >> 32) + (other >> 32), other << 32 | (low & 0xFFFFFFFFu)};
}

// Returns the random number of the token with this raster index, by Philox4x64-10.
inline std::uint32_t random_number(std::uint8_t seed, std::uint64_t index) noexcept {
    std::array<std::uint64_t, 4> x{index / 4 + 1, 0, 0, 0};
    std::uint64_t first = seed, second = 0;
    for (int round = 0; round < 10; ++round) {
        const auto [upper_p, lower_p] = product(0xD2E7470EE14C6C93u, x[0]);
        const auto [upper_r, lower_r] = product(0xCA5A826395121157u, x[2]);
        x = {upper_r ^ x[1] ^ first, lower_r, upper_p ^ x[3] ^ second, lower_p};
        first += 0x9E3779B97F4A7C15u;
        second += 0xBB67AE8584CAA73Bu;
    }
    return static_cast<std::uint32_t>(x[static_cast<std::size_t>(index % 4)] >> 32);
}

// Draws a token from the eight most likely ones.
inline std::int32_t drawn(const std::int32_t* logits, std::uint32_t number, const Model& model) {
    // The largest logits first; of equals, the lower codeword first.
    std::vector<std::int32_t> best(static_cast<std::size_t>(model.codebook));
    std::iota(best.begin(), best.end(), 0);
    const auto count = std::min<std::ptrdiff_t>(8, model.codebook);
    std::partial_sort(best.begin(), best.begin() + count, best.end(), [logits](std::int32_t a, std::int32_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    // The probabilities at temperature 3/4, summed up: distances below the best logit count 4/3.
    std::uint64_t sum = 0;
    std::array<std::uint64_t, 8> sums{};
    for (std::size_t index = 0; index < static_cast<std::size_t>(count); ++index)
        sums[index] = sum += weight(model, (logits[best[0]] - logits[best[index]]) * 4 / 3);
    const std::uint64_t point = number * sum >> 32;
    const auto* above = std::upper_bound(sums.data(), sums.data() + count, point);
    return best[static_cast<std::size_t>(above - sums.data())];
}

// Returns the token in place of a lost one, drawn or the most likely.
inline std::int32_t regenerated(const std::int32_t* logits, std::size_t index, const Header& head, const Model& model) {
    const std::int32_t* const best = std::max_element(logits, logits + model.codebook);
    if (model.has_sums && *best != logits[row_length(model) - 1])
        throw inexact("The largest logits that a stage returned are others than it stated");
    if (head.drawn) return drawn(logits, random_number(head.seed, index), model);
    return static_cast<std::int32_t>(best - logits);
}

}  // namespace uigc::detail
