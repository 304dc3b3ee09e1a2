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
            throw detail::inexact("The payload does not fit the prior's probabilities although the file is undamaged");
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

// Turns integer weights into a cumulative table of weights.size() + 1 entries, and returns their sum.
inline std::uint64_t cumulative(const std::vector<std::uint64_t>& weights, std::vector<std::uint32_t>& table) {
    const std::uint64_t all = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
    table.resize(weights.size() + 1);
    std::uint64_t sum = 0;
    for (std::size_t index = 0; index < weights.size(); ++index) {
        table[index] = static_cast<std::uint32_t>(sum * (total - weights.size()) / all + index);
        sum += weights[index];
    }
    table.back() = total;
    return all;
}

// Returns the weight of a logit by its distance below the best; logits farther than the table's end are treated alike.
inline std::uint64_t weight(const Model& model, std::int32_t distance) {
    const std::int32_t entry = std::min(std::max(distance, 0), limits::farthest);  // below 0: of a broken graph
    return static_cast<std::uint64_t>(model.weights[static_cast<std::size_t>(entry)]);
}

// The tables of the two digits of a token, given its row of what a stage returns.
class Digits {
   public:
    explicit Digits(const Model& model)
        : model_(model), low_bits_(low_bits(model.codebook)), low_(std::size_t{1} << low_bits_),
          high_(static_cast<std::size_t>(model.codebook) >> low_bits_) {}

    // Reads a high digit, and returns the lowest codeword that has it.
    std::int32_t high(RangeDecoder& decoder, const std::int32_t* row) {
        const std::int32_t best = largest(row);
        weights_.assign(high_, 0);
        if (model_.has_sums)
            std::copy_n(row + model_.codebook, high_, weights_.begin());
        else
            for (std::size_t codeword = 0; codeword < low_ * high_; ++codeword)
                weights_[codeword >> low_bits_] += weight(model_, best - row[codeword]);
        cumulative(weights_, table_);
        return decoder.symbol(table_.data(), static_cast<int>(high_)) << low_bits_;
    }

    // Reads the low digit of a token, given the lowest codeword of its high digit.
    std::int32_t low(RangeDecoder& decoder, const std::int32_t* row, std::int32_t first) {
        const std::int32_t best = largest(row);
        weights_.assign(low_, 0);
        for (std::size_t digit = 0; digit < low_; ++digit)
            weights_[digit] = weight(model_, best - row[static_cast<std::size_t>(first) + digit]);
        const std::uint64_t all = cumulative(weights_, table_);
        if (model_.has_sums && all != static_cast<std::uint64_t>(row[model_.codebook + (first >> low_bits_)]))
            throw inexact("The weights that a stage returned are not those of its logits");
        return decoder.symbol(table_.data(), static_cast<int>(low_));
    }

   private:
    std::int32_t largest(const std::int32_t* row) const {
        return model_.has_sums ? row[row_length(model_) - 1] : *std::max_element(row, row + model_.codebook);
    }

    const Model& model_;
    int low_bits_;
    std::size_t low_, high_;
    std::vector<std::uint64_t> weights_;
    std::vector<std::uint32_t> table_;
};

// Reads a token for each row of what a stage returns: the high digits of all tokens, then the low ones.
inline Tokens read(RangeDecoder& decoder, const std::vector<const std::int32_t*>& rows, const Model& model) {
    Digits digits(model);
    Tokens tokens;
    tokens.reserve(rows.size());
    for (const std::int32_t* row : rows) tokens.push_back(digits.high(decoder, row));
    for (std::size_t index = 0; index < rows.size(); ++index)
        tokens[index] += digits.low(decoder, rows[index], tokens[index]);
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
        throw inexact("The decoded tokens differ from the encoder's although the file is undamaged");
}

}  // namespace detail
}  // namespace uigc
