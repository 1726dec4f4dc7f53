"""The program around the command line: interruptions that Python would lose."""

import subprocess
import sys

import pytest

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


ENDING = """
import os, signal, sys, threading, time, torch
import vtcav.__main__ as program

net = torch.nn.Sequential(*[torch.nn.Conv2d(8, 8, 3) for _ in range(3)])

def work():
    x = torch.rand(1, 8, 32, 32, requires_grad=True)
    while True:
        net(x).sum().backward()

def main():
    threading.Thread(target=work, daemon=True).start()
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(30)
    finally:
        print("ended")
        {again}

program.main = main
sys.exit(program.program())
"""


@pytest.mark.parametrize(("again", "code"), [("", 130), ("return 0", 0)])
def test_a_thread_inside_of_pytorch_does_not_abort_the_process_at_its_end(again, code):
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(again=again)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "ended\n", "")
