/* A stand-in for libnvidia-ml.so.1 with NVML's ABI, as far as pynvml is used by emt_cli/sensors/nvml.
 *
 * What the GPUs are and do stands in a text file, named by FAKE_NVML and read anew at every call, so that
 * a test can change the world under a running sensor. tests/fakes/nvml.py writes it; one fact a line:
 *
 *   driver VERSION            clock PATH (a file with seconds that replaces CLOCK_MONOTONIC)
 *   fail CALL CODE            that call returns that nvmlReturn_t; below a device: for that device only
 *   device UUID               opens a device; what follows is about it
 *   name TEXT                 power_w, average_w, module_w, load_w, limit_w WATTS; refresh_ms MS
 *   use PERCENT               utilisation; capability MAJOR MINOR
 *   lost_at_s SECONDS         from that time of the clock on, every call says "GPU is lost"
 *   returns N                 how often it was lost and came back: handles from before are dead
 *   counts_from_s SECONDS     when the energy counter was at zero
 *   mig SLICES UUID           a MIG instance; MIG mode is on if there is one
 *   process PID SM HOST PART  always there; a process that uses SM % of the compute units. It is HOST to the
 *                             utilisation call where that is not 0, and on the instance number PART from 1
 *   process_file SM HOST PART PATH   the process whose PID stands in that file, while it lives
 *
 * Energy is power_w x clock, in steps of refresh_ms; load_w comes on top while a listed process lives, as
 * exact as the calls are frequent. Handles go by UUID: the order of devices may change under a running
 * sensor. Struct layouts and codes: nvml.h of driver 570.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { FIELD_AVERAGE = 185, FIELD_INSTANT = 186, SCOPE_GPU = 0, SCOPE_MODULE = 1, VALUE_UNSIGNED_INT = 1 };
enum { DEVICES = 16, INSTANCES = 7, PROCESSES = 16, FAILURES = 16, HANDLES = 128, TEXT = 512 };

typedef struct { char uuid[TEXT]; int instance, returns; } Handle, *nvmlDevice_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } ProcessInfo;
typedef struct { unsigned pid; unsigned long long time_us; unsigned sm, memory, encoder, decoder; } UtilizationSample;
typedef union { double d; unsigned ui; unsigned long long ull; } Value;
typedef struct {
    uint32_t field, scope;
    int64_t time_us, latency_us;
    unsigned type, status;
    Value value;
} FieldValue;

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} Attributes;

typedef struct { char call[64]; int code; } Failure;
typedef struct { long pid; unsigned sm; long host_pid; int part; } Process;
typedef struct {
    char uuid[TEXT], name[TEXT], instances[INSTANCES][TEXT];
    double power_w, average_w, module_w, load_w, limit_w, refresh_ms, lost_at_s, counts_from_s;
    unsigned use, slices[INSTANCES];
    Failure failures[FAILURES];
    Process processes[PROCESSES];
    int failure_count, process_count, instance_count, returns, major, minor;
} Device;

static struct {
    char driver[TEXT], clock[TEXT];
    Failure failures[FAILURES];
    Device devices[DEVICES];
    int failure_count, count;
} scene;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users; /* nvmlInit less nvmlShutdown */
static struct { double joules, until_s; } load[DEVICES];
static Handle handles[HANDLES]; /* those that were given out; they stay where they are */
static int handle_count;

