/* A stand-in for libamd_smi.so with AMD SMI's ABI, as far as pyrsmi is used by emt_cli/sensors/amd.
 *
 * What the GPUs are and do stands in a text file, named by FAKE_AMDSMI and read anew at every call, so that a
 * test can change the world under a running sensor. tests/fakes/amdsmi.py writes it; one fact a line:
 *
 *   version YEAR MAJOR MINOR   YEAR 0: the structures of ROCm 7, which begin with MAJOR
 *   clock PATH                 a file with seconds that replaces CLOCK_MONOTONIC
 *   noise TEXT                 amdsmi_init writes this to standard error, as libdrm does
 *   fail CALL CODE             that call returns that amdsmi_status_t; below a device: for that device only
 *   device BDF                 opens a device by its address as a number; what follows is about it
 *   name TEXT                  power_w, limit_w WATTS; field current|average: which one tells the power
 *   refresh_ms MS              counter 0|1; frozen_at STEPS: the counter stands there
 *   lost_at_s SECONDS          from that time of the clock on, every call says "not found"
 *
 * Energy is power_w x clock in steps of 2^-16 J, said to be 15.3 uJ as by AMD's library. Handles are addresses
 * of this library: above 4 GiB, as the real ones. Layouts: amdsmi.h of ROCm 6.3 and 7.0.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVAL = 1, NOT_SUPPORTED = 2, NOT_FOUND = 31, NOT_INIT = 32, DRIVER_NOT_LOADED = 34 };
enum { DEVICES = 16, FAILURES = 16, TEXT = 512, INIT_AMD_GPUS = 2 };

typedef struct { char call[64]; int code; } Failure;
typedef struct {
    unsigned long long bdf, frozen_at;
    char name[TEXT];
    double power_w, limit_w, refresh_ms, lost_at_s;
    int tells_average, has_counter, is_frozen, failure_count;
    Failure failures[FAILURES];
} Device;

static struct {
    char clock[TEXT], noise[TEXT];
    uint32_t year, major, minor;
    Failure failures[FAILURES];
    Device devices[DEVICES];
    int failure_count, count;
} scene;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users; /* amdsmi_init less amdsmi_shut_down */
static char sockets[DEVICES], processors[DEVICES]; /* their addresses are the handles */

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

static void parse_device_line(Device *device, const char *word, const char *rest) {
    if (!strcmp(word, "name")) strcpy(device->name, rest);
    else if (!strcmp(word, "power_w")) device->power_w = atof(rest);
    else if (!strcmp(word, "limit_w")) device->limit_w = atof(rest);
    else if (!strcmp(word, "refresh_ms")) device->refresh_ms = atof(rest);
    else if (!strcmp(word, "lost_at_s")) device->lost_at_s = atof(rest);
    else if (!strcmp(word, "counter")) device->has_counter = atoi(rest);
    else if (!strcmp(word, "field")) device->tells_average = !strcmp(rest, "average");
    else if (!strcmp(word, "frozen_at")) {
        device->is_frozen = 1;
        device->frozen_at = strtoull(rest, NULL, 10);
    }
}

