// SPDX-License-Identifier: Apache-2.0
// A libcuda.so.1 without a GPU, for cuda-bindings: device memory is host memory, work is done when it is put on a stream,
// or kept while a stream is captured. A module's image is the path of a kernel library made by tests/support/cuda_cpu/build.py.
// STUB_FAIL names a function that fails with CUDA_ERROR_OUT_OF_MEMORY; STUB_LOG a file for the names of calls.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

using u64 = unsigned long long;
constexpr int OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500;
constexpr size_t ARGUMENT_BYTES = 8;

struct Module {  // one handle each time, where dlopen gives one for a file
    void* library;
};
struct Kernel {
    void* library;
    int index;
    size_t parameters;
};
using Work = std::vector<std::function<int()>>;

static int live = 0;           // memory, pinned, modules, streams, events, graphs
static void* context = nullptr;  // current
static Work* capture = nullptr;
static char primary;

static int begin(const char* name, bool needs_context = true) {
    if (const char* path = getenv("STUB_LOG")) {
        FILE* file = fopen(path, "a");
        fprintf(file, "%s\n", name);
        fclose(file);
    }
    const char* fail = getenv("STUB_FAIL");
    if (fail && !strcmp(fail, name)) return OUT_OF_MEMORY;
    return needs_context && context != &primary ? INVALID_CONTEXT : OK;
}
static int put(std::function<int()> work) {
    if (!capture) return work();
    capture->push_back(std::move(work));
    return OK;
}
template <class T>
static T symbol(void* library, const char* name) {
    return reinterpret_cast<T>(dlsym(library, name));
}

#define ENTER(name) if (int status = begin(#name)) return status
#define ENTER_ANYWHERE(name) if (int status = begin(#name, false)) return status

