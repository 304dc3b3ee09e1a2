// A stand-in for the header of ONNX Runtime's C++ interface, with the classes and signatures that cpp/decode.cpp uses.
// The sessions live at the other end of a pipe: a run writes "PATH OUTPUT ROWS COLUMNS" and the tokens to standard
// output, and reads from standard input the type of the elements, the number of sides, the sides, the number of
// elements (8 bytes each), and the elements (4 bytes each). A pipe that is closed is an error of ONNX Runtime.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#define ORTCHAR_T char

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum OrtErrorCode { ORT_FAIL = 1 };
enum ONNXTensorElementDataType {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11
};

namespace Ort {

struct Exception : std::exception {
    Exception(std::string&& message, OrtErrorCode) : message_(std::move(message)) {}
    const char* what() const noexcept override { return message_.c_str(); }

   private:
    std::string message_;
};

struct Env {
    Env(OrtLoggingLevel, const char*) {
        if (!std::getenv("ORT_DISABLE_TELEMETRY")) throw Exception("telemetry is on", ORT_FAIL);
    }
};

struct SessionOptions {};

struct RunOptions {
    explicit RunOptions(std::nullptr_t) {}
};

struct MemoryInfo {
    static MemoryInfo CreateCpu(OrtAllocatorType, OrtMemType) { return {}; }
};

struct TensorTypeAndShapeInfo {
    ONNXTensorElementDataType type;
    std::vector<std::int64_t> shape;
    std::size_t count;
    ONNXTensorElementDataType GetElementType() const { return type; }
    std::vector<std::int64_t> GetShape() const { return shape; }
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
        return Value(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {elements, elements + count}, {shape, shape + rank});
    }

    template <typename T>
    const T* GetTensorData() const {
        static_assert(sizeof(T) == 4);
        return reinterpret_cast<const T*>(elements.data());
    }

    bool IsTensor() const { return true; }
    TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const { return {type, shape, elements.size()}; }

   private:
    friend class Session;
    Value(ONNXTensorElementDataType of, std::vector<std::uint32_t> data, std::vector<std::int64_t> sides)
        : type(of), elements(std::move(data)), shape(std::move(sides)) {}

    ONNXTensorElementDataType type;
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
            throw Exception("a run that no graph of a bundle accepts", ORT_FAIL);
        std::printf("%s %s %ld %ld\n", path_.c_str(), outputs[0], static_cast<long>(inputs->shape[1]),
                    static_cast<long>(inputs->shape[2]));
        std::fwrite(inputs->elements.data(), 4, inputs->elements.size(), stdout);
        std::fflush(stdout);
        const auto type = static_cast<ONNXTensorElementDataType>(number());
        std::vector<std::int64_t> shape(static_cast<std::size_t>(number()));
        for (std::int64_t& side : shape) side = number();
        std::vector<std::uint32_t> elements(static_cast<std::size_t>(number()));
        if (std::fread(elements.data(), 4, elements.size(), stdin) != elements.size())
            throw Exception("the other end has closed the pipe\nand gone", ORT_FAIL);
        std::vector<Value> results;
        results.push_back(Value(type, std::move(elements), std::move(shape)));
        return results;
    }

   private:
    static std::int64_t number() {
        std::int64_t value = 0;
        if (std::fread(&value, sizeof value, 1, stdin) != 1)
            throw Exception("the other end does not answer\nany more", ORT_FAIL);
        return value;
    }

    std::string path_;
};

}  // namespace Ort
