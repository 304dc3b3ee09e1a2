// The range decoder, and the tables that it decodes tokens with (docs/FORMAT.md, section 3).

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "bitstream.hpp"
#include "errors.hpp"
#include "model.hpp"

namespace uigc {

class RangeDecoder {
   public:
    RangeDecoder(const Bytes& file, std::size_t begin) : file_(file), position_(begin) {
        point_ = next_word() << 32;
        point_ |= next_word();
    }

    // Reads a symbol 0..count-1 under a cumulative table of count + 1 entries, which rises from 0 to 2^24.
    int symbol(const std::uint32_t* table, int count) {
        const std::uint64_t scale = range_ >> 24, quantile = (point_ - lower_) / scale;
        if (quantile >> 24)
            throw InexactError(
                "The payload does not fit the prior's probabilities although the file is undamaged, which means that "
                "the prior was not computed exactly; decode with another backend and report this one.");
        const auto* above = std::upper_bound(table, table + count, static_cast<std::uint32_t>(quantile));
        const auto found = static_cast<int>(above - table) - 1;
        lower_ += scale * table[found];
        range_ = scale * (table[found + 1] - table[found]);
        if (range_ < std::uint64_t{1} << 32) {
            lower_ <<= 32;
            range_ <<= 32;
            point_ = point_ << 32 | next_word();
        }
        return found;
    }

   private:
    std::uint64_t next_word() noexcept {  // 32 bits; zeros past the end
        std::uint64_t value = 0;
        for (int index = 0; index < 4; ++index)
            value = value << 8 | (position_ < file_.size() ? file_[position_++] : 0u);
        return value;
    }

    const Bytes& file_;
    std::size_t position_;
    std::uint64_t lower_ = 0, range_ = ~std::uint64_t{0}, point_ = 0;
};

namespace detail {

constexpr std::uint32_t total = 1u << 24;  // probabilities are multiples of 1 / total

// Turns integer weights into a cumulative table of weights.size() + 1 entries.
inline void cumulative(const std::vector<std::uint64_t>& weights, std::vector<std::uint32_t>& table) {
    const std::uint64_t all = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
    table.resize(weights.size() + 1);
    std::uint64_t sum = 0;
    for (std::size_t index = 0; index < weights.size(); ++index) {
        table[index] = static_cast<std::uint32_t>(sum * (total - weights.size()) / all + index);
        sum += weights[index];
    }
    table.back() = total;
}

// Returns the weight of a logit by its distance below the best; logits farther than the table's end are treated alike.
inline std::uint64_t weight(const Model& model, std::int32_t distance) {
    return static_cast<std::uint64_t>(model.weights[static_cast<std::size_t>(std::min(distance, limits::farthest))]);
}

// Reads a token for each row of logits: the high digits of all tokens, then the low ones.
inline Tokens read(RangeDecoder& decoder, const std::vector<const std::int32_t*>& rows, const Model& model) {
    const auto codebook = static_cast<std::size_t>(model.codebook);
    int low_bits = 0;
    for (std::size_t size = codebook; size > 3; size >>= 2) ++low_bits;  // floor(log2(codebook) / 2)
    const std::size_t low = std::size_t{1} << low_bits, high = codebook >> low_bits;
    std::vector<std::uint64_t> weights;
    std::vector<std::uint32_t> table;
    Tokens tokens, best;
    tokens.reserve(rows.size());
    best.reserve(rows.size());
    // The high digits; the weight of each is the sum over its low digits.
    for (const std::int32_t* row : rows) {
        best.push_back(*std::max_element(row, row + codebook));
        weights.assign(high, 0);
        for (std::size_t codeword = 0; codeword < codebook; ++codeword)
            weights[codeword >> low_bits] += weight(model, best.back() - row[codeword]);
        cumulative(weights, table);
        tokens.push_back(decoder.symbol(table.data(), static_cast<int>(high)) << low_bits);
    }
    // The low digits, given the high ones.
    weights.resize(low);
    for (std::size_t index = 0; index < rows.size(); ++index) {
        const std::int32_t* row = rows[index] + tokens[index];
        for (std::size_t digit = 0; digit < low; ++digit) weights[digit] = weight(model, best[index] - row[digit]);
        cumulative(weights, table);
        tokens[index] += decoder.symbol(table.data(), static_cast<int>(low));
    }
    return tokens;
}

// Compares the check at the end of the payload with that of the tokens.
inline void expect_check(RangeDecoder& decoder, const Tokens& tokens) {
    std::uint32_t crc = 0;
    for (const std::int32_t token : tokens) {
        const auto value = static_cast<std::uint32_t>(token);
        const std::array<std::uint8_t, 4> bytes{
            static_cast<std::uint8_t>(value >> 24), static_cast<std::uint8_t>(value >> 16),
            static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
        crc = crc32(bytes.data(), bytes.size(), crc);
    }
    std::array<std::uint32_t, 257> table{};
    for (std::uint32_t index = 0; index <= 256; ++index) table[index] = index << 16;
    const int upper = decoder.symbol(table.data(), 256), lower = decoder.symbol(table.data(), 256);
    if (static_cast<std::uint32_t>(upper << 8 | lower) != (crc & 0xFFFFu))
        throw InexactError(
            "The decoded tokens differ from the encoder's although the file is undamaged, which means that the prior "
            "was not computed exactly; decode with another backend and report this one.");
}

}  // namespace detail
}  // namespace uigc
