// uigc-decode BUNDLE FILE.uigc OUT.ppm: decode a .uigc file to an image with ONNX Runtime, without Python.
// uigc-decode --tokens BUNDLE FILE.uigc: print its grid of tokens, a line for each row.
//
// It ends with the exit codes of the command `uigc` (docs/CLI.md), and with one sentence on standard error if it fails.
// The image is written completely or not at all, and never over a file that exists.

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "codec.hpp"

namespace {

namespace fs = std::filesystem;

// Returns the bytes of a PPM file.
std::string ppm_of(const uigc::Image& image) {
    std::string file = "P6\n" + std::to_string(image.width) + " " + std::to_string(image.height) + "\n255\n";
    return file.append(image.pixels.begin(), image.pixels.end());
}

void print(const uigc::Grid& grid) {
    for (int row = 0; row < grid.rows; ++row)
        for (int column = 0; column < grid.columns; ++column)
            std::printf("%d%c", grid.tokens[uigc::detail::at(row, grid.columns, column)],
                        column + 1 < grid.columns ? ' ' : '\n');
    if (std::fflush(stdout) || std::ferror(stdout))
        throw uigc::OutputError("Standard output cannot be written; check the disk, or what reads it.");
}

void expect_free(const fs::path& out) {
    std::error_code error;
    if (fs::exists(fs::symlink_status(out, error)))
        throw uigc::OutputError(out.u8string() + " exists; give another name.");
}

// Writes a file completely or not at all: under a name of its own first, then under the one asked for.
void write(const fs::path& out, const std::string& data) {
    const fs::path part = fs::path(out).concat("." + std::to_string(std::random_device{}()) + ".part");
    const auto unwritable = [&] {
        return uigc::OutputError(out.u8string() + " cannot be written; check the name, the folder and the disk.");
    };
    std::error_code error;
    {
        std::ofstream file(part, std::ios::binary);
        file.write(data.data(), static_cast<std::streamsize>(data.size()));
        file.close();
        if (!file) {
            fs::remove(part, error);
            throw unwritable();
        }
    }
    fs::create_hard_link(part, out, error);  // fails where there is a file already
    std::error_code ignored;
    if (error && !fs::exists(out, ignored)) fs::rename(part, out, error);  // a file system without hard links
    fs::remove(part, ignored);
    if (error) {
        expect_free(out);
        throw unwritable();
    }
}

// Reads a file and looks at its header, before anything of the bundle is opened.
uigc::Bytes read(const char* path) {
    uigc::Bytes data = uigc::read_file(fs::u8path(path));
    uigc::header(data);
    return data;
}

void run(const std::vector<std::string>& arguments) {
    const bool tokens = arguments.front() == "--tokens";
    const std::string& folder = arguments[tokens ? 1 : 0];
    const fs::path out = tokens ? fs::path() : fs::u8path(arguments[2]);
    if (!tokens) expect_free(out);
    const uigc::Bytes data = read(arguments[tokens ? 2 : 1].c_str());
    const uigc::Codec codec(fs::u8path(folder));
    if (tokens) print(codec.decode_tokens(data));
    else write(out, ppm_of(codec.decompress(data)));
}

}  // namespace

int main(int count, char** words) {
    if (count != 4) {
        const char* const name = count ? words[0] : "uigc-decode";
        std::fprintf(stderr, "usage: %s BUNDLE FILE.uigc OUT.ppm\n       %s --tokens BUNDLE FILE.uigc\n", name, name);
        return static_cast<int>(uigc::ExitCode::usage);
    }
    try {
        run({words + 1, words + count});
    } catch (const uigc::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return error.exit_code();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "Unexpected: %s.\n", error.what());
        return static_cast<int>(uigc::ExitCode::internal);
    }
    return 0;
}
