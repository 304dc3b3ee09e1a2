// From the bytes of a file to the grid of tokens: the staged loop (docs/FORMAT.md, section 4).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bitstream.hpp"
#include "entropy_coder.hpp"
#include "errors.hpp"
#include "limits.hpp"
#include "mask.hpp"
#include "model.hpp"
#include "regeneration.hpp"

namespace uigc {

struct Grid {
    int width = 0, height = 0;  // of the image, in pixels
    int rows = 0, columns = 0;  // of the grid, in tokens
    Tokens tokens;              // rows x columns, in raster order
};

// Your function that runs a stage of the prior. It takes tokens (rows x columns, multiples of the window) and returns
// what it predicts for all positions of the stage in coding order, `row_length(model)` numbers for each: the unchanged
// output of the graph.
using Prior = std::function<Tokens(int stage, const Tokens& tokens, int rows, int columns)>;

namespace detail {

constexpr std::size_t at(int row, int columns, int column) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column);
}

constexpr int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Refuses predictions that no exact prior returns: the arithmetic of the coder is defined for those in range alone.
inline void expect_predictions(int stage, const Tokens& predictions, std::size_t positions, const Model& model) {
    const std::string graph = "The graph 'stage" + std::to_string(stage) + "' returned ";
    const std::size_t each = row_length(model);
    if (predictions.size() != positions * each)
        throw ProviderError(graph + std::to_string(predictions.size()) + " numbers, and " +
                            std::to_string(positions * each) +
                            " were expected; pass on the output of the graph as it is.");
    const auto expect_range = [&graph](const std::int32_t* first, const std::int32_t* last, std::int32_t low,
                                       std::int32_t high, const char* what) {
        const auto found = std::find_if_not(first, last, [=](std::int32_t n) { return low <= n && n <= high; });
        if (found != last)
            throw ProviderError(graph + what + std::to_string(*found) + ", and " + std::to_string(low) + " to " +
                                std::to_string(high) + " was expected; check the bundle and the backend.");
    };
    const std::int32_t low_digits = 1 << low_bits(model.codebook);
    for (const std::int32_t* row = predictions.data(); row != predictions.data() + predictions.size(); row += each) {
        const std::int32_t *const sums = row + model.codebook, *const end = row + each;
        expect_range(row, sums, -limits::logit, limits::logit, "the logit ");
        if (!model.has_sums) continue;
        expect_range(sums, end - 1, low_digits, low_digits * limits::weight, "the weight ");
        expect_range(end - 1, end, -limits::logit, limits::logit, "the largest logit ");
    }
}

// One file on its way through the stages.
class Decoding {
   public:
    Decoding(const Bytes& file, const Model& model, const Header& head)
        : model_(model), head_(head), decoder_(file, head.payload),
          grid_{head.width, head.height, rounded_up(head.height, limits::patch) / limits::patch,
                rounded_up(head.width, limits::patch) / limits::patch, {}},
          edges_(grid_.rows, grid_.columns), sent_stages_(sent_stages(model, head.mode)) {
        grid_.tokens.resize(at(grid_.rows, grid_.columns, 0));
        if (head.mode != 0) edges_.read(decoder_, model);
        // The input of the prior: nothing is known inside the image, and there is padding up to whole windows.
        tall_ = rounded_up(grid_.rows, model.window);
        wide_ = rounded_up(grid_.columns, model.window);
        context_.assign(at(tall_, wide_, 0), model.pad);
        for (int row = 0; row < grid_.rows; ++row)
            std::fill_n(context_.data() + at(row, wide_, 0), grid_.columns, model.unknown);
    }

    // Takes the file through a stage: the lost tokens are regenerated, the sent ones read.
    void stage(int number, const Prior& prior) {
        const auto& positions = model_.stages[static_cast<std::size_t>(number)];
        const Tokens predictions = prior(number, context_, tall_, wide_);
        expect_predictions(number, predictions, context_.size() / at(model_.tile, model_.tile, 0) * positions.size(),
                           model_);
        const std::size_t each = row_length(model_);
        const std::int32_t* own = predictions.data();
        std::vector<const std::int32_t*> rows;
        std::vector<std::size_t> sent, places;  // of the sent tokens in the grid, and in the context
        for (int top = 0; top < tall_; top += model_.tile) {
            for (int left = 0; left < wide_; left += model_.tile) {
                for (const auto& [down, right] : positions) {
                    const int row = top + down, column = left + right;
                    const std::int32_t* const these = own;
                    own += each;
                    if (row >= grid_.rows || column >= grid_.columns) continue;  // padding
                    const std::size_t place = at(row, grid_.columns, column);
                    if (static_cast<std::size_t>(number) < sent_stages_ || edges_.of_token(row, column)) {
                        rows.push_back(these);
                        sent.push_back(place);
                        places.push_back(at(row, wide_, column));
                    } else {
                        grid_.tokens[place] = regenerated(these, place, head_, model_);
                    }
                }
            }
        }
        // Only tokens that are sent become context of later stages.
        const Tokens tokens = read(decoder_, rows, model_);
        for (std::size_t index = 0; index < tokens.size(); ++index)
            grid_.tokens[sent[index]] = context_[places[index]] = tokens[index];
    }

