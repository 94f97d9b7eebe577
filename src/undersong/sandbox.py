"""A child process that reads untrusted files, so that a hostile file costs that file alone.

It gives up for good what it does not need, as far as the system lets it; SECURITY.md says what
holds on which system. Linux takes most away by Landlock (files) and a filter of system calls (the
rest), for which no privilege is needed; both are asked for by number, since Python's standard
library has neither.
"""

import ctypes
import json
import os
import platform
import struct
import subprocess
import sys
import time
from contextlib import suppress
from io import BufferedReader
from os.path import samestat
from pathlib import Path
from typing import Any, BinaryIO, cast

NETWORK = 0x4000_0000  # of Linux's unshare: a network of its own, with nothing in it
USER = 0x1000_0000  # a user namespace, without which only root may ask for that
DUMPABLE, NO_NEW_PRIVILEGES = 4, 38  # of Linux's prctl
READ_ANY_FILE = 1 << 2  # the one capability that root keeps, or it could not read files of others
CAPABILITIES = 0x2008_0522  # version 3 of the form of capset
CREATE_RULES, ENFORCE_RULES = 444, 446  # calls of Landlock, the same on every machine
# By Landlock's version: what may be forbidden. Of files all but reading: executing, writing,
# removing, making of each kind, moving, truncating, ioctl of devices; of TCP binding and
# connecting; and reaching sockets without a path, or signalling, beyond this process.
FILES = {1: 0x1FF3, 2: 0x3FF3, 3: 0x7FF3, 5: 0xFFF3}
CONNECTIONS = {4: 0x3}
SCOPES = {6: 0x3}
WRITING = 0x40_0643  # flags of open: to write, to make, to truncate, to append, a nameless file
THREAD = 0x1_0000  # flag of clone
ALLOW, REFUSE, UNKNOWN = 0x7FFF_0000, 0x5_0001, 0x5_0026  # what a filter answers: EPERM, ENOSYS
MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7), "riscv64": (1, 0xC000_00F3)}
# Numbers of system calls, on x86_64 and on the others; None where there is no such call.
OPEN, CLONE, SIGNAL_THREAD, FILTER = ((2, None), (257, 56)), (56, 220), (234, 131), (317, 277)
FOR_EVERY_THREAD, AT_FULL_SPEED = 1, 4  # flags of a filter; older kernels slow a process without
UNKNOWN_CALLS = ((435, 435), (437, 437))  # clone3, openat2: libraries then use what is above
FORBIDDEN = (
    *((41, 198), (53, 199)),  # socket, socketpair
    *((57, None), (58, None), (59, 221), (322, 281)),  # fork, vfork, execve, execveat
    *((101, 117), (310, 270), (311, 271), (440, 440)),  # ptrace, process_vm_*, process_madvise
    *((62, 129), (200, 130), (129, 138), (297, 240)),  # kill, tkill, rt_sigqueueinfo, of a thread
    *((434, 434), (438, 438), (424, 424)),  # pidfd_open, pidfd_getfd, pidfd_send_signal
    *((87, None), (263, 35), (84, None)),  # unlink, unlinkat, rmdir
    *((82, None), (264, 38), (316, 276)),  # rename, renameat, renameat2
    *((76, 45), (77, 46), (285, 47), (85, None)),  # truncate, ftruncate, fallocate, creat
    *((83, None), (258, 34), (133, None), (259, 33)),  # mkdir, mkdirat, mknod, mknodat
    *((86, None), (265, 37), (88, None), (266, 36)),  # link, linkat, symlink, symlinkat
    *((90, None), (91, 52), (268, 53), (452, 452)),  # chmod, fchmod, fchmodat, fchmodat2
    *((92, None), (94, None), (93, 55), (260, 54)),  # chown, lchown, fchown, fchownat
    *((132, None), (235, None), (261, None), (280, 88)),  # utime, utimes, futimesat, utimensat
    *((188, 5), (189, 6), (190, 7), (463, 463)),  # setxattr, of a link, of an open file, at
    *((197, 14), (198, 15), (199, 16), (466, 466)),  # removexattr, likewise
    *((16, 29), (469, 469)),  # ioctl, file_setattr
    *((165, 40), (166, 39), (429, 429), (428, 428), (430, 430), (442, 442)),  # mounting
    *((155, 41), (161, 51), (272, 97), (308, 268)),  # pivot_root, chroot, unshare, setns
    *((321, 280), (298, 241), (250, 219), (248, 217), (249, 218)),  # bpf, perf_event_open, keys
    *((425, 425), (426, 426), (427, 427), (323, 282)),  # io_uring_*, userfaultfd
    *((29, 194), (30, 196), (68, 186), (64, 190), (240, 180), (241, 181)),  # shm*, msg, sem, mq
)


