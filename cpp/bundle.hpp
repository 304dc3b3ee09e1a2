// Reads what a decoder needs of a bundle (docs/BUNDLE.md), and checks all of it, as the Python package does.
//
// A bundle's graphs are programs that your backend runs: open bundles that you trust. Every other part of a hostile
// bundle is refused with a BundleError, before anything of a size that it states is allocated (docs/SECURITY.md).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "uigc.hpp"
#include "uigc/files.hpp"
#include "uigc/json.hpp"
#include "uigc/manifest.hpp"
#include "uigc/seal.hpp"
#include "uigc/sha256.hpp"
#include "uigc/weights.hpp"

namespace uigc {

class Bundle {
   public:
    Model model;

    // Reads a bundle, and compares all its files with the hashes of the manifest.
    explicit Bundle(const std::filesystem::path& folder) : folder_(folder), manifest_(read_manifest(folder)) {
        using detail::Json;
        model.stages = detail::stages_of(manifest_["schedule"]);
        detail::expect_manifest(manifest_, model.stages.size(), version());
        for (const Json* entry : detail::entries_of(manifest_)) {
            stamps_.push_back(stamp(detail::path_of(folder, *entry)));
            detail::expect_file(folder, *entry);
        }
        const Json& prior = manifest_["prior"];
        for (std::size_t index = 0; index < model.prior_id.size(); ++index)
            model.prior_id[index] =
                static_cast<std::uint8_t>(std::stoi(prior["id"].text.substr(2 * index, 2), nullptr, 16));
        model.codebook = static_cast<int>(prior["codebook"].integer);
        model.window = static_cast<int>(prior["window"].integer);
        model.unknown = model.codebook;
        model.pad = model.codebook + 1;
        model.has_sums = detail::has_sums(version(), model.codebook);
        model.tile = static_cast<int>(manifest_["schedule"]["tile"].integer);
        detail::Weights weights(detail::path_of(folder, manifest_["weights"]));
        weights.expect_codebook("tokenizer.quantizer.words", model.codebook);
        model.weights = weights.table("coder.weights", limits::farthest + 1, limits::weight);
        model.mask = weights.table("mask.table", limits::contexts, limits::probability);
        detail::expect_sound(model);
    }

    // Returns the largest number of pixels of an image, unless you set another limit.
    std::int64_t max_pixels() const {
        const detail::Json& tokenizer = manifest_["tokenizer"];
        return !tokenizer.has("local") || tokenizer["local"].integer ? limits::pixels : limits::whole_pixels;
    }

    // Returns the number of stages of the prior, whose graphs are "stage0", "stage1" ...
    std::size_t stages() const noexcept { return model.stages.size(); }

    // Returns the version of the bundle, 2 to 4, which decides what its graphs return (docs/BUNDLE.md).
    int version() const { return static_cast<int>(manifest_["version"].integer); }

    // Returns whether a graph, such as "stage0" or "decoder", exists in a precision: "fp32", "fp16" or "int8".
    bool has(const std::string& name, const std::string& precision) const {
        return manifest_["graphs"][name]["precisions"].has(precision);
    }

    // Returns the path of a graph in a precision that the bundle has.
    std::filesystem::path graph(const std::string& name, const std::string& precision) const {
        if (!has(name, precision))
            throw BundleError("The bundle has no '" + name + "' in '" + precision + "'; choose another precision.");
        return detail::path_of(folder_, manifest_["graphs"][name]["precisions"][precision]);
    }

    // Returns the precision of these graphs: the one that is asked for, never another; or if that is empty, the fastest
    // on a CPU that all of them have.
    std::string choose(const std::vector<std::string>& names, const std::string& asked) const {
        const auto has_all = [&](const std::string& precision) {
            return std::all_of(names.begin(), names.end(), [&](const auto& name) { return has(name, precision); });
        };
        if (asked.empty()) return has_all("int8") ? "int8" : "fp32";
        if (!has_all(asked))
            throw BundleError("The bundle has no '" + names.front() + "' in '" + asked + "'; choose another precision.");
        return asked;
    }

    // Throws a BundleError if a file was changed or replaced since its hash was checked. Your backend opens the graphs
    // by their names, and may read the weights whenever it runs one: call this before you keep a result.
    void check_unchanged() const {
        const auto entries = detail::entries_of(manifest_);
        for (std::size_t index = 0; index < entries.size(); ++index)
            if (stamp(detail::path_of(folder_, *entries[index])) != stamps_[index])
                throw BundleError(entries[index]->operator[]("file").text +
                                  " was changed while the bundle was in use, so the results are thrown away; open the "
                                  "bundle again, and install new bundles in folders of their own.");
    }

   private:
    // What tells the content of a file without reading it: its size and the time of its last change.
    using Stamp = std::pair<std::uintmax_t, std::filesystem::file_time_type>;

    static Stamp stamp(const std::filesystem::path& path) noexcept {
        std::error_code error;
        const std::uintmax_t size = std::filesystem::file_size(path, error);
        return {size, std::filesystem::last_write_time(path, error)};
    }

    static detail::Json read_manifest(const std::filesystem::path& folder) {
        detail::BundleFile file(folder / "manifest.json");
        if (file.size() > limits::manifest) file.fail("has more bytes than a manifest can have");
        const std::string text = file.read(0, file.size());
        detail::Json manifest = detail::JsonReader::read(text);
        detail::expect(manifest["format"].is("uigc-bundle"), "manifest.json does not describe a uigc-bundle");
        detail::expect(manifest["version"].is_integer(2, 4),
                       "its version is not one of 2 to 4, which this decoder reads");
        detail::expect(detail::is_sealed(text), "manifest.json was changed after it was written: its seal does not fit");
        return manifest;
    }

    std::filesystem::path folder_;
    detail::Json manifest_;
    std::vector<Stamp> stamps_;
};

// Reads a bundle from its folder.
inline Bundle load(const std::filesystem::path& folder) { return Bundle(folder); }

}  // namespace uigc
