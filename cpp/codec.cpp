#include "codec.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "uigc/onnxruntime.hpp"

namespace uigc {

// The graphs of a bundle, each of which is loaded once: in the background, or by whoever needs it before.
class Codec::Networks {
   public:
    Networks(const std::filesystem::path& folder, const CodecOptions& options)
        : bundle(folder), max_pixels(options.max_pixels > 0 ? options.max_pixels : bundle.max_pixels()),
          threads_(options.threads), environment_(detail::Environment::get()) {
        std::vector<std::string> prior;
        for (std::size_t stage = 0; stage < bundle.stages(); ++stage) prior.push_back("stage" + std::to_string(stage));
        const std::string precision = bundle.choose(prior, options.precision);
        for (const std::string& name : prior) add(name, precision);
        add("decoder", bundle.choose({"decoder"}, options.pixel_precision));
    }

    ~Networks() {
        next_ = slots_.size();
        for (std::thread& loader : loaders_) loader.join();
    }

    // Starts loading all graphs in the order in which they are needed.
    void load() {
        std::call_once(loading_, [this] {
            for (int count = 0; count < loaders; ++count) loaders_.emplace_back([this] { load_rest(); });
        });
    }

    detail::Graph& stage(int number) { return graph(*slots_[static_cast<std::size_t>(number)]); }
    detail::Graph& decoder() { return graph(*slots_.back()); }

    const Bundle bundle;
    const std::int64_t max_pixels;

   private:
    static constexpr int loaders = 2;  // as many as in the Python package

    struct Slot {
        std::string name;
        std::filesystem::path path;
        std::mutex mutex;
        std::unique_ptr<detail::Graph> graph;
    };

    void add(const std::string& name, const std::string& precision) {
        slots_.push_back(std::make_unique<Slot>());
        slots_.back()->name = name;
        slots_.back()->path = bundle.graph(name, precision);
    }

    detail::Graph& graph(Slot& slot) {
        const std::lock_guard<std::mutex> lock(slot.mutex);
        if (!slot.graph) slot.graph = std::make_unique<detail::Graph>(*environment_, slot.path, slot.name, threads_);
        return *slot.graph;
    }

    void load_rest() noexcept {
        for (std::size_t index = next_++; index < slots_.size(); index = next_++) {
            try {
                graph(*slots_[index]);
            } catch (...) {  // whoever needs the graph tries again, and hears of it
            }
        }
    }

    const int threads_;
    std::shared_ptr<detail::Environment> environment_;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::atomic<std::size_t> next_{0};  // the first that no loader has taken
    std::once_flag loading_;
    std::vector<std::thread> loaders_;
};

namespace {

// Takes the output of the pixel decoder: bytes from version 3 of the bundle on, and planes of floats before.
Bytes painted(detail::Graph& decoder, const Grid& grid, int version) {
    constexpr std::int64_t patch = limits::patch;
    const std::int64_t tall = patch * grid.rows, wide = patch * grid.columns;
    const bool bytes = version >= 3;
    const detail::Shape shape = bytes ? detail::Shape{1, tall, wide, 3} : detail::Shape{1, 3, tall, wide};
    const auto type = bytes ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    const Ort::Value image = decoder.run(grid.tokens, grid.rows, grid.columns, "image", type, shape);
    const auto count = static_cast<std::size_t>(3 * tall * wide);
    return bytes ? pixels(grid, image.GetTensorData<std::uint8_t>(), count)
                 : pixels(grid, image.GetTensorData<float>(), count);
}

}  // namespace

Codec::Codec(const std::filesystem::path& bundle, const CodecOptions& options)
    : networks_(std::make_unique<Networks>(bundle, options)) {}

Codec::~Codec() = default;

const Bundle& Codec::bundle() const noexcept { return networks_->bundle; }

Grid Codec::decode_tokens(const Bytes& file) const {
    const Model& model = networks_->bundle.model;
    detail::accepted_header(file, model.prior_id, networks_->max_pixels);  // before anything is loaded
    networks_->load();
    const Prior prior = [&](int stage, const Tokens& tokens, int rows, int columns) {
        const std::int64_t tiles = std::int64_t{rows / model.tile} * (columns / model.tile);
        const auto asked = tiles * static_cast<std::int64_t>(model.stages[static_cast<std::size_t>(stage)].size());
        const auto each = static_cast<std::int64_t>(row_length(model));
        const Ort::Value predictions =
            networks_->stage(stage).run(tokens, rows, columns, model.has_sums ? "predictions" : "logits",
                                        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {1, asked, each});
        const auto* begin = predictions.GetTensorData<std::int32_t>();
        return Tokens(begin, begin + asked * each);
    };
    Grid grid = uigc::decode(file, model, prior, networks_->max_pixels);
    networks_->bundle.check_unchanged();
    return grid;
}

Image Codec::decompress(const Bytes& file) const {
    const Grid grid = decode_tokens(file);
    Image image{grid.width, grid.height, painted(networks_->decoder(), grid, networks_->bundle.version())};
    networks_->bundle.check_unchanged();
    return image;
}

}  // namespace uigc
