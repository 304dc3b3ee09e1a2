// Which tokens a file holds: the edge bits, and the stages that are sent whole (docs/FORMAT.md, sections 2 and 3).

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "entropy_coder.hpp"
#include "model.hpp"

namespace uigc::detail {

// The edge bits, one for each block of 2x2 tokens; none is set in mode `entire`.
class Edges {
   public:
    Edges(int rows, int columns)
        : rows_((rows + 1) / 2), columns_((columns + 1) / 2),
          bits_(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(columns_)) {}

    // Returns the bit of the block that a token lies in.
    bool of_token(int row, int column) const { return bits_[place(row / 2, column / 2)] != 0; }

    // Reads all bits. The context of a bit `?` is made of ten earlier bits; 9 is the most significant one:
    //
    //     . 9 8 7 .     two rows up
    //     6 5 4 3 2     one row up
    //     1 0 ?         the current row
    void read(RangeDecoder& decoder, const Model& model) {
        constexpr std::array<std::pair<int, int>, 10> earlier{
            {{-2, -1}, {-2, 0}, {-2, 1}, {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1}, {-1, 2}, {0, -2}, {0, -1}}};
        for (int y = 0; y < rows_; ++y) {
            for (int x = 0; x < columns_; ++x) {
                std::size_t context = 0;
                for (const auto& [down, right] : earlier) {
                    const int row = y + down, column = x + right;
                    const bool inside = row >= 0 && column >= 0 && column < columns_;
                    context = 2 * context + (inside ? bits_[place(row, column)] : 0u);
                }
                const std::uint32_t one = 256u * static_cast<std::uint32_t>(model.mask[context]);
                const std::array<std::uint32_t, 3> table{0, total - one, total};
                bits_[place(y, x)] = static_cast<std::uint8_t>(decoder.symbol(table.data(), 2));
            }
        }
    }

   private:
    std::size_t place(int row, int column) const noexcept {
        return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns_) + static_cast<std::size_t>(column);
    }

    int rows_, columns_;
    std::vector<std::uint8_t> bits_;
};

// Returns the number of leading stages whose tokens are all sent: those that hold all, half or a quarter of the grid.
inline std::size_t sent_stages(const Model& model, int mode) {
    std::size_t known = 0, stage = 0;
    const std::size_t positions = static_cast<std::size_t>(model.tile) * static_cast<std::size_t>(model.tile);
    while (known << mode < positions) known += model.stages[stage++].size();
    return stage;
}

}  // namespace uigc::detail
