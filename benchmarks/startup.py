"""How long `import vtcav` and `vtcav --help` take, over an empty Python and in seconds.

python benchmarks/startup.py [repeats]
"""

import resource
import statistics
import subprocess
import sys
import time

from measuring import write


def seconds(*command):
    """Return the wall and processor seconds of a process."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def main(repeats=10):
    """Measure and write."""
    rows = []
    empty = statistics.median(seconds("-c", "")[1] for _ in range(repeats))
    for what, command, target in (
        ("import vtcav", ("-c", "import vtcav"), 0.1),
        ("`vtcav --help`", ("-m", "vtcav", "--help"), 0.3),
    ):
        seconds(*command)
        times = [seconds(*command) for _ in range(repeats)]
        used = statistics.median(cpu for _, cpu in times)
        rows.append(
            {
                "what": f"{what}, processor seconds with Python's own {empty:.3f}",
                "value": round(used, 3),
                "target": f"at most {target}",
                "wall": round(statistics.median(wall for wall, _ in times), 3),
            }
        )
    write("startup", rows, repeats=repeats)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
