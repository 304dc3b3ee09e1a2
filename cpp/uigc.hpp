// A decoder of .uigc files in C++17, from bytes to the grid of tokens: docs/FORMAT.md in one header.
//
// It needs only the standard library. You bring the networks: decode() calls your function for each stage of the prior
// and returns a grid of tokens, which the bundle's decoder graph turns into an image (decode.cpp runs both with ONNX
// Runtime). Everything here is integer arithmetic, so the grid is the same on every machine whose prior is exact.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace uigc {

// Thrown for a file that is refused. No image is ever returned for such a file.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using Bytes = std::vector<std::uint8_t>;
using Tokens = std::vector<std::int32_t>;

// Everything that decoding needs from a bundle except the networks; bundle.hpp reads it.
struct Model {
    std::array<std::uint8_t, 4> prior_id{};  // the first bytes of the id
    int codebook = 0;                        // number of codewords
    int window = 0;                          // side of a window in tokens
    int unknown = 0, pad = 0;                // tokens that stand for a position not known yet, and for padding
    int tile = 0;                            // side of the schedule's tile in tokens
    std::vector<std::vector<std::pair<int, int>>> stages;  // (row, column) positions inside a tile, in coding order
    Tokens weights, mask;                                  // the tables coder.weights and mask.table
};

struct Header {
    int width = 0, height = 0;
    int mode = 0;  // 0 entire, 1 edge, 2 edge_more
    bool drawn = false;  // whether lost tokens are drawn, with this seed
    std::uint8_t seed = 0;
    std::array<std::uint8_t, 4> prior_id{};
    std::size_t payload = 0;  // offset of the payload in the file
};

struct Grid {
    int width = 0, height = 0;  // of the image, in pixels
    int rows = 0, columns = 0;  // of the grid, in tokens
    Tokens tokens;              // rows x columns, in raster order
};

// Your function that runs a stage of the prior. It takes tokens (rows x columns, multiples of the window) and returns
// the logits of all positions of the stage in coding order, `codebook` per position: the unchanged output of the graph.
using Prior = std::function<Tokens(int stage, const Tokens& tokens, int rows, int columns)>;

