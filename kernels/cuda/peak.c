#include "kernels/cuda/peak.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* Sources: NVIDIA's data sheets, and for GeForce the appendices of the architecture white papers
 * (FP16 tensor, FP32 accumulate). Never the figures for sparse matrices. The first match counts;
 * the name of a GeForce is matched whole, because laptop and reduced cards share its beginning. */
typedef struct {
    const char *pattern;
    double teraflops;
} DataSheet;

static const DataSheet DATA_SHEETS[] = {
    {"NVIDIA GH200*", 989.4},
    {"NVIDIA H200 NVL*", 835.5},
    {"NVIDIA H200*", 989.4},
    {"NVIDIA H100 NVL*", 835.5},
    {"NVIDIA H100 PCIe*", 756.5},
    {"NVIDIA H100*", 989.4},
    {"NVIDIA H800 PCIe*", 756.5},
    {"NVIDIA H800*", 989.4},
    {"NVIDIA H20", 148},
    {"NVIDIA B200*", 2250},
    {"NVIDIA GB200*", 2500},
    {"NVIDIA A100*", 312},
    {"NVIDIA A800*", 312},
    {"NVIDIA A30", 165},
    {"NVIDIA A10", 125},
    {"NVIDIA A10G", 70},
    {"NVIDIA A40", 149.7},
    {"NVIDIA L4", 121},
    {"NVIDIA L40", 181.05},
    {"NVIDIA L40S", 362.05},
    {"Tesla T4", 65},
    {"NVIDIA T4", 65},
    {"NVIDIA RTX A6000", 154.8},
    {"NVIDIA RTX A5000", 111.1},
    {"NVIDIA RTX A4000", 76.7},
    {"NVIDIA RTX 6000 Ada Generation", 364.2},
    {"NVIDIA TITAN RTX", 130.5},
    {"Quadro RTX 8000", 130.5},
    {"Quadro RTX 6000", 130.5},
    {"NVIDIA GeForce RTX 2060", 25.8},
    {"NVIDIA GeForce RTX 2070", 29.9},
    {"NVIDIA GeForce RTX 2080", 40.3},
    {"NVIDIA GeForce RTX 2080 Ti", 53.8},
    {"NVIDIA GeForce RTX 3060", 25.5},
    {"NVIDIA GeForce RTX 3060 Ti", 32.4},
    {"NVIDIA GeForce RTX 3070", 40.6},
    {"NVIDIA GeForce RTX 3070 Ti", 43.5},
    {"NVIDIA GeForce RTX 3080", 59.5},
    {"NVIDIA GeForce RTX 3080 Ti", 68.2},
    {"NVIDIA GeForce RTX 3090", 71},
    {"NVIDIA GeForce RTX 3090 Ti", 80},
    {"NVIDIA GeForce RTX 4060", 30.2},
    {"NVIDIA GeForce RTX 4060 Ti", 44.1},
    {"NVIDIA GeForce RTX 4070", 58.3},
    {"NVIDIA GeForce RTX 4070 SUPER", 70.9},
    {"NVIDIA GeForce RTX 4070 Ti", 80.2},
    {"NVIDIA GeForce RTX 4070 Ti SUPER", 88.2},
    {"NVIDIA GeForce RTX 4080", 97.5},
    {"NVIDIA GeForce RTX 4080 SUPER", 104.4},
    {"NVIDIA GeForce RTX 4090", 165.2},
    {"NVIDIA GeForce RTX 5070", 61.7},
    {"NVIDIA GeForce RTX 5070 Ti", 87.9},
    {"NVIDIA GeForce RTX 5080", 112.6},
    {"NVIDIA GeForce RTX 5090", 209.5},
};

/* 0: none of them. A part of a card (MIG) is none. */
static double data_sheet_flops(const char *name)
{
    if (strstr(name, " MIG "))
        return 0;
    for (size_t i = 0; i < sizeof(DATA_SHEETS) / sizeof(DATA_SHEETS[0]); i++)
        if (fnmatch(DATA_SHEETS[i].pattern, name, 0) == 0)
            return DATA_SHEETS[i].teraflops * 1e12;
    return 0;
}

/* Multiply-adds of one SM in one clock. GeForce cards sum in float32 at half the rate of the same
 * architecture elsewhere. */
static double macs_per_sm(int32_t compute_capability, bool geforce)
{
    switch (compute_capability / 10) {
    case 7:
    case 12:
        return geforce ? 256 : 512;
    case 8:
        return compute_capability == 80 ? 1024 : geforce ? 256 : 512;
    case 9:
        return 2048;
    case 10:
        return 4096;
    default:
        return 0;
    }
}

double cuda_peak_flops(const GpuSpeed *gpu, char *source, size_t n_bytes)
{
    double flops = data_sheet_flops(gpu->name);
    if (flops > 0) {
        snprintf(source, n_bytes, "data sheet");
        return flops;
    }
    bool geforce = strstr(gpu->name, "GeForce") != NULL;
    flops = 2 * macs_per_sm(gpu->compute_capability, geforce) * gpu->n_sms * 1e3 * gpu->clock_khz;
    if (flops > 0)
        snprintf(source, n_bytes, "computed: %d SMs at %d MHz", (int)gpu->n_sms,
                 (int)(gpu->clock_khz / 1000));
    else
        snprintf(source, n_bytes, "unknown card");
    return flops;
}
