"""What a process that reads untrusted files gives up for good, as far as the system lets it.

SECURITY.md says what holds on which system. Linux takes most away by Landlock (files) and a filter
of system calls (the rest), for which no privilege is needed; both are asked for by number, since
Python's standard library has neither.
"""

import ctypes
import os
import platform
import struct
import sys
import time

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
