// The checks of manifest.json (docs/BUNDLE.md, section 2): what runtime/bundle/manifest.py refuses is refused here.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "files.hpp"
#include "json.hpp"
#include "limits.hpp"
#include "model.hpp"

namespace uigc::detail {

inline void expect(bool holds, const std::string& fault) {
    if (!holds) throw BundleError("The bundle is not usable: " + fault + "; export it again.");
}

inline bool is_hash(const Json& value) {  // a SHA-256 in hexadecimal
    const auto is_digit = [](char digit) { return ('0' <= digit && digit <= '9') || ('a' <= digit && digit <= 'f'); };
    return value.text.size() == 64 && std::all_of(value.text.begin(), value.text.end(), is_digit);
}

// Returns the stages of the schedule; expect_sound() compares them with the tile.
inline std::vector<std::vector<std::pair<int, int>>> stages_of(const Json& schedule) {
    const std::string fault = "the schedule is invalid";
    std::vector<std::vector<std::pair<int, int>>> stages;
    expect(schedule["stages"].is_array() && schedule["tile"].is_integer(1, limits::tile), fault);
    for (const Json& stage : schedule["stages"].items) {
        expect(stage.is_array(), fault);
        stages.emplace_back();
        for (const Json& position : stage.items) {
            expect(position.is_array() && position.items.size() == 2, fault);
            for (const Json& place : position.items) expect(place.is_integer(0, limits::tile - 1), fault);
            stages.back().emplace_back(static_cast<int>(position.items[0].integer),
                                       static_cast<int>(position.items[1].integer));
        }
    }
    return stages;
}

inline void expect_prior(const Json& prior) {
    const Json &config = prior["config"], &codebook = prior["codebook"], &window = prior["window"];
    expect(config.is_object(), "prior.config is missing");
    expect(codebook.is_integer(limits::smallest_codebook, limits::codebook), "the codebook has no size from 4 to 4096");
    expect(prior["unknown"].is(codebook.integer) && prior["pad"].is(codebook.integer + 1),
           "prior.unknown and prior.pad do not follow the codewords");
    expect(window.is_integer(1, limits::window), "the window is not 1 to 256 tokens wide");
    const std::array<std::pair<const char*, int>, 3> sizes{
        {{"layers", limits::layers}, {"heads", limits::heads}, {"width", limits::width}}};
    for (const auto& [name, largest] : sizes)
        expect(config[name].is_integer(1, largest), std::string("prior.config.") + name + " is not in range");
    expect(config["codebook"].is(codebook.integer) && config["window"].is(window.integer),
           "prior.codebook or prior.window is not that of prior.config");
    expect(is_hash(prior["id"]), "prior.id is not a SHA-256 in hexadecimal");
}

// Checks the inputs or outputs of a graph: one tensor, of that name and type.
inline void expect_tensor(const std::string& graph, const Json& list, const char* name, const char* dtype) {
    std::size_t found = 0, right = 0;
    for (const Json& tensor : list.items) {
        if (!tensor.is_object()) continue;
        ++found;
        right += tensor["name"].is(name) && tensor["dtype"].is(dtype);
    }
    expect(found == 1 && right == 1, "a tensor of '" + graph + "' is not " + name + " " + dtype);
}

// A bundle with an encoder has all graphs in fp32; one that only decodes has them in the precisions that it was given.
inline void expect_graph(const std::string& name, const Json& graph, int version, bool encodes, const char* output) {
    expect(graph.is_object(), "the graph '" + name + "' is not in the manifest");
    const bool encoder = name == "encoder", decoder = name == "decoder";
    const char* const pixels = version >= 3 ? "uint8" : "float32";
    expect_tensor(name, graph["inputs"], encoder ? "image" : "tokens", encoder ? pixels : "int32");
    expect_tensor(name, graph["outputs"], encoder ? "tokens" : decoder ? "image" : output,
                  decoder ? pixels : "int32");
    const Json& halo = graph["halo"];
    expect(halo.kind == Json::Kind::null || halo.is(0) || halo.is_integer(1, limits::halo),
           "the halo of '" + name + "' is no number of tokens");
    const Json& precisions = graph["precisions"];
    expect(encodes ? precisions["fp32"].is_object() : !precisions.members.empty(),
           "'" + name + "' has no precision" + (encodes ? " fp32" : ""));
    for (const auto& [precision, entry] : precisions.members)
        expect(precision == "fp32" || precision == "fp16" || precision == "int8",
               "'" + name + "' is in a precision that is not known");
}

// Checks that every precision of a stage has a proof of exactness, for this very graph and these weights.
inline void expect_proofs(const std::string& name, const Json& graph, const Json& pad, const Json& weights) {
    for (const auto& [precision, entry] : graph["precisions"].members) {
        const Json &proof = entry["proof"], &tokens = proof["inputs"]["tokens"], &slack = proof["slack_bits"];
        const std::string subject = "the proof of " + name + " " + precision;
        expect(proof.is_object(), name + " " + precision + " has no proof of exactness");
        expect(is_hash(proof["graph"]) && proof["graph"].is(entry["sha256"].text) && is_hash(proof["weights"]) &&
                   proof["weights"].is(weights["sha256"].text),
               subject + " belongs to another graph or to other weights");
        expect(proof["inputs"].members.size() == 1 && tokens.items.size() == 2 && tokens.items[0].is(0) &&
                   tokens.items[1].is_number() && tokens.items[1].real == pad.real,
               subject + " does not cover the tokens");
        expect(slack.is_number() && slack.real >= 0, subject + " states no slack");
    }
}

// Returns the path of a file of the bundle: a plain name, so that it lies in the bundle's folder.
inline std::filesystem::path path_of(const std::filesystem::path& folder, const Json& entry) {
    const std::string& name = entry["file"].text;
    const auto is_plain = [](char each) {
        return ('a' <= each && each <= 'z') || ('A' <= each && each <= 'Z') || ('0' <= each && each <= '9') ||
               each == '_' || each == '-' || each == '.';
    };
    expect(!name.empty() && name[0] != '.' && name.size() <= limits::name &&
               std::all_of(name.begin(), name.end(), is_plain),
           "an entry of the manifest has no plain file name of at most 200 bytes");
    return folder / name;
}

inline void expect_file(const std::filesystem::path& folder, const Json& entry) {
    BundleFile file(path_of(folder, entry));
    const Json &bytes = entry["bytes"], &hash = entry["sha256"];
    if (!bytes.is(static_cast<std::int64_t>(file.size()))) file.fail("has not the size that the manifest states");
    if (!is_hash(hash) || file.hash() != hash.text) file.fail("does not have the hash that the manifest states");
}

// Returns the entries of all files that the manifest names.
inline std::vector<const Json*> entries_of(const Json& manifest) {
    std::vector<const Json*> entries{&manifest["weights"]};
    for (const auto& [name, graph] : manifest["graphs"].members)
        for (const auto& [precision, entry] : graph["precisions"].members) entries.push_back(&entry);
    for (const auto& [name, entry] : manifest["calibration"].members) entries.push_back(&entry);
    return entries;
}

// Refuses a manifest that is not sound in itself; its files are looked at by expect_file().
inline void expect_manifest(const Json& manifest, std::size_t stages, int version) {
    const Json &prior = manifest["prior"], &graphs = manifest["graphs"], &tokenizer = manifest["tokenizer"];
    expect(prior.is_object() && graphs.is_object() && manifest["weights"].is_object(),
           "the manifest lacks 'prior', 'graphs' or 'weights'");
    expect(manifest["patch"].is(limits::patch), "patch is not 16");
    expect(!manifest.has("tokenizer") || (tokenizer.is_object() && (!tokenizer.has("local") ||
                                                                    tokenizer["local"].is_boolean())),
           "tokenizer.local is neither true nor false");
    expect(!manifest.has("calibration") || manifest["calibration"].is_object(), "calibration names no files");
    expect_prior(prior);
    const bool encodes = graphs.has("encoder");
    const bool sums = has_sums(version, static_cast<int>(prior["codebook"].integer));
    const char* const output = sums ? "predictions" : "logits";  // of stages
    if (encodes) expect_graph("encoder", graphs["encoder"], version, encodes, output);
    for (std::size_t stage = 0; stage < stages; ++stage) {
        const std::string name = "stage" + std::to_string(stage);
        expect_graph(name, graphs[name], version, encodes, output);
        expect_proofs(name, graphs[name], prior["pad"], manifest["weights"]);
    }
    expect_graph("decoder", graphs["decoder"], version, encodes, output);
    expect(manifest["weights"]["file"].is("weights.safetensors"), "weights.file is not 'weights.safetensors'");
}

}  // namespace uigc::detail
