"""How fast the device could compute at best: what model FLOPs are a share of (MFU, Chowdhery et al. 2022)."""

import time

import torch

# Dense products without sparsity, in FLOP/s: (bf16, fp32 without TF32), from NVIDIA's data sheets. The first name that is
# part of the device's name counts.
PEAKS = {
    "B200": (2250e12, 75e12),
    "H200": (989e12, 67e12),
    "H100 PCIe": (756e12, 51e12),
    "H100 NVL": (835e12, 60e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "A10G": (70e12, 35e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "RTX 4090": (165e12, 82.6e12),
}
MEASURED_SIZE = {"cpu": 512, "cuda": 8192}
MEASURED_TIMES = 5


def peak_flops(device: torch.device, precision: str) -> float:
    """The device's peak in FLOP/s: the data sheet's, or of an unknown device the best of a few matrix products."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, (bf16, fp32) in PEAKS.items():
            if known in name:
                return bf16 if precision == "bf16" else fp32
    return measured_flops(device, torch.bfloat16 if precision == "bf16" else torch.float32)


def measured_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few products of square matrices, with the threads that torch has."""
    size = MEASURED_SIZE[device.type]
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(MEASURED_TIMES):
        begin = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best
