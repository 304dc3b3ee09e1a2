// Reading files, never more than is asked for.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "errors.hpp"
#include "limits.hpp"
#include "model.hpp"
#include "sha256.hpp"

namespace uigc {

// Returns the bytes of a .uigc file. At most one byte more than a file can have is read, however long it is.
inline Bytes read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    Bytes found(limits::file + 1);
    if (file) file.read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(found.size()));
    if (file.bad() || !file.is_open()) throw InputError(path.u8string() + " cannot be read; check the name.");
    found.resize(static_cast<std::size_t>(file.gcount()));
    return found;
}

namespace detail {

// A file of a bundle. Reading beyond its end is an error.
class BundleFile {
   public:
    explicit BundleFile(const std::filesystem::path& path) : name_(path.filename().u8string()) {
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error)) fail("is missing");
        size_ = static_cast<std::uint64_t>(std::filesystem::file_size(path, error));
        if (error) fail("cannot be read");
        stream_.open(path, std::ios::binary);
        if (!stream_) fail("cannot be read");
    }

    [[noreturn]] void fail(const std::string& fault) const {
        throw BundleError("The bundle is not usable: " + name_ + " " + fault + "; export it again.");
    }

    std::uint64_t size() const noexcept { return size_; }

    std::string read(std::uint64_t begin, std::uint64_t count) {
        if (begin > size_ || count > size_ - begin) fail("is cut off");
        std::string found(static_cast<std::size_t>(count), '\0');
        stream_.seekg(static_cast<std::streamoff>(begin));
        if (!stream_.read(found.data(), static_cast<std::streamsize>(count))) fail("is cut off, or cannot be read");
        return found;
    }

    // Returns the SHA-256 of the whole file in hexadecimal.
    std::string hash() {
        Sha256 hash;
        constexpr std::uint64_t step = 1 << 20;
        for (std::uint64_t begin = 0; begin < size_; begin += step) {
            const std::string part = read(begin, std::min(step, size_ - begin));
            hash.update(part.data(), part.size());
        }
        return hash.hexadecimal();
    }

   private:
    std::string name_;
    std::uint64_t size_ = 0;
    std::ifstream stream_;
};

}  // namespace detail
}  // namespace uigc