static double now_s(void) {
    struct timespec now;
    double seconds = 0;
    FILE *file = scene.clock[0] ? fopen(scene.clock, "r") : NULL;
    if (file) {
        if (fscanf(file, "%lf", &seconds) != 1) seconds = 0;
        fclose(file);
        return seconds;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static unsigned long long wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000ULL + now.tv_nsec / 1000;
}

static long pid_in_file(const char *path) {
    long pid = 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%ld", &pid) != 1) pid = 0;
    fclose(file);
    return pid > 0 && kill((pid_t)pid, 0) == 0 ? pid : 0;
}

static void add_process(Device *device, Process process) {
    if (process.pid > 0 && device->process_count < PROCESSES) device->processes[device->process_count++] = process;
}

static void parse_process(Device *device, const char *rest) {
    Process process = {0, 0, 0, 0};
    if (sscanf(rest, "%ld %u %ld %d", &process.pid, &process.sm, &process.host_pid, &process.part) == 4)
        add_process(device, process);
}

static void parse_process_file(Device *device, const char *rest) {
    Process process = {0, 0, 0, 0};
    int path = 0;
    if (sscanf(rest, "%u %ld %d %n", &process.sm, &process.host_pid, &process.part, &path) == 3) {
        process.pid = pid_in_file(rest + path);
        add_process(device, process);
    }
}

static void parse_instance(Device *device, const char *rest) {
    int count = device->instance_count;
    if (count < INSTANCES && sscanf(rest, "%u %511s", &device->slices[count], device->instances[count]) == 2)
        device->instance_count++;
}

static void parse_device_line(Device *device, const char *word, const char *rest) {
    if (!strcmp(word, "name")) strcpy(device->name, rest);
    else if (!strcmp(word, "power_w")) device->power_w = atof(rest);
    else if (!strcmp(word, "average_w")) device->average_w = atof(rest);
    else if (!strcmp(word, "module_w")) device->module_w = atof(rest);
    else if (!strcmp(word, "load_w")) device->load_w = atof(rest);
    else if (!strcmp(word, "limit_w")) device->limit_w = atof(rest);
    else if (!strcmp(word, "refresh_ms")) device->refresh_ms = atof(rest);
    else if (!strcmp(word, "lost_at_s")) device->lost_at_s = atof(rest);
    else if (!strcmp(word, "counts_from_s")) device->counts_from_s = atof(rest);
    else if (!strcmp(word, "returns")) device->returns = atoi(rest);
    else if (!strcmp(word, "use")) device->use = (unsigned)atoi(rest);
    else if (!strcmp(word, "capability")) sscanf(rest, "%d %d", &device->major, &device->minor);
    else if (!strcmp(word, "mig")) parse_instance(device, rest);
    else if (!strcmp(word, "process")) parse_process(device, rest);
    else if (!strcmp(word, "process_file")) parse_process_file(device, rest);
}

static void parse_line(const char *word, const char *rest) {
    Device *device = scene.count ? &scene.devices[scene.count - 1] : NULL;
    if (!strcmp(word, "driver")) strcpy(scene.driver, rest);
    else if (!strcmp(word, "clock")) strcpy(scene.clock, rest);
    else if (!strcmp(word, "device") && scene.count < DEVICES) {
        device = &scene.devices[scene.count++];
        strcpy(device->uuid, rest);
        device->refresh_ms = 100;
        device->lost_at_s = HUGE_VAL;
    } else if (!strcmp(word, "fail")) {
        Failure *failures = device ? device->failures : scene.failures;
        int *count = device ? &device->failure_count : &scene.failure_count;
        if (*count < FAILURES && sscanf(rest, "%63s %d", failures[*count].call, &failures[*count].code) == 2)
            ++*count;
    } else if (device) parse_device_line(device, word, rest);
}

static int read_scene(void) {
    char line[TEXT], word[TEXT];
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    memset(&scene, 0, sizeof scene);
    while (fgets(line, sizeof line, file)) {
        int start = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%511s %n", word, &start) == 1) parse_line(word, line + start);
    }
    fclose(file);
    return SUCCESS;
}

static int failure(const Failure *failures, int count, const char *call) {
    for (int i = 0; i < count; i++)
        if (!strcmp(failures[i].call, call)) return failures[i].code;
    return SUCCESS;
}

static Device *device_of(nvmlDevice_t handle) {
    for (int i = 0; handle && i < scene.count; i++)
        if (!strcmp(scene.devices[i].uuid, handle->uuid)) return &scene.devices[i];
    return NULL;
}

/* The handle of a board (instance 0) or of one of its MIG instances. */
static nvmlDevice_t handle_of(const Device *device, int instance) {
    for (int i = 0; i < handle_count; i++)
        if (handles[i].instance == instance && handles[i].returns == device->returns &&
            !strcmp(handles[i].uuid, device->uuid))
            return &handles[i];
    if (handle_count == HANDLES) return NULL;
    Handle *fresh = &handles[handle_count++];
    strcpy(fresh->uuid, device->uuid);
    fresh->instance = instance;
    fresh->returns = device->returns;
    return fresh;
}

/* What every call does first: a fresh look at the scene, then the failure it has for this call. */
static int enter(const char *call, nvmlDevice_t handle, int is_about_device) {
    int code = read_scene();
    if (code) return code;
    if (!users) return UNINITIALIZED;
    if ((code = failure(scene.failures, scene.failure_count, call)) || !is_about_device) return code;
    if (!handle) return INVALID_ARGUMENT;
    Device *device = device_of(handle);
    if (!device || handle->returns != device->returns || now_s() >= device->lost_at_s) return GPU_IS_LOST;
    return failure(device->failures, device->failure_count, call);
}

/* Defines an exported call: `CALL(name, handle or NULL, is_about_device, (parameters)) { body; sets code }`. */
#define CALL(name, handle, about, parameters, ...)                 \
    int name parameters {                                          \
        pthread_mutex_lock(&lock);                                 \
        int code = enter(#name, handle, about);                    \
        Device *self = code ? NULL : device_of(handle);            \
        (void)self;                                                \
        if (code == SUCCESS) __VA_ARGS__                           \
        pthread_mutex_unlock(&lock);                               \
        return code;                                               \
    }

static int put_text(char *out, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

static double watts(const Device *device) {
    return device->power_w + (device->process_count ? device->load_w : 0);
}

static unsigned long long energy_mj(const Device *device) {
    int index = (int)(device - scene.devices);
    double step_s = device->refresh_ms / 1000;
    double until_s = step_s > 0 ? floor(now_s() / step_s + 1e-9) * step_s : now_s();
    if (load[index].until_s > 0 && device->process_count)
        load[index].joules += device->load_w * (until_s - load[index].until_s);
    load[index].until_s = until_s;
    double joules = device->power_w * (until_s - device->counts_from_s) + load[index].joules;
    return (unsigned long long)llround(joules * 1000);
}

/* Of a board, all; of an instance, its own. */
static int processes(const Device *device, int instance, unsigned *count, ProcessInfo *out) {
    unsigned there = 0, room = *count;
    for (int i = 0; i < device->process_count; i++) {
        if (instance && device->processes[i].part != instance) continue;
        if (there < room) out[there] = (ProcessInfo){(unsigned)device->processes[i].pid, 1 << 20, 0xFFFFFFFF, 0xFFFFFFFF};
        there++;
    }
    *count = there;
    return there > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* The driver gives the newest sample of every process that was busy since `since_us`, or NOT_FOUND. */
static int utilization(const Device *device, UtilizationSample *out, unsigned *count, unsigned long long since_us) {
    unsigned long long step_us = (unsigned long long)(device->refresh_ms * 1000) + 1;
    unsigned long long newest_us = wall_us() / step_us * step_us;
    unsigned room = *count, found = 0;
    for (int i = 0; i < device->process_count; i++) {
        const Process *process = &device->processes[i];
        if (!process->sm || newest_us <= since_us) continue;
        long pid = process->host_pid ? process->host_pid : process->pid;
        if (out && found < room) out[found] = (UtilizationSample){(unsigned)pid, newest_us, process->sm, 0, 0, 0};
        found++;
    }
    *count = found;
    if (!found) return NOT_FOUND;
    return !out || found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

static void put_field(const Device *device, FieldValue *value) {
    char call[64];
    snprintf(call, sizeof call, value->scope ? "field%u.%u" : "field%u", value->field, value->scope);
    value->status = (unsigned)failure(device->failures, device->failure_count, call);
    value->type = VALUE_UNSIGNED_INT;
    int is_power = value->field == FIELD_INSTANT || value->field == FIELD_AVERAGE;
    if (!is_power || value->scope > SCOPE_MODULE || (value->scope == SCOPE_MODULE && !device->module_w))
        value->status = NOT_SUPPORTED;
    else if (value->scope == SCOPE_MODULE) value->value.ui = (unsigned)(device->module_w * 1000);
    else if (value->field == FIELD_INSTANT) value->value.ui = (unsigned)(watts(device) * 1000);
    else value->value.ui = (unsigned)(device->average_w * 1000);
}

static int board(const Device *device, nvmlDevice_t *out) {
    if (!device) return NOT_FOUND;
    if (now_s() >= device->lost_at_s) return GPU_IS_LOST;
    *out = handle_of(device, 0);
    return failure(device->failures, device->failure_count, "nvmlDeviceGetHandle");
}

static const Device *device_named(const char *uuid) {
    for (int i = 0; i < scene.count; i++)
        if (!strcmp(scene.devices[i].uuid, uuid)) return &scene.devices[i];
    return NULL;
}

static Attributes attributes_of(const Device *device, int instance) {
    unsigned slices = device->slices[instance - 1];
    return (Attributes){14 * slices, slices, 0, 0, 0, 0, slices, slices, 5120ULL * slices};
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int code = read_scene();
    if (!code) code = failure(scene.failures, scene.failure_count, "nvmlInitWithFlags");
    if (!code) users++;
    pthread_mutex_unlock(&lock);
    return code;
}

int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    int code = users ? SUCCESS : UNINITIALIZED;
    if (users) users--;
    pthread_mutex_unlock(&lock);
    return code;
}

const char *nvmlErrorString(int code) {
    static __thread char text[32];
    snprintf(text, sizeof text, "fake error %d", code);
    return text;
}

CALL(nvmlSystemGetDriverVersion, NULL, 0, (char *out, unsigned size), { code = put_text(out, size, scene.driver); })

CALL(nvmlDeviceGetCount_v2, NULL, 0, (unsigned *count), { *count = (unsigned)scene.count; })

CALL(nvmlDeviceGetHandleByIndex_v2, NULL, 0, (unsigned index, nvmlDevice_t *out),
     { code = board(index < (unsigned)scene.count ? &scene.devices[index] : NULL, out); })

CALL(nvmlDeviceGetHandleByUUID, NULL, 0, (const char *uuid, nvmlDevice_t *out),
     { code = board(device_named(uuid), out); })

CALL(nvmlDeviceGetUUID, device, 1, (nvmlDevice_t device, char *out, unsigned size),
     { code = put_text(out, size, device->instance ? self->instances[device->instance - 1] : self->uuid); })

CALL(nvmlDeviceGetName, device, 1, (nvmlDevice_t device, char *out, unsigned size),
     { code = put_text(out, size, self->name); })

CALL(nvmlDeviceGetTotalEnergyConsumption, device, 1, (nvmlDevice_t device, unsigned long long *out),
     { *out = energy_mj(self); })

CALL(nvmlDeviceGetPowerUsage, device, 1, (nvmlDevice_t device, unsigned *out),
     { *out = (unsigned)(self->average_w * 1000); })

CALL(nvmlDeviceGetFieldValues, device, 1, (nvmlDevice_t device, int count, FieldValue *values),
     { for (int i = 0; i < count; i++) put_field(self, &values[i]); })

CALL(nvmlDeviceGetEnforcedPowerLimit, device, 1, (nvmlDevice_t device, unsigned *out),
     { *out = (unsigned)(self->limit_w * 1000); })

CALL(nvmlDeviceGetPowerManagementLimitConstraints, device, 1,
     (nvmlDevice_t device, unsigned *least, unsigned *most),
     { *least = 0; *most = (unsigned)(self->limit_w * 1000); })

CALL(nvmlDeviceGetMigMode, device, 1, (nvmlDevice_t device, unsigned *current, unsigned *pending),
     { *current = *pending = self->instance_count > 0; })

CALL(nvmlDeviceGetMaxMigDeviceCount, device, 1, (nvmlDevice_t device, unsigned *count),
     { *count = self->instance_count ? INSTANCES : 0; })

CALL(nvmlDeviceGetMigDeviceHandleByIndex, device, 1,
     (nvmlDevice_t device, unsigned index, nvmlDevice_t *out),
     {
         if (index >= (unsigned)self->instance_count) code = NOT_FOUND;
         else *out = handle_of(self, (int)index + 1);
     })

CALL(nvmlDeviceGetComputeRunningProcesses_v3, device, 1,
     (nvmlDevice_t device, unsigned *count, ProcessInfo *out), { code = processes(self, device->instance, count, out); })

CALL(nvmlDeviceGetComputeRunningProcesses_v2, device, 1,
     (nvmlDevice_t device, unsigned *count, ProcessInfo *out), { code = processes(self, device->instance, count, out); })

CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, device, 1,
     (nvmlDevice_t device, unsigned *count, ProcessInfo *out), { (void)out; *count = 0; })

CALL(nvmlDeviceGetGraphicsRunningProcesses_v2, device, 1,
     (nvmlDevice_t device, unsigned *count, ProcessInfo *out), { (void)out; *count = 0; })

CALL(nvmlDeviceGetProcessUtilization, device, 1,
     (nvmlDevice_t device, UtilizationSample *out, unsigned *count, unsigned long long since_us),
     { code = self->instance_count ? NOT_SUPPORTED : utilization(self, out, count, since_us); })

CALL(nvmlDeviceGetUtilizationRates, device, 1, (nvmlDevice_t device, Utilization *out),
     {
         if (self->instance_count) code = NOT_SUPPORTED;
         else *out = (Utilization){self->use, 0};
     })

CALL(nvmlDeviceGetCudaComputeCapability, device, 1, (nvmlDevice_t device, int *major, int *minor),
     { *major = self->major; *minor = self->minor; })

CALL(nvmlDeviceGetAttributes_v2, device, 1, (nvmlDevice_t device, Attributes *out),
     {
         if (!device->instance) code = NOT_SUPPORTED;
         else *out = attributes_of(self, device->instance);
     })
