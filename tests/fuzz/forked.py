"""Processes made by forking one that has h5py: a tenth of the time of a new Python.

The programs, their processes and their ends are the same as those that vtcav starts.
"""

import json
import os
import resource
import runpy
import selectors
import signal
import subprocess
import sys

_REAL = 50  # one process in so many is begun as vtcav begins it


class Forks:
    """Runs commands as `vtcav.files.apart.finished` does."""

    def __init__(self, plain):
        self._plain, self._count, self._server = plain, 0, None

    def finished(self, command, seconds):
        """Run a Python program; return its exit code and what it wrote as errors."""
        self._count += 1
        if self._count % _REAL == 0:
            return self._plain(command, seconds)
        if self._server is None or self._server.poll() is not None:
            program = [sys.executable, "-P", __file__]
            pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
            self._server = subprocess.Popen(program, text=True, **pipes)
        print(json.dumps([command[2:], seconds]), file=self._server.stdin, flush=True)
        code, said = json.loads(self._server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(command, seconds)
        return code, said.encode()


def serve():
    """Fork for each line that comes, and tell how the process ended."""
    import h5py  # noqa: F401 - what takes long

    for line in sys.stdin:
        command, seconds = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _become(command, writing)
        os.close(writing)
        sys.stdout.write(json.dumps(_ended(child, reading, seconds)) + "\n")
        sys.stdout.flush()


def _become(command, writing):
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(writing, 2)
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException as error:  # noqa: BLE001 - as Python ends
        sys.stderr.write(f"{type(error).__name__}: {error}")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _ended(child, reading, seconds):
    """Return a child's exit code, None where it takes too long, and what it said."""
    said = b""
    with selectors.DefaultSelector() as waiting, os.fdopen(reading, "rb", buffering=0) as pipe:
        waiting.register(pipe, selectors.EVENT_READ)
        while ready := waiting.select(seconds):
            if not (more := pipe.read(65_536)):
                break
            said += more
        if not ready:
            os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    code = None if not ready else os.waitstatus_to_exitcode(status)
    return code, said.decode(errors="replace")


if __name__ == "__main__":
    serve()
