// SHA-256 (FIPS 180-4), with which a bundle's files are compared with its manifest.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "sha256_x86.hpp"

namespace uigc::detail {

class Sha256 {
   public:
    void update(const char* data, std::size_t size) noexcept {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(data);
        length_ += size;
        if (filled_ > 0) {
            const std::size_t taken = std::min(size, block_.size() - filled_);
            std::copy_n(bytes, taken, block_.data() + filled_);
            bytes += taken;
            size -= taken;
            filled_ += taken;
            if (filled_ < block_.size()) return;
            compress(block_.data(), 1);
        }
        compress(bytes, size / block_.size());
        filled_ = size % block_.size();
        std::copy_n(bytes + (size - filled_), filled_, block_.data());
    }

    // Returns the hash of everything so far in hexadecimal, and ends it.
    std::string hexadecimal() {
        const std::uint64_t bits = length_ * 8;
        const char one = '\x80', zero = '\0';
        update(&one, 1);
        while (filled_ != 56) update(&zero, 1);
        for (int shift = 56; shift >= 0; shift -= 8) {
            const char byte = static_cast<char>(static_cast<std::uint8_t>(bits >> shift));
            update(&byte, 1);
        }
        std::string found;
        for (const std::uint32_t word : state_)
            for (int shift = 28; shift >= 0; shift -= 4) found += "0123456789abcdef"[word >> shift & 15];
        return found;
    }

   private:
    static std::uint32_t rotated(std::uint32_t value, int count) noexcept {
        return value >> count | value << (32 - count);
    }

    void compress(const std::uint8_t* data, std::size_t blocks) noexcept {
        static constexpr std::array<std::uint32_t, 64> constants{
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
            0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
            0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
            0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
            0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
            0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
            0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
#ifdef UIGC_SHA256_X86
        if (has_sha_instructions()) return compress_by_instructions(state_.data(), data, blocks, constants.data());
#endif
        for (; blocks > 0; --blocks, data += 64) compress_one(data, constants);
    }

    void compress_one(const std::uint8_t* data, const std::array<std::uint32_t, 64>& constants) noexcept {
        std::array<std::uint32_t, 64> words{};
        for (std::size_t index = 0; index < 16; ++index)
            for (std::size_t byte = 0; byte < 4; ++byte) words[index] = words[index] << 8 | data[4 * index + byte];
        for (std::size_t index = 16; index < 64; ++index) {
            const std::uint32_t early = words[index - 15], late = words[index - 2];
            words[index] = words[index - 16] + (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) +
                           words[index - 7] + (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
        }
        auto [a, b, c, d, e, f, g, h] = state_;
        for (std::size_t index = 0; index < 64; ++index) {
            const std::uint32_t first = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) +
                                        constants[index] + words[index];
            const std::uint32_t second =
                (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
        }
        const std::array<std::uint32_t, 8> added{a, b, c, d, e, f, g, h};
        for (std::size_t index = 0; index < 8; ++index) state_[index] += added[index];
    }

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> block_{};
    std::size_t filled_ = 0;
    std::uint64_t length_ = 0;  // bytes
};

}  // namespace uigc::detail