static void parse_line(const char *word, const char *rest) {
    Device *device = scene.count ? &scene.devices[scene.count - 1] : NULL;
    if (!strcmp(word, "clock")) strcpy(scene.clock, rest);
    else if (!strcmp(word, "noise")) strcpy(scene.noise, rest);
    else if (!strcmp(word, "version")) {
        if (sscanf(rest, "%u %u %u", &scene.year, &scene.major, &scene.minor) != 3) abort();
    } else if (!strcmp(word, "device") && scene.count < DEVICES) {
        device = &scene.devices[scene.count++];
        device->bdf = strtoull(rest, NULL, 10);
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
    const char *path = getenv("FAKE_AMDSMI");
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

static Device *device_of(const void *handle) {
    for (int i = 0; i < scene.count; i++)
        if (handle == &processors[i]) return &scene.devices[i];
    return NULL;
}

/* What every call does first: a fresh look at the scene, then the failure it has for this call. */
static int enter(const char *call, const void *handle, int is_about_device) {
    int code = read_scene();
    if (code) return code;
    if (!users) return NOT_INIT;
    if ((code = failure(scene.failures, scene.failure_count, call)) || !is_about_device) return code;
    Device *device = device_of(handle);
    if (!device) return INVAL; /* as for a handle that was cut to 32 bits */
    if (now_s() >= device->lost_at_s) return NOT_FOUND;
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

static unsigned long long steps(const Device *device) {
    double step_s = device->refresh_ms / 1000;
    double until_s = step_s > 0 ? floor(now_s() / step_s + 1e-9) * step_s : now_s();
    return device->is_frozen ? device->frozen_at : (unsigned long long)llround(device->power_w * until_s * 65536);
}

/* A power of 0 is not told either, as of a second die. */
static void put_power(const Device *device, uint32_t *words) {
    uint32_t watts = (uint32_t)llround(device->power_w);
    if (scene.year) { /* current, average, gfx, soc, mem (mV), limit (W) */
        uint32_t now = device->tells_average ? 0xFFFF : watts, average = device->tells_average ? watts : 0xFFFF;
        uint32_t old[] = {now, average, 725, 900, 850, (uint32_t)device->limit_w};
        memcpy(words, old, sizeof old);
    } else { /* socket (64), current, average, gfx, soc, mem (64, mV), limit (uW) */
        uint32_t none = 0xFFFFFFFF;
        uint32_t fresh[] = {watts, 0, device->tells_average ? none : watts, device->tells_average ? watts : none,
                            725, 0, 900, 0, 850, 0, (uint32_t)(device->limit_w * 1e6)};
        memcpy(words, fresh, sizeof fresh);
    }
}

int amdsmi_init(uint64_t flags) {
    pthread_mutex_lock(&lock);
    int code = flags == INIT_AMD_GPUS ? read_scene() : INVAL;
    if (!code && scene.noise[0]) fprintf(stderr, "%s\n", scene.noise);
    if (!code) code = failure(scene.failures, scene.failure_count, "amdsmi_init");
    if (!code) users++;
    pthread_mutex_unlock(&lock);
    return code;
}

int amdsmi_shut_down(void) {
    pthread_mutex_lock(&lock);
    int code = users ? SUCCESS : NOT_INIT;
    if (users) users--;
    pthread_mutex_unlock(&lock);
    return code;
}

int amdsmi_status_code_to_string(int status, const char **text) {
    static __thread char buffer[64];
    snprintf(buffer, sizeof buffer, "fake status %d", status);
    *text = buffer;
    return SUCCESS;
}

CALL(amdsmi_get_lib_version, NULL, 0, (uint32_t *out), {
    if (scene.year) *out++ = scene.year;
    out[0] = scene.major;
    out[1] = scene.minor;
    out[2] = 0;
})

/* A socket for each GPU. */
CALL(amdsmi_get_socket_handles, NULL, 0, (uint32_t *count, void **out), {
    for (uint32_t i = 0; out && i < *count && i < (uint32_t)scene.count; i++) out[i] = &sockets[i];
    *count = (uint32_t)scene.count;
})

CALL(amdsmi_get_processor_handles, NULL, 0, (void *socket, uint32_t *count, void **out), {
    int at = (int)((char *)socket - sockets);
    if (at < 0 || at >= scene.count) code = INVAL;
    else {
        if (out && *count) out[0] = &processors[at];
        *count = 1;
    }
})

CALL(amdsmi_get_gpu_asic_info, handle, 1, (void *handle, char *out), { strcpy(out, self->name); })

CALL(amdsmi_get_gpu_device_bdf, handle, 1, (void *handle, uint64_t *out), { *out = self->bdf; })

CALL(amdsmi_get_power_info, handle, 1, (void *handle, uint32_t *out), { put_power(self, out); })

CALL(amdsmi_get_power_cap_info, handle, 1, (void *handle, uint32_t sensor, uint64_t *out), {
    uint64_t limit = (uint64_t)(self->limit_w * 1e6);
    uint64_t limits[] = {limit, limit, 0, 0, limit};
    if (sensor) code = INVAL;
    else memcpy(out, limits, sizeof limits);
})

CALL(amdsmi_get_energy_count, handle, 1, (void *handle, uint64_t *out, float *step_uj, uint64_t *stamp_ns), {
    if (!self->has_counter) code = NOT_SUPPORTED;
    else {
        *out = steps(self);
        *step_uj = 15.3F;
        *stamp_ns = (uint64_t)(now_s() * 1e9);
    }
})
