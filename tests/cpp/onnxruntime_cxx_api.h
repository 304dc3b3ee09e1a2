// A stand-in for the header of ONNX Runtime's C++ interface, with the classes and signatures that cpp/decode.cpp uses.
// The sessions live at the other end of a pipe: a run writes "PATH OUTPUT ROWS COLUMNS" and the tokens to standard
// output, and reads the number of elements and the elements, 4 bytes each, from standard input.

#pragma once

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define ORTCHAR_T char

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

namespace Ort {

struct Env {
    Env(OrtLoggingLevel, const char*) {}
};

struct SessionOptions {};

struct RunOptions {
    explicit RunOptions(std::nullptr_t) {}
};

struct MemoryInfo {
    static MemoryInfo CreateCpu(OrtAllocatorType, OrtMemType) { return {}; }
};

struct TensorTypeAndShapeInfo {
    std::size_t count;
    std::size_t GetElementCount() const { return count; }
};

class Value {
   public:
    Value(const Value&) = delete;
    Value(Value&&) = default;

    template <typename T>
    static Value CreateTensor(const MemoryInfo&, T* data, std::size_t count, const std::int64_t* shape,
                              std::size_t rank) {
        static_assert(sizeof(T) == 4);
        const auto* elements = reinterpret_cast<const std::uint32_t*>(data);
        return Value({elements, elements + count}, {shape, shape + rank});
    }

    template <typename T>
    const T* GetTensorData() const {
        static_assert(sizeof(T) == 4);
        return reinterpret_cast<const T*>(elements.data());
    }

    TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const { return {elements.size()}; }

   private:
    friend class Session;
    Value(std::vector<std::uint32_t> data, std::vector<std::int64_t> sides)
        : elements(std::move(data)), shape(std::move(sides)) {}

    std::vector<std::uint32_t> elements;
    std::vector<std::int64_t> shape;
};

class Session {
   public:
    Session(const Env&, const ORTCHAR_T* path, const SessionOptions&) : path_(path) {}

    std::vector<Value> Run(const RunOptions&, const char* const* names, const Value* inputs, std::size_t count,
                           const char* const* outputs, std::size_t wanted) {
        if (count != 1 || wanted != 1 || std::string(names[0]) != "tokens" || inputs->shape.size() != 3 ||
            inputs->shape[0] != 1 ||
            inputs->shape[1] * inputs->shape[2] != static_cast<std::int64_t>(inputs->elements.size()))
            throw std::runtime_error("a run that no graph of a bundle accepts");
        std::printf("%s %s %ld %ld\n", path_.c_str(), outputs[0], inputs->shape[1], inputs->shape[2]);
        std::fwrite(inputs->elements.data(), 4, inputs->elements.size(), stdout);
        std::fflush(stdout);
        std::uint64_t size = 0;
        if (std::fread(&size, sizeof size, 1, stdin) != 1) throw std::runtime_error("the other end does not answer");
        std::vector<std::uint32_t> elements(size);
        if (std::fread(elements.data(), 4, size, stdin) != size)
            throw std::runtime_error("the other end has closed the pipe");
        std::vector<Value> results;
        results.push_back(Value(std::move(elements), {}));
        return results;
    }

   private:
    std::string path_;
};

}  // namespace Ort