    // Returns the grid if it is that of the encoder.
    Grid finish() {
        expect_check(decoder_, grid_.tokens);
        return std::move(grid_);
    }

   private:
    const Model& model_;
    const Header& head_;
    RangeDecoder decoder_;
    Grid grid_;
    Edges edges_;
    std::size_t sent_stages_;
    int tall_ = 0, wide_ = 0;  // of the padded grid
    Tokens context_;
};

}  // namespace detail

// Decodes a file to its grid of tokens, sent and regenerated. Throws an Error for a file that must not be decoded, for
// a model that is not sound, and for predictions that are out of range or contradict themselves; `max_pixels` is the
// largest number of pixels of an image.
inline Grid decode(const Bytes& file, const Model& model, const Prior& prior,
                   std::int64_t max_pixels = limits::pixels) {
    detail::expect_sound(model);
    const Header head = detail::accepted_header(file, model.prior_id, max_pixels);
    detail::Decoding decoding(file, model, head);
    for (int stage = 0; stage < static_cast<int>(model.stages.size()); ++stage) decoding.stage(stage, prior);
    return decoding.finish();
}

namespace detail {

// Refuses a picture of the decoder graph of another size than its grid's.
inline void expect_picture(const Grid& grid, std::size_t count) {
    const std::size_t tall = at(grid.rows, limits::patch, 0), wide = at(grid.columns, limits::patch, 0);
    if (count != 3 * tall * wide || grid.width < 1 || grid.height < 1 || static_cast<std::size_t>(grid.width) > wide ||
        static_cast<std::size_t>(grid.height) > tall)
        throw ProviderError("The graph 'decoder' returned " + std::to_string(count) + " values, and " +
                            std::to_string(3 * tall * wide) + " were expected; pass on the output of the graph as it is.");
}

// Returns whether none is infinite or not a number.
inline bool all_finite(const float* values, std::size_t count) noexcept {
    std::uint32_t largest = 0;  // of all exponents; without a branch, so that it takes a fraction of a millisecond
    for (std::size_t index = 0; index < count; ++index) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, values + index, sizeof bits);
        largest = std::max(largest, bits & 0x7F800000u);
    }
    return largest != 0x7F800000u;
}

// Converts a row of one channel, in [0, 1], to every third byte. Values outside are clamped; halves go to even numbers
// in the rounding mode that programs begin with. Adding 2^23 leaves no bits for a fraction, and the integer in the last ones.
inline void convert_row(const float* row, std::size_t width, float* scaled, std::uint8_t* bytes) noexcept {
    for (std::size_t x = 0; x < width; ++x) scaled[x] = std::min(std::max(row[x], 0.0f), 1.0f) * 255.0f;
    for (std::size_t x = 0; x < width; ++x) {  // in a loop of its own: the product is to be rounded before the sum
        const float sum = scaled[x] + 8388608.0f;
        std::uint32_t bits = 0;
        std::memcpy(&bits, &sum, sizeof bits);
        bytes[3 * x] = static_cast<std::uint8_t>(bits);
    }
}

}  // namespace detail

// Converts the `count` values of the decoder graph of a bundle of version 2, float32 (3, 16 rows, 16 columns) in [0, 1],
// to the image's bytes, (height, width, 3). Values that are not finite are refused.
inline Bytes pixels(const Grid& grid, const float* planes, std::size_t count) {
    detail::expect_picture(grid, count);
    if (!detail::all_finite(planes, count))
        throw ProviderError(
            "The graph 'decoder' returned values that are not finite, and numbers in [0, 1] were expected; check the "
            "bundle and the backend.");
    const auto height = static_cast<std::size_t>(grid.height), width = static_cast<std::size_t>(grid.width);
    const std::size_t wide = detail::at(grid.columns, limits::patch, 0);
    Bytes image(3 * width * height);
    std::vector<float> scaled(width);
    for (std::size_t y = 0; y < height; ++y)
        for (std::size_t channel = 0; channel < 3; ++channel)
            detail::convert_row(planes + channel * (count / 3) + y * wide, width, scaled.data(),
                                image.data() + 3 * y * width + channel);
    return image;
}

// The same for a bundle from version 3 on, whose decoder graph returns bytes, (16 rows, 16 columns, 3).
inline Bytes pixels(const Grid& grid, const std::uint8_t* picture, std::size_t count) {
    detail::expect_picture(grid, count);
    const auto height = static_cast<std::size_t>(grid.height), width = static_cast<std::size_t>(grid.width);
    const std::size_t wide = detail::at(grid.columns, limits::patch, 0);
    Bytes image(3 * width * height);
    for (std::size_t y = 0; y < height; ++y)
        std::copy_n(picture + 3 * y * wide, 3 * width, image.data() + 3 * y * width);
    return image;
}

}  // namespace uigc