inline std::uint32_t crc32(const std::uint8_t* data, std::size_t size, std::uint32_t crc = 0) {
    crc = ~crc;
    for (std::size_t i = 0; i < size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

// Reads and checks everything before the payload (section 1).
inline Header header(const Bytes& file) {
    constexpr std::size_t fixed = 13;
    if (file.size() < 3 || file[0] != 'U' || file[1] != 'I' || file[2] != 'G')
        throw Error("The file does not begin with 'UIG', so it is not a .uigc file; give one that uigc wrote.");
    if (file.size() < fixed) throw Error("The file is truncated; fetch it again.");
    // The checksum.
    const std::uint32_t stated = std::uint32_t{file[9]} << 24 | std::uint32_t{file[10]} << 16 |
                                 std::uint32_t{file[11]} << 8 | std::uint32_t{file[12]};
    const bool sound = crc32(file.data() + fixed, file.size() - fixed, crc32(file.data(), 9)) == stated;

    // Byte 4: the mask mode, plus 16 if lost tokens are drawn, which mode 0 (no token is lost) excludes.
    const int setting = file[4];
    const bool known = setting <= 2 || setting == 17 || setting == 18;
    // A newer version or mode is reported only if the file is intact; otherwise it is damage.
    if (sound && file[3] != 1) throw Error("The file has a format version other than 1; update this decoder.");
    if (sound && !known) throw Error("The file uses a mask mode that this decoder does not know; update it.");

    // The fields of variable length.
    std::size_t position = fixed;
    const auto byte = [&] {
        if (position == file.size()) throw Error("The file is truncated; fetch it again.");
        return file[position++];
    };
    const auto number = [&](int longest) {  // of at most `longest` bytes
        std::uint32_t value = 0;
        for (int index = 0; index < longest; ++index) {
            const std::uint8_t group = byte();
            if (index == 0 && group == 0x80) break;
            value = value << 7 | (group & 0x7Fu);
            if (group < 0x80) return static_cast<int>(value);
        }
        throw Error("The file's header holds a malformed number; fetch the file again.");
    };
    Header found;
    found.width = number(2) + 1;
    found.height = number(2) + 1;
    found.drawn = setting >= 16;
    if (found.drawn) found.seed = byte();
    const auto length = static_cast<std::size_t>(number(3));
    if (file.size() != position + length) throw Error("The file is longer or shorter than stated; fetch it again.");
    if (!sound) throw Error("The file is damaged: its checksum does not match; fetch it again.");
    found.mode = setting & 15;
    std::copy_n(file.begin() + 5, 4, found.prior_id.begin());
    found.payload = position;
    return found;
}

// The range decoder (section 3).
class RangeDecoder {
   public:
    RangeDecoder(const Bytes& file, std::size_t begin) : file_(file), position_(begin) {
        point_ = next_word() << 32;
        point_ |= next_word();
    }

    // Reads a symbol 0..count-1 under a cumulative table of count + 1 entries, from 0 to 2^24.
    int symbol(const std::uint32_t* table, int count) {
        const std::uint64_t scale = range_ >> 24, quantile = (point_ - lower_) / scale;
        if (quantile >> 24) {
            throw Error("The payload does not fit the prior's probabilities, because the prior is not exact on this "
                        "machine; run it on another backend.");
        }
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
    std::uint64_t next_word() {  // 32 bits; zeros past the end
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
constexpr int farthest = 448;              // the last entry of the weights; logits farther below the best use it too

// Turns integer weights into a cumulative table of count + 1 entries.
inline void cumulative(const std::uint64_t* weights, int count, std::vector<std::uint32_t>& table) {
    const std::uint64_t all = std::accumulate(weights, weights + count, std::uint64_t{0});
    table.resize(static_cast<std::size_t>(count) + 1);
    std::uint64_t sum = 0;
    for (int index = 0; index < count; ++index) {
        table[index] = static_cast<std::uint32_t>(sum * (total - count) / all) + index;
        sum += weights[index];
    }
    table[count] = total;
}

// Reads the edge bits. The context of a bit `?` is made of ten earlier bits; 9 is the most significant one:
//
//     . 9 8 7 .     two rows up
//     6 5 4 3 2     one row up
//     1 0 ?         the current row
inline std::vector<std::uint8_t> edges(RangeDecoder& decoder, int rows, int columns, const Model& model) {
    constexpr std::array<std::pair<int, int>, 10> earlier{
        {{-2, -1}, {-2, 0}, {-2, 1}, {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1}, {-1, 2}, {0, -2}, {0, -1}}};
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(rows) * columns);
    for (int y = 0; y < rows; ++y) {
        for (int x = 0; x < columns; ++x) {
            int context = 0;
            for (const auto& [down, right] : earlier) {
                const int row = y + down, column = x + right;
                const bool inside = row >= 0 && column >= 0 && column < columns;
                context = 2 * context + (inside ? bits[static_cast<std::size_t>(row) * columns + column] : 0);
            }
            const std::uint32_t one = 256u * static_cast<std::uint32_t>(model.mask[context]);
            const std::array<std::uint32_t, 3> table{0, total - one, total};
            const int bit = decoder.symbol(table.data(), 2);
            bits[static_cast<std::size_t>(y) * columns + x] = static_cast<std::uint8_t>(bit);
        }
    }
    return bits;
}

// Returns the upper and the lower half of a product of 128 bits.
inline std::pair<std::uint64_t, std::uint64_t> product(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
    const std::uint64_t low = a0 * b0, cross = a1 * b0 + (low >> 32), other = a0 * b1 + (cross & 0xFFFFFFFFu);
    return {a1 * b1 + (cross >> 32) + (other >> 32), other << 32 | (low & 0xFFFFFFFFu)};
}

// Returns the random number of the token with this raster index, by Philox4x64-10 (section 5).
inline std::uint32_t random_number(std::uint8_t seed, std::uint64_t index) {
    std::array<std::uint64_t, 4> x{index / 4 + 1, 0, 0, 0};
    std::uint64_t first = seed, second = 0;
    for (int round = 0; round < 10; ++round) {
        const auto [upper_p, lower_p] = product(0xD2E7470EE14C6C93u, x[0]);
        const auto [upper_r, lower_r] = product(0xCA5A826395121157u, x[2]);
        x = {upper_r ^ x[1] ^ first, lower_r, upper_p ^ x[3] ^ second, lower_p};
        first += 0x9E3779B97F4A7C15u;
        second += 0xBB67AE8584CAA73Bu;
    }
    return static_cast<std::uint32_t>(x[index % 4] >> 32);
}

// Draws a token from the eight most likely ones (section 5).
inline std::int32_t drawn(const std::int32_t* logits, std::uint32_t number, const Model& model) {
    // The largest logits first; of equals, the lower codeword first.
    std::vector<std::int32_t> best(static_cast<std::size_t>(model.codebook));
    std::iota(best.begin(), best.end(), 0);
    const auto count = std::min<std::size_t>(8, best.size());
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(count), best.end(),
                      [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    // The probabilities at temperature 3/4, summed up: distances below the best logit count 4/3.
    std::uint64_t sum = 0;
    std::array<std::uint64_t, 8> sums{};
    for (std::size_t index = 0; index < count; ++index) {
        const int distance = (logits[best[0]] - logits[best[index]]) * 4 / 3;
        sums[index] = sum += static_cast<std::uint64_t>(model.weights[std::min(distance, farthest)]);
    }
    const std::uint64_t point = number * sum >> 32;
    return best[std::upper_bound(sums.begin(), sums.begin() + count, point) - sums.begin()];
}

// Returns the token in place of a lost one, drawn or the most likely.
inline std::int32_t regenerated(const std::int32_t* logits, std::size_t index, const Header& head, const Model& model) {
    if (head.drawn) return drawn(logits, random_number(head.seed, index), model);
    return static_cast<std::int32_t>(std::max_element(logits, logits + model.codebook) - logits);
}

// Returns the number of leading stages whose tokens are all sent: those that hold all, half or a quarter of the grid.
inline std::size_t sent_stages(const Model& model, int mode) {
    std::size_t known = 0, stage = 0;
    const std::size_t positions = static_cast<std::size_t>(model.tile) * model.tile;
    while (known << mode < positions) known += model.stages[stage++].size();
    return stage;
}

struct Place {
    int row = 0, column = 0;
    bool inside = false;  // whether it lies in the image, not in the padding
};

// Returns the positions of a stage in coding order, on a padded grid of tall x wide tokens.
inline std::vector<Place> places(const Model& model, std::size_t stage, int tall, int wide, const Grid& grid) {
    std::vector<Place> found;
    for (int top = 0; top < tall; top += model.tile)
        for (int left = 0; left < wide; left += model.tile)
            for (const auto& [down, right] : model.stages[stage]) {
                const int row = top + down, column = left + right;
                found.push_back({row, column, row < grid.rows && column < grid.columns});
            }
    return found;
}

// Reads a token for each row of logits: the high digits of all tokens, then the low ones (section 3).
inline Tokens read(RangeDecoder& decoder, const std::vector<const std::int32_t*>& rows, const Model& model) {
    const std::size_t codebook = model.codebook;
    int low_bits = 0;
    for (std::size_t size = codebook; size > 3; size >>= 2) ++low_bits;  // floor(log2(codebook) / 2)
    const std::size_t low = std::size_t{1} << low_bits, high = codebook >> low_bits;
    std::vector<std::uint64_t> weights(rows.size() * codebook), sums(high);
    std::vector<std::uint32_t> table;
    Tokens tokens(rows.size());
    // The high digits; the weight of each is the sum over its low digits.
    for (std::size_t index = 0; index < rows.size(); ++index) {
        const std::int32_t best = *std::max_element(rows[index], rows[index] + codebook);
        auto* own = weights.data() + index * codebook;
        for (std::size_t codeword = 0; codeword < codebook; ++codeword)
            own[codeword] = static_cast<std::uint64_t>(model.weights[std::min(best - rows[index][codeword], farthest)]);
        for (std::size_t digit = 0; digit < high; ++digit)
            sums[digit] = std::accumulate(own + digit * low, own + (digit + 1) * low, std::uint64_t{0});
        cumulative(sums.data(), static_cast<int>(high), table);
        tokens[index] = decoder.symbol(table.data(), static_cast<int>(high)) << low_bits;
    }
    // The low digits, given the high ones.
    for (std::size_t index = 0; index < rows.size(); ++index) {
        cumulative(weights.data() + index * codebook + tokens[index], static_cast<int>(low), table);
        tokens[index] += decoder.symbol(table.data(), static_cast<int>(low));
    }
    return tokens;
}

// Compares the check at the end of the payload with that of the tokens.
inline void check(RangeDecoder& decoder, const Tokens& tokens) {
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
        throw Error("The decoded tokens differ from those that were written, because the prior is not exact on this "
                    "machine; run it on another backend.");
}

inline int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Reads the header and refuses files of another prior and images that are too large.
inline Header accepted_header(const Bytes& file, const Model& model, std::int64_t max_pixels) {
    const Header head = header(file);
    if (head.prior_id != model.prior_id)
        throw Error("The file was written with another prior; use the bundle that wrote it.");
    if (std::max(head.width, head.height) > 16384 || std::int64_t{head.width} * head.height > max_pixels)
        throw Error("The image has more pixels than this decoder accepts; raise its limit.");
    return head;
}

}  // namespace detail

// Decodes a file to its grid of tokens, sent and regenerated. Throws Error for a file that must not be decoded;
// `max_pixels` is the largest number of pixels that an image may have.
inline Grid decode(const Bytes& file, const Model& model, const Prior& prior, std::int64_t max_pixels = 1 << 25) {
    const Header head = detail::accepted_header(file, model, max_pixels);
    Grid grid{head.width, head.height, (head.height + 15) / 16, (head.width + 15) / 16, {}};
    grid.tokens.resize(static_cast<std::size_t>(grid.rows) * grid.columns);

    // The edge bits, one for each block of 2x2 tokens.
    RangeDecoder decoder(file, head.payload);
    const int blocks = (grid.columns + 1) / 2;  // in a row
    std::vector<std::uint8_t> edges;
    if (head.mode) edges = detail::edges(decoder, (grid.rows + 1) / 2, blocks, model);

    // The input of the prior: nothing is known inside the image, and there is padding up to whole windows.
    const int tall = detail::rounded_up(grid.rows, model.window), wide = detail::rounded_up(grid.columns, model.window);
    Tokens context(static_cast<std::size_t>(tall) * wide, model.pad);
    for (int row = 0; row < grid.rows; ++row)
        std::fill_n(context.begin() + std::ptrdiff_t{row} * wide, grid.columns, model.unknown);

    const std::size_t sent_stages = detail::sent_stages(model, head.mode), codebook = model.codebook;
    for (std::size_t stage = 0; stage < model.stages.size(); ++stage) {
        const Tokens logits = prior(static_cast<int>(stage), context, tall, wide);
        const auto places = detail::places(model, stage, tall, wide, grid);
        if (logits.size() != places.size() * codebook)
            throw Error("The prior returned a wrong number of logits; return the output of the graph as it is.");

        // Regenerate the lost tokens, and collect the logits of the sent ones.
        std::vector<const std::int32_t*> rows;
        std::vector<detail::Place> sent;
        for (std::size_t index = 0; index < places.size(); ++index) {
            const auto [row, column, inside] = places[index];
            if (!inside) continue;
            const std::int32_t* own = logits.data() + index * codebook;
            if (stage < sent_stages || (head.mode && edges[static_cast<std::size_t>(row / 2) * blocks + column / 2])) {
                rows.push_back(own);
                sent.push_back(places[index]);
                continue;
            }
            const std::size_t raster = static_cast<std::size_t>(row) * grid.columns + column;
            grid.tokens[raster] = detail::regenerated(own, raster, head, model);
        }

        // Read the sent tokens; only they become context of later stages.
        const Tokens tokens = detail::read(decoder, rows, model);
        for (std::size_t index = 0; index < sent.size(); ++index) {
            const auto row = static_cast<std::size_t>(sent[index].row);
            const auto column = static_cast<std::size_t>(sent[index].column);
            grid.tokens[row * grid.columns + column] = context[row * wide + column] = tokens[index];
        }
    }
    detail::check(decoder, grid.tokens);
    return grid;
}

// Converts the planes of the decoder graph, float32 (3, 16 rows, 16 columns) in [0, 1], to the image's bytes, (height,
// width, 3). Values are rounded in the current rounding mode, which is half to even unless the program changed it.
inline Bytes pixels(const Grid& grid, const float* planes) {
    const std::size_t wide = std::size_t{16} * grid.columns, plane = std::size_t{16} * grid.rows * wide;
    Bytes image;
    image.reserve(std::size_t{3} * grid.width * grid.height);
    for (int y = 0; y < grid.height; ++y)
        for (int x = 0; x < grid.width; ++x)
            for (int channel = 0; channel < 3; ++channel) {
                const float value = std::clamp(planes[channel * plane + y * wide + x], 0.0f, 1.0f);
                image.push_back(static_cast<std::uint8_t>(std::nearbyint(value * 255.0f)));
            }
    return image;
}

}  // namespace uigc