def confine(*, memory: int) -> None:
    """Forbid this process for good more than ``memory`` bytes, and all that reading does not need.

    That is to write, make, change or remove a file; other programs and processes; the network and
    sockets. Limits hold on every system but Windows, the rest on Linux. Call it before the first
    byte that is not trusted is read, when libraries are loaded, and from the only thread.
    """
    if sys.platform == "win32":
        return  # no such limits there; the clock of the parent still holds
    import resource

    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        # Root first without a user namespace: within one it could not read the files of others.
        if library.unshare(NETWORK):
            library.unshare(USER | NETWORK)
        _drop_capabilities(library)
        library.prctl(NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        _forbid_files(library)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if sys.platform == "linux":
        _forbid_calls(library)


def hide_memory() -> None:
    """Keep other processes of this user from the memory of this one, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))


def allow_processor(seconds: float) -> None:
    """End this process once it has computed for so long from now, also if its parent is gone."""
    if sys.platform == "win32":
        return
    import resource

    limit = int(time.process_time() + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _drop_capabilities(library: ctypes.CDLL) -> None:
    """Drop what root may do, apart from reading."""
    kept = struct.pack("6I", READ_ANY_FILE, READ_ANY_FILE, 0, 0, 0, 0)
    if library.capset(struct.pack("Ii", CAPABILITIES, 0), kept):  # more than this process has
        library.capset(struct.pack("Ii", CAPABILITIES, 0), bytes(len(kept)))


def _forbid_files(library: ctypes.CDLL) -> None:
    """Forbid by Landlock what its version knows of the above; without it, nothing."""
    version = library.syscall(CREATE_RULES, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    rights = [
        max((rights for since, rights in table.items() if since <= version), default=0)
        for table in (FILES, CONNECTIONS, SCOPES)
    ]
    # The kernel refuses a longer form than its version has only if what is beyond is not zero.
    rules = library.syscall(CREATE_RULES, struct.pack("3Q", *rights), ctypes.c_size_t(24), 0)
    if rules >= 0:
        library.syscall(ENFORCE_RULES, rules, 0)
        os.close(rules)


def _forbid_calls(library: ctypes.CDLL) -> None:
    """Forbid system calls, where their numbers are known; a kernel without filters forbids none."""
    machine, mark = MACHINES.get(platform.machine(), (None, 0))
    if machine is None or sys.maxsize < 1 << 32:
        return
    steps = _filter(machine, mark, os.getpid())
    code = ctypes.create_string_buffer(b"".join(steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    library.syscall(FILTER[machine], 1, FOR_EVERY_THREAD | AT_FULL_SPEED, program)


EQUAL, AT_LEAST, ANY_OF = 0x15, 0x35, 0x45  # tests of what was loaded last
MACHINE, CALL, FIRST_ARGUMENT = 4, 0, 16  # where the kernel puts them


def _filter(machine: int, mark: int, process: int) -> list[bytes]:
    """Return the steps by which the kernel judges each system call: a program of classic BPF."""
    known = [_load(CALL), *_judged(AT_LEAST, 0x4000_0000, [_answer(REFUSE)])]  # of a third machine
    for calls, verdict in ((FORBIDDEN, REFUSE), (UNKNOWN_CALLS, UNKNOWN)):
        for numbers in calls:
            known += _of_call(numbers[machine], [_answer(verdict)])
    for place, call in enumerate(OPEN, start=1):
        writes = _judged(ANY_OF, WRITING, [_answer(REFUSE)])
        flags = [_load(FIRST_ARGUMENT + 8 * place), *writes, _answer(ALLOW)]
        known += _of_call(call[machine], flags)
    for pair, test, value in ((CLONE, ANY_OF, THREAD), (SIGNAL_THREAD, EQUAL, process)):
        allowed = _judged(test, value, [_answer(ALLOW)])
        known += _of_call(pair[machine], [_load(FIRST_ARGUMENT), *allowed, _answer(REFUSE)])
    foreign = [struct.pack("HBBI", EQUAL, 1, 0, mark), _answer(REFUSE)]
    return [_load(MACHINE), *foreign, *known, _answer(ALLOW)]


def _of_call(number: int | None, steps: list[bytes]) -> list[bytes]:
    """Return steps for one system call; none where the machine has no such call."""
    return [] if number is None else _judged(EQUAL, number, steps)


def _judged(test: int, value: int, steps: list[bytes]) -> list[bytes]:
    """Return steps that are skipped unless the test holds of what was loaded last."""
    return [struct.pack("HBBI", test, 0, len(steps), value), *steps]


def _load(place: int) -> bytes:
    return struct.pack("HBBI", 0x20, 0, 0, place)


def _answer(value: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, value)


PACKAGES = str(Path(__file__).parents[1])
GONE = (EOFError, BrokenPipeError, ValueError)  # ValueError: a pipe that ``end`` closed
# All that a child knows of the environment: no variable that brings code into a process.
VARIABLES = ("LANG", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
FAMILIES = ("LC_", "OPENBLAS_", "MKL_", "NPY_")  # how they begin
SEARCHED = ("PATH", "LD_LIBRARY_PATH")  # where they name folders wholly


class Child:
    """One process that answers lines of JSON; begun when first needed and again after its death.

    It imports from where this process does, apart from the working folder: what lies there may be
    a stranger's.

    Parameters
    ----------
    code : in Python
    arguments : ``sys.argv[1:]`` of the code
    """

    def __init__(self, code: str, *arguments: str):
        self._code = code
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> "subprocess.Popen[bytes]":
        """Start a process; the one before must have ended."""
        hide_memory()
        code = f"import sys; sys.path[:] = {import_path()!r}\n{self._code}"
        utf8 = f"utf8={sys.flags.utf8_mode}"  # bytes of file names mean the same on both sides
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", utf8, "-c", code, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries grumble there about every damaged file
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the parent
        )
        return self.process

    def end(self) -> None:
        """Kill the process, if one runs."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # a request that nobody read
                if pipe:
                    pipe.close()


def import_path() -> list[str]:
    """Return ``sys.path`` without the working folder, which Python may have put there."""
    here = os.stat(os.curdir)
    named = [x for x in sys.path if os.path.isabs(x)]
    outside = [x for x in named if not (os.path.isdir(x) and samestat(os.stat(x), here))]
    return outside if PACKAGES in outside else [PACKAGES, *outside]


def environment() -> dict[str, str]:
    """Return the variables that a child begins with."""
    from undersong.io.onnx_files import SILENCE  # NumPy comes with it, which readers of tags lack

    passed = {k: v for k, v in os.environ.items() if k in VARIABLES or k.startswith(FAMILIES)}
    for name in SEARCHED:
        folders = [x for x in os.environ.get(name, "").split(os.pathsep) if os.path.isabs(x)]
        passed |= {name: os.pathsep.join(folders)} if folders else {}
    return passed | {"OMP_NUM_THREADS": "1"} | SILENCE


def send(process: "subprocess.Popen[bytes]", request: Any) -> None:
    """Write one line of JSON; of a child that is gone, an error of ``GONE``."""
    pipe = cast(BinaryIO, process.stdin)
    pipe.write(json.dumps(request).encode() + b"\n")
    pipe.flush()


def answers(process: "subprocess.Popen[bytes]") -> BufferedReader:
    """Return the pipe that a child answers through."""
    return cast(BufferedReader, process.stdout)


def receive(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for one line of JSON.

    Raises
    ------
    EOFError, ValueError
        If the child is gone, or answers what cannot be an answer.
    """
    line = answers(process).readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    return answer


def close_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for us alone, at the two numbers given back.

    A library that reads or prints then meets the empty device and does not garble the answers.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    return requests, answers
