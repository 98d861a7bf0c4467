"""The numerics of a device: which kernels compute, and which settings and environment variables choose among them.

The same program gives other last digits on another processor, with another BLAS, or where a variable names other
instructions. So these are recorded, compared by certificates and checked when a run is resumed.
"""

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

CPU_VARIABLES = (
    "BLIS_ARCH_TYPE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
CUDA_VARIABLES = (
    "CUBLASLT_WORKSPACE_SIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
)


def device_name(device: torch.device) -> str:
    """The name of the GPU, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def numerics(device: torch.device) -> dict[str, str]:
    """What decides the last digits on a device, by name; a variable that is not set is left out."""
    values, variables = (_cuda(), CUDA_VARIABLES) if device.type == "cuda" else (_cpu(), CPU_VARIABLES)
    values["matmul_precision"] = torch.get_float32_matmul_precision()
    values["deterministic"] = str(torch.are_deterministic_algorithms_enabled())
    return values | {name: os.environ[name] for name in variables if os.environ.get(name)}


def _cpu() -> dict[str, str]:
    built = torch.__config__.show()
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    mkl = re.search(r"Math Kernel Library Version ([\w.]+)", built)
    onednn = re.search(r"MKL-DNN v([\w.]+)", built)
    return {
        "cpu": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "blas": " ".join([blas[1] if blas else "unknown", *([mkl[1]] if mkl else [])]),
        "onednn": (onednn[1] if onednn else "yes") if torch.backends.mkldnn.enabled else "off",
        "onednn_matmul": _precision(torch.backends.mkldnn, "matmul"),
    }


def _cuda() -> dict[str, str]:
    return {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "tf32_matmul": _precision(torch.backends.cuda, "matmul"),
        "tf32_cudnn": _precision(torch.backends.cudnn, "conv"),
        "bf16_reduced": str(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
    }


def _precision(backend: Any, operation: str) -> str:
    """What an operation of a backend may do with fp32 operands: ieee, tf32, bf16, or none (not set)."""
    return str(getattr(backend, operation).fp32_precision)


def vector_instructions(table: Path = Path("/proc/cpuinfo")) -> str:
    """This machine's instructions for matrices in fp32 and bf16, as the system names them (empty where it does not)."""
    flags = (
        next((line for line in table.read_text().splitlines() if line.startswith("flags")), "")
        if table.exists()
        else ""
    )
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return " ".join(name for name in known if name in flags.split())


def processor(table: Path = Path("/proc/cpuinfo")) -> str:
    """The model of this machine's processor, with its family and number where the name alone is vague."""
    if not table.exists():
        return platform.processor() or platform.machine()
    rows = [line.partition(":") for line in table.read_text().split("\n\n")[0].splitlines()]
    known = {name.strip(): value.strip() for name, _, value in rows}
    numbers = [f"{name} {known[name]}" for name in ("cpu family", "model") if name in known]
    return " ".join([known.get("model name", platform.machine()), *([f"({', '.join(numbers)})"] if numbers else [])])
