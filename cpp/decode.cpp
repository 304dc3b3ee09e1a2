// uigc-decode BUNDLE FILE.uigc OUT.ppm: decode a .uigc file to an image with ONNX Runtime, without Python.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bundle.hpp"

namespace {

// A graph of the bundle that takes tokens (1, rows, columns) and has one output.
class Graph {
   public:
    Graph(Ort::Env& env, const std::string& path, const char* output)
        : session_(env, std::basic_string<ORTCHAR_T>(path.begin(), path.end()).c_str(), Ort::SessionOptions{}),
          output_(output) {}

    Ort::Value operator()(const uigc::Tokens& tokens, int rows, int columns) {
        const std::array<std::int64_t, 3> shape{1, rows, columns};
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        auto* data = const_cast<std::int32_t*>(tokens.data());  // ONNX Runtime does not write to inputs
        const Ort::Value input =
            Ort::Value::CreateTensor<std::int32_t>(memory, data, tokens.size(), shape.data(), shape.size());
        const char* name = "tokens";
        return std::move(session_.Run(Ort::RunOptions{nullptr}, &name, &input, 1, &output_, 1).front());
    }

   private:
    Ort::Session session_;
    const char* output_;
};

void run(const std::string& folder, const std::string& file, const std::string& out) {
    const uigc::Bundle bundle = uigc::load(folder);
    const std::string data = uigc::contents(file);
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "uigc");

    // From bytes to tokens. Every precision of a stage gives the same logits; int8 is the fastest on a CPU.
    std::vector<std::unique_ptr<Graph>> stages;
    for (std::size_t stage = 0; stage < bundle.model.stages.size(); ++stage) {
        const std::string path = bundle.graph("stage" + std::to_string(stage), "int8");
        stages.push_back(std::make_unique<Graph>(env, path, "logits"));
    }
    const uigc::Prior prior = [&](int stage, const uigc::Tokens& tokens, int rows, int columns) {
        const Ort::Value logits = (*stages[stage])(tokens, rows, columns);
        const auto* begin = logits.GetTensorData<std::int32_t>();
        return uigc::Tokens(begin, begin + logits.GetTensorTypeAndShapeInfo().GetElementCount());
    };
    const uigc::Grid grid = uigc::decode({data.begin(), data.end()}, bundle.model, prior);

    // From tokens to pixels.
    Graph decoder(env, bundle.graph("decoder", "fp32"), "image");
    const Ort::Value planes = decoder(grid.tokens, grid.rows, grid.columns);
    const uigc::Bytes image = uigc::pixels(grid, planes.GetTensorData<float>());

    std::ofstream to(out, std::ios::binary);
    to << "P6\n" << grid.width << " " << grid.height << "\n255\n";
    to.write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(image.size()));
    if (!to.flush()) throw uigc::Error("Cannot write " + out + "; check its folder.");
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) {
        std::fprintf(stderr, "usage: %s BUNDLE FILE.uigc OUT.ppm\n", arguments[0]);
        return 2;
    }
    try {
        run(arguments[1], arguments[2], arguments[3]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
