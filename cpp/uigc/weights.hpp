// The tables of weights.safetensors. Its layout is 8 little-endian bytes with the length of a JSON header, the header,
// and the tensors, one after another (https://github.com/huggingface/safetensors, "Format").

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "files.hpp"
#include "json.hpp"
#include "limits.hpp"
#include "model.hpp"

namespace uigc::detail {

// A tensor's type and shape, and where its bytes lie behind the header.
struct Tensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;
};

// Returns the bytes of one element, 0 for a type that no bundle has.
inline std::uint64_t item_size(const std::string& dtype) {
    static const std::map<std::string, std::uint64_t> sizes{{"F64", 8}, {"I64", 8}, {"F32", 4}, {"I32", 4}, {"F16", 2},
                                                            {"I16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};
    const auto found = sizes.find(dtype);
    return found == sizes.end() ? 0 : found->second;
}

class Weights {
   public:
    explicit Weights(const std::filesystem::path& path) : file_(path) {
        std::uint64_t length = file_.size() < 8 ? 0 : integer(file_.read(0, 8), 0, 8);
        if (length < 2 || length > limits::weights_header || length > file_.size() - 8)
            file_.fail("is not a safetensors file");
        start_ = 8 + length;
        const Json header = JsonReader::read(file_.read(8, length));
        if (!header.is_object()) file_.fail("has a header that lists no tensors");
        for (const auto& [name, entry] : header.members)
            if (name != "__metadata__") tensors_.emplace(name, tensor(name, entry));
        expect_no_gaps();
    }

    // Returns the entry of a tensor.
    const Tensor& at(const std::string& name) const {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) file_.fail("has no tensor '" + name + "'");
        return found->second;
    }

    // Reads a table of `length` integers from 1 to `largest`.
    Tokens table(const std::string& name, int length, int largest) {
        const Tensor& found = at(name);
        const std::uint64_t size = item_size(found.dtype);
        const bool whole = found.dtype[0] == 'I' || found.dtype[0] == 'U';
        if (!whole || found.shape != std::vector<std::int64_t>{length}) file_.fail(fault_of(name, length, largest));
        const std::string raw = file_.read(start_ + found.begin, found.end - found.begin);
        Tokens entries;
        for (std::size_t begin = 0; begin < raw.size(); begin += size) {
            const std::uint64_t entry = integer(raw, begin, size);  // one below 0 is larger than all others
            if (entry < 1 || entry > static_cast<std::uint64_t>(largest) || negative(found.dtype, raw, begin + size))
                file_.fail(fault_of(name, length, largest));
            entries.push_back(static_cast<std::int32_t>(entry));
        }
        return entries;
    }

    // Refuses a codebook that is not one row of finite numbers for each codeword, or is all zeros.
    void expect_codebook(const std::string& name, int codewords) {
        const Tensor& found = at(name);
        const std::uint64_t size = item_size(found.dtype);
        // The bits of an exponent; a number that has them all is infinite or none.
        const std::uint64_t exponent = found.dtype == "F16"   ? 0x7C00u
                                       : found.dtype == "F32" ? 0x7F800000u
                                       : found.dtype == "F64" ? 0x7FF0000000000000u
                                                              : 0u;
        const std::uint64_t sign = exponent ? std::uint64_t{1} << (8 * size - 1) : 0;
        bool finite = true, zeros = true;
        const std::string raw = file_.read(start_ + found.begin, found.end - found.begin);
        for (std::size_t begin = 0; begin < raw.size(); begin += size) {
            const std::uint64_t bits = integer(raw, begin, size);
            finite = finite && (exponent == 0 || (bits & exponent) != exponent);
            zeros = zeros && (bits & ~sign) == 0;
        }
        if (found.shape.size() != 2 || found.shape[0] != codewords || !finite || zeros)
            file_.fail("has a table '" + name + "' that is not a codebook");
    }

   private:
    static std::string fault_of(const std::string& name, int length, int largest) {
        return "has a table '" + name + "' that is not " + std::to_string(length) + " integers from 1 to " +
               std::to_string(largest);
    }

    static std::uint64_t integer(const std::string& raw, std::size_t begin, std::size_t count) noexcept {
        std::uint64_t value = 0;  // little-endian
        while (count-- > 0) value = value << 8 | static_cast<std::uint8_t>(raw[begin + count]);
        return value;
    }

    static bool negative(const std::string& dtype, const std::string& raw, std::size_t end) noexcept {
        return dtype[0] == 'I' && static_cast<std::uint8_t>(raw[end - 1]) >> 7 != 0;
    }

    // Reads the entry of a tensor, whose type, shape and bytes fit each other and the file.
    Tensor tensor(const std::string& name, const Json& entry) const {
        const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
        const std::uint64_t available = file_.size() - start_;
        Tensor found{dtype.text, {}, 0, 0};
        std::uint64_t wanted = item_size(found.dtype);
        const auto are_sizes = [](const Json& list, std::int64_t least) {
            return list.is_array() && std::all_of(list.items.begin(), list.items.end(), [least](const Json& each) {
                return each.is_integer(least, INT64_MAX);
            });
        };
        bool fits = wanted > 0 && are_sizes(shape, 1) && are_sizes(offsets, 0) && offsets.items.size() == 2 &&
                    shape.items.size() <= limits::dimensions;
        if (fits) {
            found.begin = static_cast<std::uint64_t>(offsets.items[0].integer);
            found.end = static_cast<std::uint64_t>(offsets.items[1].integer);
            fits = found.begin <= found.end && found.end <= available;
        }
        for (const Json& side : shape.items) {  // the product stays within the file, and so does not overflow
            fits = fits && wanted <= available / static_cast<std::uint64_t>(side.integer);
            if (!fits) break;
            found.shape.push_back(side.integer);
            wanted *= static_cast<std::uint64_t>(side.integer);
        }
        if (!fits || wanted != found.end - found.begin)
            file_.fail("has a malformed entry of the tensor '" + name + "'");
        return found;
    }

    // Refuses tensors that overlap, and bytes that belong to none.
    void expect_no_gaps() const {
        std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
        for (const auto& [name, tensor] : tensors_) ranges.emplace_back(tensor.begin, tensor.end);
        std::sort(ranges.begin(), ranges.end());
        std::uint64_t end = 0;
        for (const auto& [begin, next] : ranges) {
            if (begin != end) file_.fail("has tensors that overlap, or gaps between them");
            end = next;
        }
        if (end != file_.size() - start_) file_.fail("has bytes behind its tensors");
    }

    BundleFile file_;
    std::uint64_t start_ = 0;  // of the tensors
    std::map<std::string, Tensor> tensors_;
};

}  // namespace uigc::detail
