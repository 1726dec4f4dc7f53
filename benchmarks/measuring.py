"""How the benchmarks measure: pairs in turn, wall and processor time, the machine named."""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent

_STEADY = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def machine():
    """Return what the numbers were measured on."""
    import torch

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def with_steady_memory():
    """Start this program again with an allocator that keeps the memory it has.

    The GNU C library gives freed memory back to the system and has it zeroed again, up to a third
    of the time of a pass through a network, or nothing: it hangs on what happens to lie at the end
    of the heap. Both sides of a ratio are spared that.
    """
    if not all(name in os.environ for name in _STEADY):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_STEADY})


def timed(work):
    """Return the wall and processor seconds that `work` takes, on a GPU too."""
    _wait()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    _wait()
    return time.perf_counter() - wall, time.process_time() - cpu


def _wait():
    """Wait for a GPU in use to finish."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_turn(one, other, repeats, device="cpu"):
    """Run two pieces of work in turn, and return what the first takes over the second.

    Both run once before to warm up. On a machine that is busy with other things the ratio of
    processor times is the one to trust; of work on a GPU it says nothing.

    Returns:
        {"value": of wall times on a GPU, else of processor times, "wall": median ratio, "cpu":
        median ratio, "cpu_range": [least, most], "wall_range", "seconds": [wall of each]}.
    """
    one(), other()
    pairs = [(timed(one), timed(other)) for _ in range(repeats)]
    walls = [a[0] / b[0] for a, b in pairs]
    cpus = [a[1] / b[1] for a, b in pairs]
    wall, cpu = (round(statistics.median(ratios), 3) for ratios in (walls, cpus))
    return {
        "value": cpu if device == "cpu" else wall,
        "wall": wall,
        "cpu": cpu,
        "cpu_range": [round(min(cpus), 3), round(max(cpus), 3)],
        "wall_range": [round(min(walls), 3), round(max(walls), 3)],
        "seconds": [round(statistics.median(p[i][0] for p in pairs), 2) for i in (0, 1)],
    }


def write(name, rows, device="cpu", **settings):
    """Print rows and write them beside the benchmarks.

    Args:
        name: Of the benchmark; on a GPU `NAME_gpu`.
        rows: {"what", "value", "target" or None, ...} each.
        device: Where it was measured.
        settings: What was measured.
    """
    found = {"machine": machine(), **settings, "rows": rows}
    for row in rows:
        target = f"   (target: {row['target']})" if row.get("target") else ""
        print(f"{row['what']}: {row['value']}{target}", flush=True)
    name = name if device == "cpu" else f"{name}_gpu"
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
