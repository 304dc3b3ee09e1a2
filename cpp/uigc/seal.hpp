// The seal of a manifest: the SHA-256 of its bytes with zeros in the place of the seal's own digits (docs/BUNDLE.md).

#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "sha256.hpp"

namespace uigc::detail {

// Returns whether the text of a manifest has exactly one seal, and it fits.
inline bool is_sealed(const std::string& text) {
    const std::string key = "\"seal\": \"";
    constexpr std::size_t digits = 64;
    const auto is_digit = [](char digit) { return ('0' <= digit && digit <= '9') || ('a' <= digit && digit <= 'f'); };
    std::size_t count = 0, place = 0;
    for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) {
        const std::string seal = text.substr(at + key.size(), digits + 1);
        if (seal.size() != digits + 1 || seal.back() != '"' || !std::all_of(seal.begin(), seal.end() - 1, is_digit))
            continue;
        place = at + key.size();
        ++count;
    }
    if (count != 1) return false;
    const std::string blank(digits, '0');
    Sha256 hash;
    hash.update(text.data(), place);
    hash.update(blank.data(), digits);
    hash.update(text.data() + place + digits, text.size() - place - digits);
    return hash.hexadecimal() == text.substr(place, digits);
}

}  // namespace uigc::detail
