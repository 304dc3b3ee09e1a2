// Reading what the decoder needs from a bundle's folder: manifest.json and two tables of weights.safetensors.
//
// It comes with the little of a JSON reader that these two files need, so that the example builds with a compiler
// alone; in a program that has a JSON library, use that.

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

struct Json {  // a value: text, a whole number, or what holds others
    std::string text;
    std::int64_t number = 0;
    std::vector<Json> items;
    std::map<std::string, Json> members;

    const Json& at(const std::string& key) const {
        const auto found = members.find(key);
        if (found == members.end()) throw Error("The bundle does not state '" + key + "'; export it again.");
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
    char skip() {
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

    std::string string() {  // keys and file names of a bundle have no escapes but those of quotes and backslashes
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

inline std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error("Cannot read " + path + "; check its name.");
    return {std::istreambuf_iterator<char>(file), {}};
}

struct Bundle {
    std::string folder;
    Json manifest;
    Model model;

    // The path of a graph, such as "stage0", in a precision that the bundle has it in.
    std::string graph(const std::string& name, const std::string& precision) const {
        const Json& kinds = manifest.at("graphs").at(name).at("precisions");
        return folder + "/" + kinds.at(precision).at("file").text;
    }
};

// Hashes are not checked here: `uigc doctor` does.
inline Bundle load(const std::string& folder) {
    Bundle bundle{folder, JsonReader(contents(folder + "/manifest.json")).value(), {}};
    const Json& manifest = bundle.manifest;
    if (manifest.at("format").text != "uigc-bundle" || manifest.at("version").number != 2)
        throw Error("The bundle's version is not 2, which this decoder reads; export it again.");
    const Json &prior = manifest.at("prior"), &schedule = manifest.at("schedule");
    Model& model = bundle.model;
    for (std::size_t index = 0; index < model.prior.size(); ++index)
        model.prior[index] =
            static_cast<std::uint8_t>(std::stoi(prior.at("id").text.substr(2 * index, 2), nullptr, 16));
    const auto whole = [](const Json& from, const char* key) { return static_cast<int>(from.at(key).number); };
    model.codebook = whole(prior, "codebook");
    model.window = whole(prior, "window");
    model.unknown = whole(prior, "unknown");
    model.pad = whole(prior, "pad");
    model.tile = whole(schedule, "tile");
    for (const Json& stage : schedule.at("stages").items) {
        model.stages.emplace_back();
        for (const Json& position : stage.items)
            model.stages.back().emplace_back(position.items.at(0).number, position.items.at(1).number);
    }

    // safetensors: the length of the JSON as 8 little-endian bytes, the JSON, the tensors; most are the networks' own.
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
