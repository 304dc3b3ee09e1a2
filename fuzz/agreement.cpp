// What the decoder in C++ makes of many inputs, one line for each, in one process (fuzz/agreement.py compares):
//
//     agreement limits
//     agreement files BUNDLE TABLES MAX_PIXELS FOLDER    a line `NAME CODE DETAIL` for each .uigc file in FOLDER
//     agreement bundles FOLDER                           the same for each bundle in FOLDER
//
// CODE is an exit code, 0 for what is accepted. DETAIL is then the size of the image and the CRC-32 of the grid, or the
// number of stages, the limit on pixels and the CRC-32 of the model; otherwise it is the sentence. TABLES holds those of
// fuzz/stand_in.py, little-endian int32 (stages, kinds, columns).

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bundle.hpp"
#include "uigc.hpp"

namespace {

namespace fs = std::filesystem;

constexpr int kinds = 97;

std::string checksum(const uigc::Tokens& numbers) {
    uigc::Bytes bytes;
    for (const std::int32_t number : numbers)
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(number) >> shift));
    char text[9];
    std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(uigc::crc32(bytes.data(), bytes.size())));
    return text;
}

// Returns the prior of fuzz/stand_in.py: predictions that depend on a token and its neighbours above and to the left.
uigc::Prior stand_in(const uigc::Model& model, const uigc::Tokens& table) {
    return [&model, &table](int stage, const uigc::Tokens& tokens, int rows, int columns) {
        const auto token = [&](int row, int column) {
            const int y = (row + rows) % rows, x = (column + columns) % columns;
            return tokens[static_cast<std::size_t>(y * columns + x)];
        };
        const auto each = static_cast<std::ptrdiff_t>(uigc::row_length(model));
        uigc::Tokens predictions;
        for (int top = 0; top < rows; top += model.tile)
            for (int left = 0; left < columns; left += model.tile)
                for (const auto& [down, right] : model.stages[static_cast<std::size_t>(stage)]) {
                    const int y = top + down, x = left + right;
                    const int kind = (token(y, x) * 5 + token(y - 1, x) * 3 + token(y, x - 1)) % kinds;
                    const auto row = table.begin() + (std::ptrdiff_t{stage} * kinds + kind) * each;
                    predictions.insert(predictions.end(), row, row + each);
                }
        return predictions;
    };
}

uigc::Tokens read_table(const fs::path& path) {
    uigc::detail::BundleFile file(path);
    const std::string raw = file.read(0, file.size());
    uigc::Tokens table;
    for (std::size_t begin = 0; begin + 4 <= raw.size(); begin += 4) {
        std::uint32_t value = 0;
        for (std::size_t byte = 4; byte-- > 0;) value = value << 8 | static_cast<std::uint8_t>(raw[begin + byte]);
        table.push_back(static_cast<std::int32_t>(value));
    }
    return table;
}

// Prints what comes of each entry of a folder, in the order of their names.
void print(const fs::path& folder, const std::function<std::string(const fs::path&)>& outcome) {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) {
        std::pair<int, std::string> found{0, ""};
        try {
            found.second = outcome(path);
        } catch (const uigc::Error& error) {
            found = {error.exit_code(), error.what()};
        }
        std::printf("%s %d %s\n", path.filename().u8string().c_str(), found.first, found.second.c_str());
        std::fflush(stdout);  // what is printed when the process crashes tells where
    }
}

void files(const char* folder, const char* predictions, const char* max_pixels, const char* inputs) {
    const uigc::Bundle bundle = uigc::load(folder);
    const uigc::Tokens table = read_table(predictions);
    const uigc::Prior prior = stand_in(bundle.model, table);
    const std::int64_t limit = std::stoll(max_pixels);
    print(inputs, [&](const fs::path& path) {
        const uigc::Grid grid = uigc::decode(uigc::read_file(path), bundle.model, prior, limit);
        return std::to_string(grid.height) + " " + std::to_string(grid.width) + " " + checksum(grid.tokens);
    });
}

// Returns everything of a bundle that decides symbols, and its limit on the size of images.
std::string described(const uigc::Bundle& bundle) {
    const uigc::Model& model = bundle.model;
    uigc::Tokens numbers{model.codebook, model.window, model.unknown, model.pad, model.tile};
    numbers.insert(numbers.end(), model.prior_id.begin(), model.prior_id.end());
    numbers.push_back(static_cast<std::int32_t>(uigc::row_length(model)));
    for (const auto& stage : model.stages)
        for (const auto& [row, column] : stage) numbers.insert(numbers.end(), {row, column});
    numbers.insert(numbers.end(), model.weights.begin(), model.weights.end());
    numbers.insert(numbers.end(), model.mask.begin(), model.mask.end());
    return std::to_string(bundle.stages()) + " " + std::to_string(bundle.max_pixels()) + " " + checksum(numbers);
}

void limits() {
    using namespace uigc::limits;
    const std::vector<std::pair<const char*, std::uint64_t>> all{
        {"patch", patch}, {"side", side}, {"pixels", pixels}, {"whole_pixels", whole_pixels}, {"payload", payload},
        {"file", file}, {"logit", logit}, {"codebook", codebook}, {"window", window}, {"tile", tile}, {"halo", halo},
        {"layers", layers}, {"heads", heads}, {"width", width}, {"weight", weight}, {"probability", probability},
        {"farthest", farthest}, {"summed_exactly", summed_exactly}, {"contexts", contexts}, {"manifest", manifest},
        {"weights_header", weights_header},
        {"name", name}, {"dimensions", dimensions}, {"json_depth", json_depth}, {"json_values", json_values},
        {"json_number", json_number}};
    for (const auto& [key, value] : all) std::printf("%s %llu\n", key, static_cast<unsigned long long>(value));
    for (int size = smallest_codebook; size <= codebook; size *= 2)
        std::printf("sums_%d %d\n", size, static_cast<int>(uigc::detail::has_sums(4, size)));
}

}  // namespace

int main(int count, char** arguments) {
    const std::string mode = count > 1 ? arguments[1] : "";
    if (mode == "limits" && count == 2) {
        limits();
    } else if (mode == "files" && count == 6) {
        files(arguments[2], arguments[3], arguments[4], arguments[5]);
    } else if (mode == "bundles" && count == 3) {
        print(arguments[2], [](const fs::path& path) { return described(uigc::load(path)); });
    } else {
        return 2;
    }
    return 0;
}
