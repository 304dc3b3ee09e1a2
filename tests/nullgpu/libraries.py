"""Makes the libraries of a GPU that computes nothing, for the CUDA provider of the installed onnxruntime-gpu.

The CUDA runtime is ``cudart.cpp``. Of the others (cuBLAS, cuDNN, the driver ...), all functions that the provider wants
are made up: they succeed, and those that compute are noted in the log as a kernel. A few have to return something.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

CUDART = Path(__file__).with_name("cudart.cpp")
CUDART_SONAME, CUDNN, DRIVER = "libcudart.so.13", "libcudnn.so.9", "libcuda.so.1"
ORDER = CUDART_SONAME, DRIVER, "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", CUDNN
SILENT = re.compile("Create|Destroy|Get|Set(?!Stream)|Finalize|Init|Version|Register|Event|Stream|Pool|Library|Graph")
HANDLE = re.compile(r"^(cublasCreate_v2|cublasLtCreate|cudnnCreate\w*|cublasLt\w+Create)$")
NEEDED_OF_CURAND = ["curandCreateGenerator"]
BODIES = {
    "cublasGetMathMode": "(void*, int* mode) { return *mode = 0, 0; }",
    "cublasLtMatmulAlgoGetHeuristic": "(void*, void*, void*, void*, void*, void*, void*, int, void* found, int* count)"
    " { return memset(found, 0, 64), *count = 1, 0; }",
    "cudnnGetVersion": "() { return 92800; }",
    "cudnnGetCudartVersion": "() { return 13010; }",
    "cudnnGetReductionWorkspaceSize": "(void*, void*, void*, void*, size_t* size) { return *size = 1024, 0; }",
    "cudnnGetReductionIndicesSize": "(void*, void*, void*, void*, size_t* size) { return *size = 1024, 0; }",
    "cudnnGetStream": "(void*, void** stream) { return *stream = nullptr, 0; }",
    # An execution plan has attributes: of each, one that is zero, but for descriptors (type 15), which stay.
    "cudnnBackendCreateDescriptor": "(int, void** made) { return *made = calloc(1, 256), 0; }",
    "cudnnBackendGetAttribute": "(void*, int name, int type, int64_t asked, int64_t* count, void* values) {"
    " if (!values) { if (count) *count = name == 202; return 0; }"
    " if (count) *count = asked > 0; if (type != 15 && asked > 0) memset(values, 0, 8); return 0; }",
    "cudnnBackendFinalize": "(void*) { return 0; }",
    "cuInit": "(unsigned) { return 0; }",
    "cuDeviceGetCount": "(int* count) { return *count = 1, 0; }",
    "cuDeviceGet": "(int* device, int index) { return *device = index, 0; }",
    "cuDeviceGetName": '(char* name, int size, int) { return strncpy(name, "A GPU that computes nothing", size), 0; }',
}
TEXTS = ("cublasGetStatusName", "cublasGetStatusString", "cudnnGetErrorString")
HEAD = """#include <cstdint>
#include <cstdlib>
#include <cstring>
extern "C" void null_gpu_note(const char*);
"""


def wanted(provider: Path) -> dict[str, list[str]]:
    """The functions that the provider wants, by the libraries that have them."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", provider], capture_output=True, text=True, check=True)
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    found: dict[str, list[str]] = {name: [] for name in ORDER}
    for name, _, library in (each.partition("@") for each in names):
        if library in found:
            found[library].append(name)
    # cuDNN is opened at run time, its functions looked up by their names; those of the driver have no version.
    text = provider.read_bytes()
    found[CUDNN] = sorted({each.decode() for each in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", text)})
    found[CUDNN] += [name for name in ("cudnnGetCudartVersion",) if name not in found[CUDNN]]
    found[DRIVER] = [name for name in names if re.fullmatch(r"cu[A-Z]\w+", name)]
    found[DRIVER] += [name for name in BODIES if name.startswith("cu") and name[2].isupper()]
    found["libcurand.so.10"] = found["libcurand.so.10"] or NEEDED_OF_CURAND
    return found


def source(library: str, names: list[str]) -> str:
    """The source of a library: what is written by hand, and the rest made up."""
    text = CUDART.read_text(encoding="utf-8") if library == CUDART_SONAME else HEAD
    for name in dict.fromkeys(names):
        if library == CUDART_SONAME and re.search(rf"\b{name}\b\)?\(", text):
            continue
        if name in TEXTS:
            text += f'extern "C" const char* {name}() {{ return "none"; }}\n'
        elif name in BODIES:
            text += f'extern "C" {"size_t" if "Version" in name else "int"} {name}{BODIES[name]}\n'
        elif HANDLE.match(name):
            text += f'extern "C" int {name}(void** made) {{ return *made = calloc(1, 256), 0; }}\n'
        elif SILENT.search(name) or library in (CUDART_SONAME, DRIVER):
            text += f'extern "C" int {name}() {{ return 0; }}\n'
        else:
            text += f'extern "C" int {name}() {{ return null_gpu_note("KERNEL {name}"), 0; }}\n'
    return text


def build(provider: Path, folder: Path) -> None:
    """Compile all libraries into the folder."""
    for library, names in wanted(provider).items():
        code, versions = folder / f"{library}.cpp", folder / f"{library}.map"
        code.write_text(source(library, names), encoding="utf-8")
        versions.write_text(f"{library} {{ global: *; }};\n")
        command = ["g++", "-w", "-O1", "-std=c++17", "-shared", "-fPIC", code, "-o", folder / library]
        command += [f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}", "-L", folder]
        others = [] if library == CUDART_SONAME else [f"-l:{CUDART_SONAME}"]
        subprocess.run([*map(str, command), *others], check=True)


def load(folder: Path) -> ctypes.CDLL:
    """Load all libraries into this process, where whoever asks for their names finds them; return the CUDA runtime."""
    loaded = {name: ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL) for name in ORDER}
    runtime = loaded[CUDART_SONAME]
    runtime.null_gpu_take.restype = ctypes.c_char_p
    return runtime
