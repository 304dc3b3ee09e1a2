// uigc-decode BUNDLE FILE.uigc OUT.ppm: decode a .uigc file to an image with ONNX Runtime, without Python.
//
// It ends with the exit codes of the command `uigc` (docs/CLI.md), and with one sentence on standard error if it fails.
// The image is written completely or not at all, and never over a file that exists.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bundle.hpp"
#include "uigc.hpp"

namespace {

namespace fs = std::filesystem;

using Shape = std::vector<std::int64_t>;

// A graph of the bundle that takes tokens int32 (1, rows, columns) and has one output. What it returns is looked at:
// an element of another type or a missing one would be memory that is not ours.
class Graph {
   public:
    Graph(const Ort::Env& env, const uigc::Bundle& bundle, std::string name, const char* precision, const char* output)
        : name_(std::move(name)), output_(output) {
        const fs::path path = bundle.graph(name_, precision);
        guarded([&] { session_ = std::make_unique<Ort::Session>(env, path.c_str(), Ort::SessionOptions{}); });
    }

    // Runs the graph; `Element` and `shape` are those that its output must have.
    template <typename Element>
    std::vector<Element> run(const uigc::Tokens& tokens, int rows, int columns, ONNXTensorElementDataType type,
                             const Shape& shape) const {
        std::vector<Element> found;
        guarded([&] {
            const Shape sides{1, rows, columns};
            const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            auto* data = const_cast<std::int32_t*>(tokens.data());  // ONNX Runtime does not write to inputs
            const Ort::Value input =
                Ort::Value::CreateTensor<std::int32_t>(memory, data, tokens.size(), sides.data(), sides.size());
            const char* const name = "tokens";
            const auto outputs = session_->Run(Ort::RunOptions{nullptr}, &name, &input, 1, &output_, 1);
            if (outputs.size() != 1 || !outputs.front().IsTensor()) fail("returned no tensor");
            const auto info = outputs.front().GetTensorTypeAndShapeInfo();
            if (info.GetElementType() != type || info.GetShape() != shape)
                fail("returned a tensor of another type or shape than the bundle states");
            const auto* begin = outputs.front().GetTensorData<Element>();
            found.assign(begin, begin + info.GetElementCount());
        });
        return found;
    }

   private:
    [[noreturn]] void fail(const std::string& fault) const {
        throw uigc::ProviderError("The graph '" + name_ + "' " + fault +
                                  "; check the bundle with 'uigc doctor', and ONNX Runtime with 'uigc verify'.");
    }

    // Turns errors of ONNX Runtime into ours.
    template <typename Work>
    void guarded(const Work& work) const {
        try {
            work();
        } catch (const Ort::Exception& error) {
            const std::string message = error.what();
            fail("failed in ONNX Runtime (" + message.substr(0, message.find('\n')) + ")");
        }
    }

    std::string name_;
    const char* output_;
    std::unique_ptr<Ort::Session> session_;
};

// Returns the fastest precision that all stages have; every precision of a stage gives the same logits.
const char* stage_precision(const uigc::Bundle& bundle) {
    for (std::size_t stage = 0; stage < bundle.stages(); ++stage)
        if (!bundle.has("stage" + std::to_string(stage), "int8")) return "fp32";
    return "int8";
}

// From bytes to tokens.
uigc::Grid tokens_of(const uigc::Bytes& data, const uigc::Bundle& bundle, const Ort::Env& env) {
    std::vector<std::unique_ptr<Graph>> graphs(bundle.stages());  // each is loaded when it is first needed
    const char* const precision = stage_precision(bundle);
    const uigc::Prior prior = [&](int stage, const uigc::Tokens& tokens, int rows, int columns) {
        const auto number = static_cast<std::size_t>(stage);
        auto& graph = graphs[number];
        if (!graph)
            graph = std::make_unique<Graph>(env, bundle, "stage" + std::to_string(stage), precision, "logits");
        const std::int64_t tiles = std::int64_t{rows / bundle.model.tile} * (columns / bundle.model.tile);
        const auto asked = tiles * static_cast<std::int64_t>(bundle.model.stages[number].size());
        return graph->run<std::int32_t>(tokens, rows, columns, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
                                        {1, asked, bundle.model.codebook});
    };
    return uigc::decode(data, bundle.model, prior, bundle.max_pixels());
}

// From tokens to the bytes of a PPM file.
std::string image_of(const uigc::Grid& grid, const uigc::Bundle& bundle, const Ort::Env& env) {
    const Graph decoder(env, bundle, "decoder", "fp32", "image");
    constexpr std::int64_t patch = uigc::limits::patch;
    const Shape shape{1, 3, patch * grid.rows, patch * grid.columns};
    const auto planes =
        decoder.run<float>(grid.tokens, grid.rows, grid.columns, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape);
    const uigc::Bytes image = uigc::pixels(grid, planes.data(), planes.size());
    std::string file = "P6\n" + std::to_string(grid.width) + " " + std::to_string(grid.height) + "\n255\n";
    return file.append(image.begin(), image.end());
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

void run(const char* folder, const char* file, const fs::path& out) {
    expect_free(out);
    const uigc::Bundle bundle = uigc::load(folder);
    const uigc::Bytes data = uigc::read_file(file);
    const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "uigc");
    const std::string image = image_of(tokens_of(data, bundle, env), bundle, env);
    bundle.check_unchanged();
    write(out, image);
}

// Turns the telemetry of ONNX Runtime's official builds off, which would write into the user's cache and look up a
// collector. ONNX Runtime looks at the variable when its environment is made. A user who wants telemetry sets it to 0.
void turn_telemetry_off() {
    if (std::getenv("ORT_DISABLE_TELEMETRY")) return;
#ifdef _WIN32
    _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) {
        std::fprintf(stderr, "usage: %s BUNDLE FILE.uigc OUT.ppm\n", count ? arguments[0] : "uigc-decode");
        return static_cast<int>(uigc::ExitCode::usage);
    }
    try {
        turn_telemetry_off();
        run(arguments[1], arguments[2], arguments[3]);
    } catch (const uigc::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return error.exit_code();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "Unexpected: %s.\n", error.what());
        return static_cast<int>(uigc::ExitCode::internal);
    }
    return 0;
}
