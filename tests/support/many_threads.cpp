// many_threads BUNDLE THREADS ROUNDS FILE...: the interface for C from many threads, for ThreadSanitizer to watch.
//
// All threads share one codec, and each also opens and closes its own; the files are decoded, cut ones refused. Every
// result must be the one that a single thread got before. With THREADS 0, two threads write to one variable, which shows
// that a race is reported.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "uigc.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

struct Result {
    int code;
    std::string sentence;
    std::vector<std::int32_t> tokens;
    Bytes pixels;

    bool operator==(const Result& other) const {
        return code == other.code && sentence == other.sentence && tokens == other.tokens && pixels == other.pixels;
    }
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "%s: %s\n", what, uigc_last_error());
    std::exit(3);
}

uigc_codec* opened(const char* bundle) {
    uigc_options options = UIGC_OPTIONS;
    options.threads = 1;
    uigc_codec* codec = nullptr;
    if (uigc_open(bundle, &options, &codec)) fail("open");
    return codec;
}

Result decoded(uigc_codec* codec, const Bytes& file) {
    Result found{};
    uigc_header header{};
    found.code = uigc_read_header(file.data(), file.size(), &header);
    if (found.code == UIGC_OK) {
        const auto width = static_cast<std::size_t>(header.width), height = static_cast<std::size_t>(header.height);
        found.tokens.resize(static_cast<std::size_t>(header.rows) * static_cast<std::size_t>(header.columns));
        found.pixels.resize(3 * width * height);
        found.code = uigc_decode_tokens(codec, file.data(), file.size(), found.tokens.data(), found.tokens.size());
        if (found.code == UIGC_OK)
            found.code = uigc_decompress(codec, file.data(), file.size(), found.pixels.data(), 3 * width, header.height);
    }
    found.sentence = uigc_last_error();
    return found;
}

int race() {
    int shared = 0;
    const auto work = [&shared] { for (int step = 0; step < 1000; ++step) shared += step; };
    std::thread one(work), other(work);
    one.join();
    other.join();
    return shared == 0;
}

}  // namespace

int main(int count, char** words) {
    if (count < 5) return 2;
    const int threads = std::atoi(words[2]), rounds = std::atoi(words[3]);
    if (threads == 0) return race();
    std::vector<Bytes> files;
    for (int each = 4; each < count; ++each) {
        std::ifstream stream(words[each], std::ios::binary);
        files.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
        files.emplace_back(files.back().begin(), files.back().end() - 1);
    }
    uigc_codec* shared = opened(words[1]);
    std::vector<Result> expected;
    uigc_codec* alone = opened(words[1]);  // so that the graphs of the shared one are loaded by many threads at once
    for (const Bytes& file : files) expected.push_back(decoded(alone, file));
    uigc_close(alone);

    std::vector<int> wrong(static_cast<std::size_t>(threads));
    std::vector<std::thread> workers;
    for (std::size_t number = 0; number < wrong.size(); ++number) {
        workers.emplace_back([&, number] {
            uigc_codec* own = opened(words[1]);
            for (int round = 0; round < rounds; ++round) {
                for (std::size_t step = 0; step < files.size(); ++step) {
                    const std::size_t file = (number + step) % files.size();
                    wrong[number] += !(decoded(round % 2 ? own : shared, files[file]) == expected[file]);
                }
            }
            uigc_close(own);
        });
    }
    for (std::thread& worker : workers) worker.join();
    uigc_close(shared);
    int sum = 0, refused = 0;
    for (const int each : wrong) sum += each;
    for (const Result& result : expected) refused += result.code != UIGC_OK;
    std::printf("%d wrong, %d of %zu refused\n", sum, refused, files.size());
    return 0;
}
