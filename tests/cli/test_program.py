"""The program around the command line: interruptions that Python would lose."""

import subprocess
import sys

SCRIPT = """
import os, signal, sys, time, weakref
import vtcav.__main__ as program

class Thing: pass

def main():
    thing = Thing()
    held = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    try:
        del thing  # the interruption arrives in the callback
        time.sleep(30)
    except KeyboardInterrupt:
        return 130
    return 0

program.main = main
sys.exit(program.program())
"""


def test_an_interruption_in_a_callback_is_not_lost():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")
