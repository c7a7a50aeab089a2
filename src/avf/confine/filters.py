"""System call filters, compiled by libseccomp into the program the kernel runs at each call.

All are allow lists but `Filter.OPEN`. A refused call fails with EPERM; calls of other architectures (x32, i386) kill.
`clone3` fails with ENOSYS, since its flags cannot be seen by a filter, so that the C library falls back to `clone`,
which is allowed for threads alone.
"""

import ctypes
import errno
import functools
import os
from typing import Any

from avf.confine.box import ConfinementError, Filter

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000
_REFUSE = _ERRNO | errno.EPERM
_NOTHING = _ERRNO
"""Nothing is done and success is told."""
_MAX_PROGRAM = 32 << 10
"""4,096 instructions, as many as the kernel takes."""
_OPTIMIZE = 8
"""SCMP_FLTATR_CTL_OPTIMIZE; its value 2 makes a binary tree of the rules."""
_NOT_EQUAL, _MASKED_EQUAL = 1, 7

_CLONE_THREAD = 0x1_0000
_CLONE_NAMESPACES = 0x7E02_0080
"""CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, ..., CLONE_NEWNET, and CLONE_NEWTIME."""
_TYPING_IOCTLS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put text into a terminal's input."""
_KVM_IOCTLS, _VHOST_IOCTLS, _BLOCK_IOCTLS = 0xAE00, 0xAF00, 0x1200
_TERMINAL_IOCTLS = (0x5401, 0x5402, 0x5403, 0x5404, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: none that types or takes over."""
_PRCTLS = (3, 4, 8, 15, 16, 21, 22, 23, 24, 27, 28, 29, 33, 38, 39, 47, 0x5356_4D41)
"""Dumpable, capabilities and securebits (which can only be given up), names, seccomp, timer slack, memory errors,
no-new-privileges, names of mappings."""

_MEMORY = """
    brk madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap mbind get_mempolicy
    membarrier memfd_create
"""
_FILES = """
    access faccessat faccessat2 close close_range dup dup2 dup3 fadvise64 fcntl fdatasync flock fstat fstatfs
    fsync ftruncate getcwd getdents64 lseek lstat newfstatat open openat pread64 preadv preadv2 pwrite64 pwritev
    pwritev2 read readlink readlinkat readv stat statfs statx sync_file_range copy_file_range write writev pipe2
"""
_WAITING = """
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd2 poll ppoll pselect6 select signalfd4
    timerfd_create timerfd_gettime timerfd_settime timer_create timer_delete timer_getoverrun timer_gettime
    timer_settime clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep restart_syscall time
"""
_SOCKETS = """
    accept accept4 getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto
    setsockopt shutdown
"""
"""Of sockets it was given. None is made, bound or connected."""
_PROCESS = """
    arch_prctl execve exit exit_group futex get_robust_list getcpu getegid geteuid getgid getpgrp getpid getppid
    getpriority getrandom getresgid getresuid getrlimit getrusage gettid getuid rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_getparam sched_getscheduler
    sched_yield seccomp set_robust_list set_tid_address sigaltstack sysinfo times umask uname wait4
"""
_GIVING_UP_ROOT = "capget capset setgid setgroups setresgid setresuid setuid"
"""For the step from root to a uid of its own. Without a capability these change nothing."""

_NOBODYS = """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime create_module delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl
    kcmp kexec_file_load kexec_load keyctl lookup_dcookie mknod mknodat mount mount_setattr move_mount move_pages
    name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality pidfd_getfd pidfd_open
    pidfd_send_signal pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev ptrace quotactl
    quotactl_fd reboot request_key setns settimeofday stime swapoff swapon syslog umount umount2 unshare userfaultfd
    vhangup vmsplice
"""


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@functools.cache
def compile_filter(
    kind: Filter, *, signals_to: int | None = None, kept_whole: int | None = None
) -> bytes:
    """The filter as an array of struct sock_filter, as `bwrap --seccomp` reads it.

    `signals_to`: the one process whose threads may be sent signals; None: those of every process it sees.
    `kept_whole`: see `Box.kept_whole`.
    Raises ConfinementError if libseccomp is not installed.
    """
    program = _Program(_ALLOW if kind is Filter.OPEN else _REFUSE)
    if kind is Filter.OPEN:
        _refuse_what_is_nobodys(program)
    else:
        _allow_what_all_need(program, signals_to)
        _allow_freeing(program, kept_whole)
    if kind is Filter.MONITOR:
        program.match(_ALLOW, "clone", 0, _CLONE_THREAD, mask=_CLONE_NAMESPACES | _CLONE_THREAD)
        for kind_of_ioctl in (_KVM_IOCTLS, _VHOST_IOCTLS, _BLOCK_IOCTLS):
            program.match(_ALLOW, "ioctl", 1, kind_of_ioctl, mask=0xFF00)
    program.always(_ERRNO | errno.ENOSYS, "clone3")
    return program.export()


def _allow_what_all_need(program: "_Program", signals_to: int | None) -> None:
    for part in (_MEMORY, _FILES, _WAITING, _SOCKETS, _PROCESS, _GIVING_UP_ROOT):
        for name in part.split():
            program.always(_ALLOW, name)
    for option in _PRCTLS:
        program.match(_ALLOW, "prctl", 0, option)
    program.match(_ALLOW, "prlimit64", 0, 0)
    for request in _TERMINAL_IOCTLS:
        program.match(_ALLOW, "ioctl", 1, request)
    if signals_to is None:
        program.always(_ALLOW, "tgkill")
    else:
        program.match(_ALLOW, "tgkill", 0, signals_to)


def _allow_freeing(program: "_Program", kept_whole: int | None) -> None:
    if kept_whole is None:
        program.always(_ALLOW, "fallocate")
        return
    program.match(_NOTHING, "fallocate", 0, kept_whole)
    program.match(_ALLOW, "fallocate", 0, kept_whole, equal=False)


def _refuse_what_is_nobodys(program: "_Program") -> None:
    for name in _NOBODYS.split():
        program.always(_REFUSE, name)
    for request in _TYPING_IOCTLS:
        program.match(_REFUSE, "ioctl", 1, request)
    for bit in range(64):
        if (flag := 1 << bit) & _CLONE_NAMESPACES:
            program.match(_REFUSE, "clone", 0, flag, mask=flag)


class _Program:
    """A filter that is being put together: what no rule speaks of gets the `default` action."""

    def __init__(self, default: int) -> None:
        self._library = _libseccomp()
        self._context = ctypes.c_void_p(self._library.seccomp_init(default))
        self._default = default
        if not self._context:
            raise ConfinementError(f"{_LIBRARY} refuses to make a filter")
        self._library.seccomp_attr_set(self._context, _OPTIMIZE, 2)

    def always(self, action: int, name: str) -> None:
        """Gives every call of that name the action; no error if this architecture has no such call."""
        self._add(action, name, [])

    def match(
        self,
        action: int,
        name: str,
        position: int,
        value: int,
        *,
        mask: int | None = None,
        equal: bool = True,
    ) -> None:
        """Gives calls the action whose argument at `position`, as far as `mask` shows it, is `value`; or, if not
        `equal`, is another.
        """
        # The kernel takes ioctl's request and prctl's option as 32 bits, so higher bits are not looked at.
        bits = 0xFFFF_FFFF if mask is None else mask
        if equal:
            comparisons = [_Comparison(position, _MASKED_EQUAL, bits, value)]
        else:
            comparisons = [_Comparison(position, _NOT_EQUAL, value, 0)]
        self._add(action, name, comparisons)

    def _add(self, action: int, name: str, comparisons: "list[_Comparison]") -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        array = (_Comparison * len(comparisons))(*comparisons)
        error = self._library.seccomp_rule_add_array(
            self._context, action, number, len(comparisons), array
        )
        if error:
            raise ConfinementError(f"{_LIBRARY} refuses a rule for {name}: {os.strerror(-error)}")

    def export(self) -> bytes:
        """The compiled program; this object is used up."""
        # A pipe, which takes a few kilobytes at once whatever the limit on the size of files is.
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            error = self._library.seccomp_export_bpf(self._context, write_end)
            if error:
                raise ConfinementError(f"{_LIBRARY} exports no filter: {os.strerror(-error)}")
            return os.read(read_end, _MAX_PROGRAM)
        finally:
            os.close(read_end)
            os.close(write_end)
            self._library.seccomp_release(self._context)


def _libseccomp() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise ConfinementError(
            f"{_LIBRARY} is not installed (Debian package libseccomp2)"
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    )
    return library
