// A CUDA runtime for a GPU that computes nothing. Device memory is the host's, copies are made at once, kernels are not
// run; what is asked for is written to a log, one line each. Structures are those of CUDA 13, as far as they are read.
// What is not here, libraries.py makes up: functions that do nothing and succeed.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {
std::recursive_mutex mutex;
std::string text, taken;
std::map<const char*, size_t> device, pinned;
std::atomic<bool> capturing{false};
uintptr_t handles = 1000;

void note(const std::string& line) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    text += (capturing ? "captured " : "") + line + "\n";
}

// What CUDA refuses in any thread while a graph is captured in the global mode.
void note_unsafe(const std::string& line) { note(capturing ? "ILLEGAL " + line : line); }

bool in(const std::map<const char*, size_t>& memory, const void* address) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    auto after = memory.upper_bound(static_cast<const char*>(address));
    if (after == memory.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second;
}

int allocate(std::map<const char*, size_t>& memory, void** address, size_t size) {
    note_unsafe("ALLOCATE");
    *address = aligned_alloc(512, (size + 1023) / 512 * 512);
    memset(*address, 0, size);
    std::lock_guard<std::recursive_mutex> lock(mutex);
    memory[static_cast<char*>(*address)] = size;
    return 0;
}

int release(std::map<const char*, size_t>& memory, void* address) {
    note_unsafe("FREE");
    std::lock_guard<std::recursive_mutex> lock(mutex);
    memory.erase(static_cast<char*>(address));
    free(address);
    return 0;
}

// Where a copy goes, by where the memory lies: the kind that the caller states may be "default".
std::string way(const void* to, const void* from) {
    return std::string(in(device, from) ? "D" : "H") + "2" + (in(device, to) ? "D" : "H");
}

struct Triple { unsigned x, y, z; };
struct Launch { Triple grid, block; size_t shared; void* stream; };
thread_local Launch configured;

template <typename T> void put(void* structure, size_t offset, T value) {
    memcpy(static_cast<char*>(structure) + offset, &value, sizeof value);
}
}  // namespace

#define CUDA(name) extern "C" int name

extern "C" const char* null_gpu_take() {  // the log since the last call
    std::lock_guard<std::recursive_mutex> lock(mutex);
    taken.swap(text);
    text.clear();
    return taken.c_str();
}
extern "C" void null_gpu_note(const char* line) { note(line); }

// Kernels.
extern "C" void** __cudaRegisterFatBinary(void*) { return static_cast<void**>(calloc(1, 8)); }
CUDA(__cudaPushCallConfiguration)(Triple grid, Triple block, size_t shared, void* stream) {
    configured = {grid, block, shared, stream};
    return 0;
}
CUDA(__cudaPopCallConfiguration)(Triple* grid, Triple* block, size_t* shared, void** stream) {
    *grid = configured.grid, *block = configured.block, *shared = configured.shared, *stream = configured.stream;
    return 0;
}
CUDA(__cudaGetKernel)(const void** kernel, const void* function) { return *kernel = function, 0; }
CUDA(__cudaLaunchKernel)() { return note("KERNEL"), 0; }
CUDA(cudaLaunchKernel)() { return note("KERNEL"), 0; }
CUDA(cudaLaunchCooperativeKernel)() { return note("KERNEL"), 0; }
CUDA(cudaLaunchKernelExC)() { return note("KERNEL"), 0; }
CUDA(cudaLaunchHostFunc)(void*, void (*function)(void*), void* data) {
    if (!capturing) function(data);
    return 0;
}
CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)(int* blocks) { return *blocks = 2, 0; }
CUDA(cudaFuncGetAttributes)(void* attributes) {
    memset(attributes, 0, 144);
    put(attributes, 24, 1024);  // threads a block
    put(attributes, 28, 32);    // registers
    return put(attributes, 32, 90), put(attributes, 36, 90), 0;
}

