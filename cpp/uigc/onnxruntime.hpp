// ONNX Runtime as the Python package uses it: one environment in the process, and sessions with the same options.
//
// The interface is looked up when it is first needed (ORT_API_MANUAL_INIT), so that a library which does not fit the
// header is an error in words: otherwise the header would call through a null pointer before main() begins.

#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "model.hpp"

namespace uigc::detail {

using Shape = std::vector<std::int64_t>;

// Finds the interface in the library that was loaded.
inline void find_interface() {
    const OrtApiBase* const base = OrtGetApiBase();
    const std::string version = base->GetVersionString();
    int major = 0, minor = 0;  // 1.N has the interfaces 1 to N; asked for a later one, it prints a line of its own
    const bool read = std::sscanf(version.c_str(), "%d.%d", &major, &minor) == 2;
    const bool older = read && major == 1 && minor < ORT_API_VERSION;
    const OrtApi* const found = older ? nullptr : base->GetApi(ORT_API_VERSION);
    if (!found)
        throw ProviderError("The library of ONNX Runtime has version " + version + ", and 1." +
                            std::to_string(ORT_API_VERSION) +
                            " or later was expected, because this program was built with its headers; ship that one, "
                            "or build with headers that are not newer than the library.");
    Ort::InitApi(found);
}

// Turns the telemetry of ONNX Runtime's official builds off, which would write into the user's cache and look up a
// collector. ONNX Runtime looks at the variable when its environment is made. A user who wants telemetry sets it to 0.
inline void turn_telemetry_off() {
    if (std::getenv("ORT_DISABLE_TELEMETRY")) return;
#ifdef _WIN32
    _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
}

// Calls `work` and turns errors of ONNX Runtime into ours; `subject` is what failed.
template <typename Work>
auto guarded(const std::string& subject, const Work& work) -> decltype(work()) {
    try {
        return work();
    } catch (const Ort::Exception& error) {
        const std::string message = error.what();
        throw ProviderError(subject + " failed in ONNX Runtime (" + message.substr(0, message.find('\n')) +
                            "); check the bundle with 'uigc doctor', and ONNX Runtime with 'uigc verify'.");
    }
}

// ONNX Runtime's environment, which all codecs of the process share.
class Environment {
   public:
    static std::shared_ptr<Environment> get() {
        static std::mutex mutex;
        static std::weak_ptr<Environment> known;
        const std::lock_guard<std::mutex> lock(mutex);
        auto found = known.lock();
        if (!found) known = found = std::shared_ptr<Environment>(new Environment);
        return found;
    }

    const Ort::Env& env() const noexcept { return *env_; }

    // The options of a session; `threads` is 0 for ONNX Runtime's own choice.
    Ort::SessionOptions options(int threads) const {
        Ort::SessionOptions found;
        found.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);  // errors are thrown, and not printed as well
        if (threads > 0) found.SetIntraOpNumThreads(threads);
        // The memory pattern of each input size would take as much memory again as the arena holds for the first run.
        found.DisableMemPattern();
        found.AddConfigEntry("session.use_env_allocators", common_arena_ ? "1" : "0");
        // Every graph has its own threads, and spinning threads would occupy the cores that the next graph needs.
        found.AddConfigEntry("session.intra_op.allow_spinning", "0");
        return found;
    }

   private:
    Environment() {
        find_interface();
        turn_telemetry_off();
        guarded("The environment", [&] { env_ = std::make_unique<Ort::Env>(ORT_LOGGING_LEVEL_FATAL, "uigc"); });
        try {
            // Graphs run in turn, and with an arena each they would all keep what they once used. It grows by what is
            // asked for. The defaults are -1 and 0; 1 is kSameAsRequested.
            const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            env_->CreateAndRegisterAllocator(memory, Ort::ArenaCfg(0, 1, -1, -1));
            common_arena_ = true;
        } catch (const Ort::Exception&) {  // the program that this runs in has registered another one
        }
    }

    std::unique_ptr<Ort::Env> env_;
    bool common_arena_ = false;
};

// A graph that takes tokens int32 (1, rows, columns). What it returns is looked at: an element of another type or a
// missing one would be memory that is not ours.
class Graph {
   public:
    Graph(const Environment& environment, const std::filesystem::path& path, std::string name, int threads)
        : subject_("The graph '" + std::move(name) + "'"),
          session_(guarded(subject_, [&] {
              return Ort::Session(environment.env(), path.c_str(), environment.options(threads));
          })) {}

    // Runs the graph and returns the output of that name, whose elements and shape must be these.
    Ort::Value run(const Tokens& tokens, int rows, int columns, const char* output, ONNXTensorElementDataType type,
                   const Shape& shape) {
        return guarded(subject_, [&] {
            const Shape sides{1, rows, columns};
            const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            auto* data = const_cast<std::int32_t*>(tokens.data());  // ONNX Runtime does not write to inputs
            const Ort::Value input =
                Ort::Value::CreateTensor<std::int32_t>(memory, data, tokens.size(), sides.data(), sides.size());
            const char* const name = "tokens";
            auto outputs = session_.Run(options(tokens.size()), &name, &input, 1, &output, 1);
            if (outputs.size() != 1 || !outputs.front().IsTensor()) fail("no tensor");
            const auto info = outputs.front().GetTensorTypeAndShapeInfo();
            if (info.GetElementType() != type || info.GetShape() != shape) fail("a tensor of another type or shape");
            return std::move(outputs.front());
        });
    }

   private:
    static constexpr std::size_t large = 1 << 12;  // tokens: an image of a megapixel

    // The regions of the arena that a large stage leaves are too small for the next: it gives them back.
    static Ort::RunOptions options(std::size_t tokens) {
        Ort::RunOptions found;
        if (tokens >= large) found.AddConfigEntry("memory.enable_memory_arena_shrinkage", "cpu:0");
        return found;
    }

    [[noreturn]] void fail(const std::string& found) const {
        throw ProviderError(subject_ + " returned " + found + ", and the one that the bundle states was expected; "
                            "check the bundle with 'uigc doctor', and ONNX Runtime with 'uigc verify'.");
    }

    std::string subject_;
    Ort::Session session_;
};

}  // namespace uigc::detail
