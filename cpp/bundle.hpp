// Reads the parts of a bundle that the decoder needs: manifest.json and two tables of weights.safetensors.
//
// It contains a minimal JSON reader, just enough for these two files, so that the example builds with nothing but a
// compiler. If your program has a JSON library, use that instead.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "uigc.hpp"

namespace uigc {

struct Json {  // a value: text, an integer, an array or an object
    std::string text;
    std::int64_t number = 0;
    std::vector<Json> items;
    std::map<std::string, Json> members;

    const Json& at(const std::string& key) const {
        const auto found = members.find(key);
        if (found == members.end()) throw Error("The bundle lacks '" + key + "'; export it again.");
        return found->second;
    }
};

class JsonReader {
   public:
    explicit JsonReader(const std::string& text) : next_(text.c_str()) {}

    Json value() {
        Json found;
        const char first = skip();
        if (first == '{') {
            for (++next_; skip() != '}'; comma('}')) {
                const std::string key = string();
                expect(':');
                found.members[key] = value();
            }
            ++next_;
        } else if (first == '[') {
            for (++next_; skip() != ']'; comma(']')) found.items.push_back(value());
            ++next_;
        } else if (first == '"') {
            found.text = string();
        } else {
            while (*next_ && !std::strchr(",]} \n\r\t", *next_)) found.text += *next_++;
            found.number = std::strtoll(found.text.c_str(), nullptr, 10);
        }
        return found;
    }

   private:
    char skip() {  // to the next character that is not white space
        while (*next_ && std::strchr(" \n\r\t", *next_)) ++next_;
        if (!*next_) throw Error("The bundle's JSON is cut off; copy the bundle again.");
        return *next_;
    }

    void expect(char wanted) {
        if (skip() != wanted) throw Error(std::string("The bundle's JSON lacks a '") + wanted + "'; copy it again.");
        ++next_;
    }

    void comma(char end) {
        if (skip() != end) expect(',');
    }

    std::string string() {  // the only escapes in a bundle's keys and file names are those of quotes and backslashes
        std::string found;
        for (expect('"'); *next_ && *next_ != '"'; ++next_) {
            if (*next_ == '\\' && next_[1]) ++next_;
            found += *next_;
        }
        expect('"');
        return found;
    }

    const char* next_;
};

// Returns the bytes of a file.
inline std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error("Cannot read " + path + "; check its name.");
    return {std::istreambuf_iterator<char>(file), {}};
}

struct Bundle {
    std::string folder;
    Json manifest;
    Model model;

    // Returns the path of a graph, such as "stage0", in a precision that the bundle has.
    std::string graph(const std::string& name, const std::string& precision) const {
        const Json& kinds = manifest.at("graphs").at(name).at("precisions");
        return folder + "/" + kinds.at(precision).at("file").text;
    }
};

// Loads a bundle from its folder. Hashes are not checked here; `uigc doctor` checks them.
inline Bundle load(const std::string& folder) {
    Bundle bundle{folder, JsonReader(contents(folder + "/manifest.json")).value(), {}};
    const Json& manifest = bundle.manifest;
    if (manifest.at("format").text != "uigc-bundle" || manifest.at("version").number != 2)
        throw Error("The folder is not a bundle of version 2, which this decoder reads; export it again.");
    const Json &prior = manifest.at("prior"), &schedule = manifest.at("schedule");
    Model& model = bundle.model;
    for (std::size_t index = 0; index < model.prior_id.size(); ++index)
        model.prior_id[index] =
            static_cast<std::uint8_t>(std::stoi(prior.at("id").text.substr(2 * index, 2), nullptr, 16));
    const auto integer = [](const Json& from, const char* key) { return static_cast<int>(from.at(key).number); };
    model.codebook = integer(prior, "codebook");
    model.window = integer(prior, "window");
    model.unknown = integer(prior, "unknown");
    model.pad = integer(prior, "pad");
    model.tile = integer(schedule, "tile");
    for (const Json& stage : schedule.at("stages").items) {
        model.stages.emplace_back();
        for (const Json& position : stage.items)
            model.stages.back().emplace_back(position.items.at(0).number, position.items.at(1).number);
    }

    // A safetensors file holds 8 little-endian bytes with the length of its JSON, the JSON, and the tensors. Only two
    // of them are read here; the networks read the rest.
    std::ifstream weights(folder + "/" + manifest.at("weights").at("file").text, std::ios::binary);
    const auto bytes = [&](std::int64_t begin, std::int64_t end) {
        std::string found(static_cast<std::size_t>(end - begin), '\0');
        if (!weights.seekg(begin).read(found.data(), end - begin))
            throw Error("The bundle's weights are cut off, or cannot be read; copy the bundle again.");
        return found;
    };
    const auto little_endian = [](const std::string& from, std::size_t begin, int count) {
        std::uint64_t value = 0;
        while (count--) value = value << 8 | static_cast<std::uint8_t>(from[begin + count]);
        return value;
    };
    const auto data = static_cast<std::int64_t>(8 + little_endian(bytes(0, 8), 0, 8));
    const Json tensors = JsonReader(bytes(8, data)).value();
    const auto table = [&](const char* name) {
        const auto& offsets = tensors.at(name).at("data_offsets").items;
        const std::string raw = bytes(data + offsets.at(0).number, data + offsets.at(1).number);
        Tokens entries;
        for (std::size_t begin = 0; begin < raw.size(); begin += 4)
            entries.push_back(static_cast<std::int32_t>(little_endian(raw, begin, 4)));
        return entries;
    };
    model.weights = table("coder.weights");
    model.mask = table("mask.table");
    return bundle;
}

}  // namespace uigc
