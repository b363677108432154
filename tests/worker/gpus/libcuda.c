// SPDX-License-Identifier: Apache-2.0
// As much of CUDA's driver interface as finds a device and overwrites its memory. Name and kind come from the recording
// of this machine, the memory is the file `memory` beside this library: what one process leaves in it the next one finds.
// The device that was asked for (CUDA_VISIBLE_DEVICES) is noted in `visible`.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE = 100 };

static char *memory;
static size_t size, taken;

static FILE *beside(const char *name, const char *mode) {
    static char path[512];
    Dl_info self;
    if (!dladdr((void *)beside, &self)) return NULL;
    snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(self.dli_fname, '/') - self.dli_fname), self.dli_fname, name);
    return fopen(path, mode);
}

static int find(const char *object, const char *key, char *value, size_t room) {
    FILE *file = beside("recording.tsv", "r");
    char line[512];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *first = strtok(line, "\t\n"), *second = strtok(NULL, "\t\n"), *third = strtok(NULL, "\t\n");
        if (first && second && third && !strcmp(first, object) && !strcmp(second, key)) {
            snprintf(value, room, "%s", third);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

int cuInit(unsigned flags) {
    char status[16];
    (void)flags;
    return find("driver", "status", status, sizeof status) && atoi(status) ? NO_DEVICE : SUCCESS;
}
int cuDriverGetVersion(int *version) {
    char found[16];
    *version = find("driver", "cuda", found, sizeof found) ? atoi(found) : 0;
    return SUCCESS;
}
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? INVALID_VALUE : SUCCESS; }
int cuDeviceGetName(char *name, int room, int device) {
    (void)device;
    return find("gpu0/mig0", "name", name, (size_t)room) || find("gpu0", "name", name, (size_t)room) ? SUCCESS : NO_DEVICE;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    char found[32];
    (void)device;
    *bytes = find("gpu0", "memory_total", found, sizeof found) ? strtoull(found, NULL, 0) : 1ull << 36;
    return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    char found[16];
    (void)device;
    // Memory that is the machine's, as its recording says by naming none; and a compute capability of 9.0.
    *value = attribute == 18 ? !find("gpu0", "memory_total", found, sizeof found) : attribute == 75 ? 9 : 0;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    FILE *file = beside("memory", "r+"), *log = beside("visible", "a");
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    struct stat info;
    if (!file || !log || fstat(fileno(file), &info)) return NO_DEVICE;
    fprintf(log, "%s\n", visible ? visible : "");
    fclose(log);
    size = (size_t)info.st_size;
    memory = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0) : NULL;
    return *context = memory, SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
int cuCtxSetCurrent(void *context) { (void)context; return SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
    if (bytes > size - taken) return OUT_OF_MEMORY;
    *address = (unsigned long long)(size_t)(memory + taken);
    taken += bytes;
    return SUCCESS;
}
int cuMemFree_v2(unsigned long long address) { (void)address; return SUCCESS; }
int cuMemsetD8_v2(unsigned long long address, unsigned char value, size_t bytes) {
    memset((void *)(size_t)address, value, bytes);
    return SUCCESS;
}