extern "C" {
int cuGetErrorName(int status, const char** text) {
    *text = status == OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : status == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
            : status == NOT_FOUND       ? "CUDA_ERROR_NOT_FOUND"
                                        : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
int cuGetErrorString(int status, const char** text) {
    *text = status == OUT_OF_MEMORY ? "out of memory" : status == NOT_FOUND ? "named symbol not found" : "invalid";
    return OK;
}
int cuInit(unsigned) { ENTER_ANYWHERE(cuInit); return OK; }
int cuDriverGetVersion(int* version) { *version = 13000; return OK; }
int cuDeviceGetCount(int* count) { ENTER_ANYWHERE(cuDeviceGetCount); *count = 2; return OK; }
int cuDeviceGet(int* device, int ordinal) { ENTER_ANYWHERE(cuDeviceGet); *device = ordinal; return OK; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    ENTER_ANYWHERE(cuDeviceGetAttribute);
    *value = attribute == 75 ? 9 : 0;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    return OK;
}
int cuDeviceGetName(char* name, int length, int device) {
    ENTER_ANYWHERE(cuDeviceGetName);
    snprintf(name, length, "Stub GPU %d", device);
    return OK;
}
int cuDevicePrimaryCtxRetain(void** made, int) { ENTER_ANYWHERE(cuDevicePrimaryCtxRetain); *made = &primary; live++; return OK; }
int cuDevicePrimaryCtxRelease_v2(int) { ENTER_ANYWHERE(cuDevicePrimaryCtxRelease); live--; return OK; }
int cuCtxSetCurrent(void* made) { ENTER_ANYWHERE(cuCtxSetCurrent); context = made; return OK; }
int cuMemAlloc_v2(u64* pointer, size_t nbytes) {
    ENTER(cuMemAlloc);
    if (capture || !nbytes) return INVALID_VALUE;
    *pointer = reinterpret_cast<u64>(malloc(nbytes));
    memset(reinterpret_cast<void*>(*pointer), 0xcd, nbytes);
    live++;
    return OK;
}
int cuMemFree_v2(u64 pointer) { ENTER(cuMemFree); free(reinterpret_cast<void*>(pointer)); live--; return OK; }
int cuMemHostAlloc(void** pointer, size_t nbytes, unsigned) { ENTER(cuMemHostAlloc); *pointer = malloc(nbytes); live++; return OK; }
int cuMemFreeHost(void* pointer) { ENTER(cuMemFreeHost); free(pointer); live--; return OK; }
int cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t nbytes, void*) {
    ENTER(cuMemcpyHtoDAsync);
    return put([=] { memcpy(reinterpret_cast<void*>(to), from, nbytes); return OK; });
}
int cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t nbytes, void*) {
    ENTER(cuMemcpyDtoHAsync);
    return put([=] { memcpy(to, reinterpret_cast<void*>(from), nbytes); return OK; });
}
int cuMemsetD8Async(u64 to, unsigned char value, size_t nbytes, void*) {
    ENTER(cuMemsetD8Async);
    return put([=] { memset(reinterpret_cast<void*>(to), value, nbytes); return OK; });
}
int cuModuleLoadData(void** module, const void* image) {
    ENTER(cuModuleLoadData);
    void* library = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    if (!library) return INVALID_VALUE;
    *module = new Module{library};
    live++;
    return OK;
}
int cuModuleUnload(void* module) {
    ENTER(cuModuleUnload);
    dlclose(static_cast<Module*>(module)->library);
    delete static_cast<Module*>(module);
    live--;
    return OK;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    ENTER(cuModuleGetFunction);
    void* library = static_cast<Module*>(module)->library;
    int index = symbol<int (*)(const char*)>(library, "shim_find")(name);
    if (index < 0) return NOT_FOUND;
    *function = new Kernel{library, index, strlen(symbol<const char* (*)(int)>(library, "shim_parameters")(index))};
    return OK;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared_bytes, void*, void** arguments, void** extra) {
    ENTER(cuLaunchKernel);
    if (extra) return INVALID_VALUE;
    Kernel kernel = *static_cast<Kernel*>(function);
    auto values = std::make_shared<std::vector<u64>>(kernel.parameters);
    for (size_t i = 0; i < kernel.parameters; i++) memcpy(&(*values)[i], arguments[i], ARGUMENT_BYTES);
    auto launch = symbol<int (*)(int, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void**)>(
        kernel.library, "shim_launch");
    return put([=] {
        std::vector<void*> addresses;
        for (u64& value : *values) addresses.push_back(&value);
        return launch(kernel.index, gx, gy, gz, bx, by, bz, shared_bytes, addresses.data()) ? INVALID_VALUE : OK;
    });
}
int cuStreamCreate(void** stream, unsigned flags) { ENTER(cuStreamCreate); *stream = malloc(1 + flags); live++; return OK; }
int cuStreamDestroy_v2(void* stream) { ENTER(cuStreamDestroy); free(stream); live--; return OK; }
int cuStreamSynchronize(void*) { ENTER(cuStreamSynchronize); return capture ? INVALID_VALUE : OK; }
int cuStreamWaitEvent(void*, void*, unsigned) { ENTER(cuStreamWaitEvent); return OK; }
int cuEventCreate(void** event, unsigned) { ENTER(cuEventCreate); *event = malloc(1); live++; return OK; }
int cuEventDestroy_v2(void* event) { ENTER(cuEventDestroy); free(event); live--; return OK; }
int cuEventRecord(void*, void*) { ENTER(cuEventRecord); return OK; }
int cuEventElapsedTime(float* ms, void*, void*) { ENTER(cuEventElapsedTime); *ms = 1.5f; return OK; }
int cuEventElapsedTime_v2(float* ms, void* start, void* end) { return cuEventElapsedTime(ms, start, end); }
int cuStreamBeginCapture_v2(void* stream, int mode) {
    ENTER(cuStreamBeginCapture);
    if (!stream || capture || mode != 1) return INVALID_VALUE;  // 1: thread-local
    capture = new Work;
    return OK;
}
int cuStreamEndCapture(void*, void** graph) { ENTER(cuStreamEndCapture); *graph = capture; capture = nullptr; live++; return OK; }
int cuGraphInstantiateWithFlags(void** executable, void* graph, u64) {
    ENTER(cuGraphInstantiate);
    *executable = new Work(*static_cast<Work*>(graph));
    live++;
    return OK;
}
int cuGraphLaunch(void* executable, void*) {
    ENTER(cuGraphLaunch);
    for (auto& work : *static_cast<Work*>(executable)) {
        if (int status = work()) return status;
    }
    return OK;
}
int cuGraphExecDestroy(void* executable) { ENTER(cuGraphExecDestroy); delete static_cast<Work*>(executable); live--; return OK; }
int cuGraphDestroy(void* graph) { ENTER(cuGraphDestroy); delete static_cast<Work*>(graph); live--; return OK; }

int stub_live() { return live; }

int cuGetProcAddress_v2(const char* name, void** function, int, u64, int* status) {
    Dl_info self;
    dladdr(&primary, &self);
    static void* library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *function = nullptr;
    for (const char* version : {"_v2", ""}) {  // cuda-bindings asks by the plain name
        if (!*function) *function = dlsym(library, (std::string(name) + version).c_str());
    }
    if (!*function && !strcmp(name, "cuGraphInstantiate")) *function = dlsym(library, "cuGraphInstantiateWithFlags");
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
}