// The device: as large as an H100, of which the sizes are.
CUDA(cudaGetDeviceCount)(int* count) { return *count = 1, 0; }
CUDA(cudaGetDevice)(int* index) { return *index = 0, 0; }
CUDA(cudaDriverGetVersion)(int* version) { return *version = 13010, 0; }
CUDA(cudaRuntimeGetVersion)(int* version) { return *version = 13010, 0; }
CUDA(cudaMemGetInfo)(size_t* free, size_t* total) { return *free = 70ull << 30, *total = 80ull << 30, 0; }
CUDA(cudaDeviceGetAttribute)(int* value, int attribute) {
    static const std::map<int, int> known = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {10, 32},
        {12, 65536}, {16, 132}, {38, 50 << 20}, {39, 2048}, {75, 9}, {76, 0}, {81, 233472}, {82, 65536}, {97, 232448}};
    auto found = known.find(attribute);
    return *value = found == known.end() ? 1 : found->second, 0;
}
CUDA(cudaGetDeviceProperties)(void* properties) {
    memset(properties, 0, 1008);
    strcpy(static_cast<char*>(properties), "A GPU that computes nothing");
    put(properties, 288, size_t(80) << 30);  // memory
    put(properties, 296, size_t(49152));     // shared memory a block
    put(properties, 304, 65536);             // registers a block
    put(properties, 308, 32);                // threads a warp
    put(properties, 320, 1024);              // threads a block
    put(properties, 324, Triple{1024, 1024, 64});
    put(properties, 336, Triple{2147483647, 65535, 65535});
    put(properties, 352, size_t(65536));     // constant memory
    put(properties, 360, 9), put(properties, 364, 0);  // compute capability
    put(properties, 384, 132);               // multiprocessors
    put(properties, 596, 50 << 20);          // cache
    put(properties, 604, 2048);              // threads a multiprocessor
    put(properties, 624, size_t(233472));    // shared memory a multiprocessor
    return put(properties, 672, size_t(232448)), 0;
}
CUDA(cudaGetDriverEntryPointByVersion)(const char*, void** function, unsigned, unsigned long long, int* result) {
    return *function = nullptr, result ? *result = 1 : 0, 0;  // no such function
}
extern "C" const char* cudaGetErrorName(int) { return "none"; }
extern "C" const char* cudaGetErrorString(int) { return "none"; }

// Memory.
CUDA(cudaMalloc)(void** address, size_t size) { return allocate(device, address, size); }
CUDA(cudaMallocFromPoolAsync)(void** address, size_t size) { return allocate(device, address, size); }
CUDA(cudaMallocHost)(void** address, size_t size) { return allocate(pinned, address, size); }
CUDA(cudaHostAlloc)(void** address, size_t size, unsigned) { return allocate(pinned, address, size); }
CUDA(cudaFree)(void* address) { return release(device, address); }
CUDA(cudaFreeAsync)(void* address) { return release(device, address); }
CUDA(cudaFreeHost)(void* address) { return release(pinned, address); }
CUDA(cudaMemcpy)(void* to, const void* from, size_t size) {
    return note_unsafe("COPY " + way(to, from)), memmove(to, from, size), 0;
}
CUDA(cudaMemcpyAsync)(void* to, const void* from, size_t size) {
    return note("COPY " + way(to, from)), memmove(to, from, size), 0;
}
CUDA(cudaMemcpy2DAsync)(void* to, const void* from) { return note("COPY " + way(to, from)), 0; }
CUDA(cudaMemcpyFromSymbol)(void* to, const void*, size_t size) { return memset(to, 0, size), 0; }
CUDA(cudaMemset)(void* to, int value, size_t size) { return note_unsafe("SET"), memset(to, value, size), 0; }
CUDA(cudaMemsetAsync)(void* to, int value, size_t size) { return note("SET"), memset(to, value, size), 0; }
CUDA(cudaMemPoolCreate)(uintptr_t* pool) { return *pool = ++handles, 0; }
CUDA(cudaMemPoolGetAttribute)(void*, int, void* value) { return memset(value, 0, 8), 0; }
CUDA(cudaPointerGetAttributes)(void* attributes, const void* address) {
    memset(attributes, 0, 88);
    put(attributes, 0, in(device, address) ? 2 : in(pinned, address) ? 1 : 0);
    return put(attributes, 8, address), put(attributes, 16, address), 0;
}

// Streams, events, graphs.
CUDA(cudaStreamCreate)(uintptr_t* stream) { return *stream = ++handles, 0; }
CUDA(cudaStreamCreateWithFlags)(uintptr_t* stream) { return *stream = ++handles, 0; }
CUDA(cudaStreamSynchronize)() { return note_unsafe("SYNCHRONIZE"), 0; }
CUDA(cudaDeviceSynchronize)() { return note_unsafe("SYNCHRONIZE"), 0; }
CUDA(cudaEventSynchronize)() { return note_unsafe("SYNCHRONIZE"), 0; }
CUDA(cudaEventCreate)(uintptr_t* event) { return *event = ++handles, 0; }
CUDA(cudaEventCreateWithFlags)(uintptr_t* event) { return *event = ++handles, 0; }
CUDA(cudaEventElapsedTime)(float* milliseconds) { return *milliseconds = 1, 0; }
CUDA(cudaStreamBeginCapture)() { return note_unsafe("CAPTURE"), capturing = true, 0; }
CUDA(cudaStreamEndCapture)(void*, uintptr_t* graph) { return capturing = false, *graph = ++handles, 0; }
CUDA(cudaStreamIsCapturing)(void*, int* status) { return *status = capturing.load(), 0; }
CUDA(cudaGraphInstantiate)(uintptr_t* executable) { return *executable = ++handles, 0; }
CUDA(cudaGraphLaunch)() { return note("GRAPH"), 0; }
CUDA(cudaLibraryLoadData)(uintptr_t* library) { return *library = ++handles, 0; }
CUDA(cudaLibraryGetKernel)(uintptr_t* kernel) { return *kernel = ++handles, 0; }
