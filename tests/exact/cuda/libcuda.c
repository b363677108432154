// SPDX-License-Identifier: Apache-2.0
// As much of CUDA's driver interface as the engine calls, on this machine's processor: memory is the process's, kernels
// are those of the library that SIMULATED_GPU names. FAIL names a function that then fails, FAIL_WITH its status.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500 };

typedef void (*Launch)(unsigned, unsigned, unsigned, void **);

static void *library;
static void *current;
static int context;

static int fails(const char *function) {
    const char *named = getenv("FAIL"), *status = getenv("FAIL_WITH");
    return named && !strcmp(named, function) ? status ? atoi(status) : INVALID_VALUE : SUCCESS;
}
// Nothing works in a thread that has not made the context its own.
static int enter(const char *function) { return current != &context ? 201 : fails(function); }

// cuda-bindings asks for every function by its first name, and wants the newest one.
int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *found) {
    char newest[256];
    Dl_info self;
    (void)version, (void)flags;
    snprintf(newest, sizeof newest, "%s_v2", symbol);
    void *own = dladdr((void *)cuGetProcAddress_v2, &self) ? dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
    *function = own ? dlsym(own, newest) : NULL;
    if (own && !*function) *function = dlsym(own, symbol);
    if (found) *found = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}

// NVRTC looks for a driver too, and asks it for tables of its own.
int cuGetExportTable(const void **table, const void *identity) {
    (void)identity;
    return *table = NULL, NOT_FOUND;
}
int cuInit(unsigned flags) { return flags ? INVALID_VALUE : fails("cuInit"); }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? INVALID_DEVICE : SUCCESS; }
int cuDeviceGetName(char *name, int room, int device) {
    snprintf(name, (size_t)room, "Simulated");
    return device ? INVALID_DEVICE : SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *capability = getenv("CAPABILITY");
    const int both = capability ? atoi(capability) : 90;
    *value = attribute == 75 ? both / 10 : attribute == 76 ? both % 10 : attribute == 16 ? 7 : 0;
    return device ? INVALID_DEVICE : SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **made, int device) {
    *made = &context;
    return device ? INVALID_DEVICE : SUCCESS;
}
int cuCtxSetCurrent(void *made) { return current = made, made == &context ? SUCCESS : INVALID_VALUE; }
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
    const int status = enter("cuMemAlloc");
    if (status) return status;
    if (bytes > (size_t)1 << 30) return OUT_OF_MEMORY;
    *address = (unsigned long long)(size_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    return SUCCESS;
}
int cuMemFree_v2(unsigned long long address) {
    free((void *)(size_t)address);
    return enter("cuMemFree");
}
int cuMemcpyHtoD_v2(unsigned long long target, const void *source, size_t bytes) {
    const int status = enter("cuMemcpyHtoD");
    if (!status) memcpy((void *)(size_t)target, source, bytes);
    return status;
}
int cuMemcpyDtoH_v2(void *target, unsigned long long source, size_t bytes) {
    const int status = enter("cuMemcpyDtoH");
    if (!status) memcpy(target, (void *)(size_t)source, bytes);
    return status;
}
int cuMemcpyDtoD_v2(unsigned long long target, unsigned long long source, size_t bytes) {
    const int status = enter("cuMemcpyDtoD");
    if (!status) memcpy((void *)(size_t)target, (void *)(size_t)source, bytes);
    return status;
}
int cuModuleLoadData(void **module, const void *image) {
    const int status = enter("cuModuleLoadData");
    if (status || memcmp(image, "\x7f" "ELF", 4)) return status ? status : INVALID_IMAGE;
    library = *module = dlopen(getenv("SIMULATED_GPU"), RTLD_NOW);
    return library ? SUCCESS : INVALID_IMAGE;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    char entry[256];
    snprintf(entry, sizeof entry, "launch_%s", name);
    *function = dlsym(module, entry);
    return *function ? enter("cuModuleGetFunction") : NOT_FOUND;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned in_y, unsigned in_z,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    const int status = enter("cuLaunchKernel");
    if (status) return status;
    if (z != 1 || in_y != 1 || in_z != 1 || shared || stream || extra) return INVALID_VALUE;
    ((Launch)function)(x, y, threads, parameters);
    return SUCCESS;
}
int cuGetErrorString(int status, const char **text) {
    (void)status;
    return *text = "as the test wanted", SUCCESS;
}
