// The header of a .uigc file (docs/FORMAT.md, section 1).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "errors.hpp"
#include "limits.hpp"
#include "model.hpp"

namespace uigc {

struct Header {
    int width = 0, height = 0;  // in pixels
    int mode = 0;               // 0 entire, 1 edge, 2 edge_more
    bool drawn = false;         // whether lost tokens are drawn, with this seed
    std::uint8_t seed = 0;
    PriorId prior_id{};
    std::size_t payload = 0;  // offset of the payload in the file
};

inline std::uint32_t crc32(const std::uint8_t* data, std::size_t size, std::uint32_t crc = 0) noexcept {
    crc = ~crc;
    for (std::size_t i = 0; i < size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

namespace detail {

constexpr std::size_t fixed = 13;  // bytes before the first number of variable length

// Reads bytes and numbers one after another; none lies behind the end of the file.
class Cursor {
   public:
    explicit Cursor(const Bytes& file) : file_(file) {}

    std::size_t position() const noexcept { return position_; }

    std::uint8_t byte() {
        if (position_ >= file_.size())
            throw CorruptFileError("The file is truncated: its header goes on; fetch it again.");
        return file_[position_++];
    }

    // Reads a number of at most `longest` bytes; leading zero groups are refused.
    int number(int longest) {
        int value = 0;
        for (int index = 0; index < longest; ++index) {
            const int group = byte();
            if (index == 0 && group == 0x80) break;
            value = value << 7 | (group & 0x7F);
            if (group < 0x80) return value;
        }
        throw CorruptFileError("The file's header holds a malformed number; fetch the file again.");
    }

   private:
    const Bytes& file_;
    std::size_t position_ = fixed;
};

inline bool checksum_holds(const Bytes& file) noexcept {
    const std::uint32_t stated = std::uint32_t{file[9]} << 24 | std::uint32_t{file[10]} << 16 |
                                 std::uint32_t{file[11]} << 8 | std::uint32_t{file[12]};
    return crc32(file.data() + fixed, file.size() - fixed, crc32(file.data(), 9)) == stated;
}

// Refuses what is no .uigc file, or ends before its fixed fields do.
inline void expect_beginning(const Bytes& file) {
    constexpr std::uint8_t magic[] = {'U', 'I', 'G'};
    if (file.empty())
        throw UnrecognizedFileError("The file is empty, and a .uigc file was expected; check how it was written.");
    if (!std::equal(magic, magic + std::min<std::size_t>(3, file.size()), file.begin()))
        throw UnrecognizedFileError(
            "The file does not begin with 'UIG', so it is not a .uigc file; give one that uigc wrote.");
    if (file.size() < fixed) throw CorruptFileError("The file is truncated: its header goes on; fetch it again.");
}

}  // namespace detail

// Reads and checks everything before the payload.
inline Header header(const Bytes& file) {
    detail::expect_beginning(file);
    // Byte 4: the mask mode, plus 16 if lost tokens are drawn, which mode 0 (no token is lost) excludes.
    const int version = file[3], setting = file[4];
    const bool known = setting <= 2 || setting == 17 || setting == 18, sound = detail::checksum_holds(file);
    // A newer version or mode is reported only if the file is intact; otherwise it is damage.
    if (sound && version != 1)
        throw UnsupportedVersionError("The file has format version " + std::to_string(version) +
                                      " and this decoder reads version 1; update this decoder.");
    if (sound && !known)
        throw UnsupportedVersionError("The file uses the mask mode " + std::to_string(setting) +
                                      ", which this decoder does not know; update this decoder.");
    detail::Cursor cursor(file);
    Header found;
    found.width = cursor.number(2) + 1;
    found.height = cursor.number(2) + 1;
    found.drawn = (setting & 16) != 0;
    if (found.drawn) found.seed = cursor.byte();
    const auto length = static_cast<std::size_t>(cursor.number(3));
    found.payload = cursor.position();
    if (file.size() != found.payload + length)
        throw CorruptFileError("The file has " + std::to_string(file.size()) + " bytes and " +
                               std::to_string(found.payload + length) + " were expected; fetch it again.");
    if (!sound)
        throw CorruptFileError("The file is damaged: its checksum does not match its contents; fetch it again.");
    found.mode = setting & 15;
    std::copy_n(file.begin() + 5, found.prior_id.size(), found.prior_id.begin());
    return found;
}

namespace detail {

// Reads the header and refuses files of another prior and images that are too large.
inline Header accepted_header(const Bytes& file, const PriorId& own, std::int64_t max_pixels) {
    const Header head = header(file);
    if (head.prior_id != own)
        throw PriorMismatchError("The file was written with another prior; use the bundle that wrote it.");
    if (std::max(head.width, head.height) > limits::side || std::int64_t{head.width} * head.height > max_pixels)
        throw TooLargeError("The image is " + std::to_string(head.width) + "x" + std::to_string(head.height) +
                            " pixels, and at most " + std::to_string(limits::side) + " a side and " +
                            std::to_string(max_pixels) + " in all are accepted; raise the limit on its pixels.");
    return head;
}

}  // namespace detail
}  // namespace uigc
