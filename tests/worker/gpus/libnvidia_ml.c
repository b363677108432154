// SPDX-License-Identifier: Apache-2.0
// Answers as NVML does, from a recording: lines of `object<TAB>key<TAB>value`, read anew at each call, so that a test
// may change what the machine says while it is asked. Objects: `driver`, `gpu0`, `gpu0/mig1`, `event`.
// What is not in the recording is not supported. The recording is `recording.tsv` beside this library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED = 9,
       TIMEOUT };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { int taken; } Set;

static int users;

static FILE *recording(void) {
    static char path[512];
    if (!*path) {
        Dl_info self;
        if (!dladdr((void *)recording, &self)) return NULL;
        snprintf(path, sizeof path, "%.*s/recording.tsv", (int)(strrchr(self.dli_fname, '/') - self.dli_fname),
                 self.dli_fname);
    }
    return fopen(path, "r");
}

// The `nth` value (from 0) of a key of an object; whether there is one.
static int find(const char *object, const char *key, int nth, char *value, size_t size) {
    FILE *file = recording();
    char line[512];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *first = strtok(line, "\t\n"), *second = strtok(NULL, "\t\n"), *third = strtok(NULL, "\t\n");
        if (first && second && third && !strcmp(first, object) && !strcmp(second, key) && nth-- == 0) {
            snprintf(value, size, "%s", third);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

// A handle is 1 + the GPU's number, and in the second byte 1 + the slice's.
static void *handle_of(int gpu, int slice) { return (void *)(size_t)((gpu + 1) | (slice + 1) << 8); }

static int text(void *handle, const char *key, char *value, size_t size) {
    char object[32], status[16];
    int gpu = (int)((size_t)handle & 255) - 1, slice = (int)((size_t)handle >> 8) - 1;
    if (!users) return UNINITIALIZED;
    if (gpu < 0) return INVALID_ARGUMENT;
    snprintf(object, sizeof object, "gpu%d", gpu);
    if (find(object, "status", 0, status, sizeof status) && atoi(status)) return atoi(status);
    if (slice >= 0) snprintf(object, sizeof object, "gpu%d/mig%d", gpu, slice);
    return find(object, key, 0, value, size) ? SUCCESS : NOT_SUPPORTED;
}

static int number(void *handle, const char *key, unsigned long long *value) {
    char found[96];
    int status = text(handle, key, found, sizeof found);
    if (status == SUCCESS) *value = strtoull(found, NULL, 0);
    return status;
}

static int small(void *handle, const char *key, unsigned *value) {
    unsigned long long wide = 0;
    int status = number(handle, key, &wide);
    if (status == SUCCESS) *value = (unsigned)wide;
    return status;
}

int nvmlInitWithFlags(unsigned flags) {
    char status[16];
    (void)flags;
    if (find("driver", "status", 0, status, sizeof status) && atoi(status)) return atoi(status);
    users++;
    return SUCCESS;
}
int nvmlShutdown(void) { return users ? (users--, SUCCESS) : UNINITIALIZED; }
const char *nvmlErrorString(int status) { (void)status; return "as recorded"; }

int nvmlSystemGetDriverVersion(char *value, unsigned size) {
    return find("driver", "version", 0, value, size) ? SUCCESS : DRIVER_NOT_LOADED;
}
int nvmlSystemGetCudaDriverVersion(int *value) {
    char found[16];
    if (!find("driver", "cuda", 0, found, sizeof found)) return NOT_SUPPORTED;
    *value = atoi(found);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char object[32], name[96];
    for (*count = 0;; ++*count) {
        snprintf(object, sizeof object, "gpu%u", *count);
        if (!find(object, "name", 0, name, sizeof name)) return SUCCESS;
    }
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    char name[96];
    *device = handle_of((int)index, -1);
    return text(*device, "name", name, sizeof name);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    char found[96];
    unsigned count;
    nvmlDeviceGetCount_v2(&count);
    for (unsigned gpu = 0; gpu < count; gpu++) {
        *device = handle_of((int)gpu, -1);
        int status = text(*device, "uuid", found, sizeof found);
        char recorded[96], object[32];
        snprintf(object, sizeof object, "gpu%u", gpu);
        if (find(object, "uuid", 0, recorded, sizeof recorded) && !strcmp(recorded, uuid)) return status;
    }
    return NOT_FOUND;
}
int nvmlDeviceGetName(void *device, char *value, unsigned size) { return text(device, "name", value, size); }
int nvmlDeviceGetUUID(void *device, char *value, unsigned size) { return text(device, "uuid", value, size); }
int nvmlDeviceGetMinorNumber(void *device, unsigned *value) { return small(device, "minor", value); }
int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    return text(device, "bus", pci->bus_id, sizeof pci->bus_id);
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    int status = number(device, "memory_total", &memory->total);
    if (status == SUCCESS) status = number(device, "memory_used", &memory->used);
    memory->free = memory->total - memory->used;
    return status;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *value) {
    (void)sensor;
    return small(device, "temperature", value);
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *value) { return small(device, "power", value); }
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *value) { return small(device, "power_limit", value); }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *value) {
    return number(device, "energy", value);
}
int nvmlDeviceGetEccMode(void *device, unsigned *current, unsigned *pending) {
    int status = small(device, "ecc", current);
    *pending = *current;
    return status;
}
int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *value) {
    (void)counter;
    return number(device, type ? "ecc_uncorrected" : "ecc_corrected", value);
}
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    int status = small(device, "mig", current);
    *pending = *current;
    return status;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *value) { return small(device, "mig_max", value); }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **slice) {
    char name[96];
    *slice = handle_of((int)((size_t)device & 255) - 1, (int)index);
    int status = text(*slice, "name", name, sizeof name);
    return status == NOT_SUPPORTED ? NOT_FOUND : status;
}
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *value) { return small(device, "gpu_instance", value); }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *value) { return small(device, "compute_instance", value); }

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    char name[96], object[32], pid[16];
    unsigned room = *count, found = 0;
    int status = text(device, "name", name, sizeof name);
    if (status != SUCCESS) return status;
    snprintf(object, sizeof object, "gpu%d", (int)((size_t)device & 255) - 1);
    for (; find(object, "process", (int)found, pid, sizeof pid); found++)
        if (found < room) processes[found] = (Process){(unsigned)atoi(pid), 0, ~0u, ~0u};
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types) {
    return number(device, "events", types);
}
int nvmlEventSetCreate(Set **set) {
    char event[96];
    *set = calloc(1, sizeof **set);
    while (find("event", "at", (*set)->taken, event, sizeof event)) (*set)->taken++;
    return SUCCESS;
}
int nvmlDeviceRegisterEvents(void *device, unsigned long long types, Set *set) {
    unsigned long long known = 0;
    int status = number(device, "events", &known);
    (void)set;
    return status == SUCCESS && types & ~known ? NOT_SUPPORTED : status;
}
int nvmlEventSetFree(Set *set) { free(set); return SUCCESS; }
// An event is `gpu type data gpu-instance`, the last -1 if it concerns the whole GPU.
int nvmlEventSetWait_v2(Set *set, Event *event, unsigned milliseconds) {
    char found[96];
    for (unsigned waited = 0;; waited += 10) {
        if (find("event", "at", set->taken, found, sizeof found)) {
            int gpu, instance;
            unsigned long long type, data;
            set->taken++;
            if (sscanf(found, "%d %llu %llu %d", &gpu, &type, &data, &instance) != 4) return INVALID_ARGUMENT;
            *event = (Event){handle_of(gpu, -1), type, data, (unsigned)instance, (unsigned)instance};
            return SUCCESS;
        }
        if (waited >= milliseconds) return TIMEOUT;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}
