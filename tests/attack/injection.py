"""Makes another process do system calls, as a guest could that has taken over its virtual machine monitor.

The process is stopped with ptrace, a `syscall` instruction is written to where it stands, and registers are set for
each call; x86-64 only. Source: ptrace(2), struct user_regs_struct in <sys/user.h>.
"""

import ctypes
import os
import signal
from types import TracebackType

_POKETEXT, _PEEKTEXT, _SINGLESTEP = 4, 1, 9
_GETREGS, _SETREGS, _ATTACH, _DETACH = 12, 13, 16, 17
_ANY_CHILD = 0x4000_0000
"""__WALL: whether it is our child or not."""
_SYSCALL_INSTRUCTION = 0x050F
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class _Registers(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_ulonglong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx"),
            *("rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base"),
            *("gs_base", "ds", "es", "fs", "gs"),
        )
    )


class Taken:
    """A thread of another process under our control; on leaving the context it goes on as if nothing had been."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.restype = ctypes.c_long
        self._libc.ptrace.argtypes = (
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )

    def __enter__(self) -> "Taken":
        self._ptrace(_ATTACH)
        os.waitpid(self.pid, _ANY_CHILD)
        self._saved = self._registers()
        self._text = self._peek(self._saved.rip)
        code = (self._text & ~0xFFFF) | _SYSCALL_INSTRUCTION
        self._ptrace(_POKETEXT, self._saved.rip, code)
        # Below the red zone of the interrupted function.
        self._scratch = (self._saved.rsp - 8192) & ~0xF
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ptrace(_POKETEXT, self._saved.rip, self._text)
        self._set(self._saved)
        self._ptrace(_DETACH)

    def call(self, number: int, *arguments: int | bytes) -> int:
        """The result of the system call: negative is an errno. Bytes are put into its memory."""
        registers = _Registers.from_buffer_copy(self._saved)
        place = self._scratch
        for register, argument in zip(_ARGUMENTS, arguments, strict=False):
            if isinstance(argument, bytes):
                self._write(place, argument)
                value, place = place, place + (len(argument) + 16 & ~0xF)
            else:
                value = argument & (1 << 64) - 1
            setattr(registers, register, value)
        registers.rax = number
        registers.orig_rax = (1 << 64) - 1  # nothing is to be restarted
        self._set(registers)
        self._step()
        return ctypes.c_longlong(self._registers().rax).value

    def _step(self) -> None:
        """Runs one instruction. Signals that come meanwhile are suppressed."""
        stopped_by = None
        while stopped_by != signal.SIGTRAP:
            self._ptrace(_SINGLESTEP)
            _, status = os.waitpid(self.pid, _ANY_CHILD)
            assert os.WIFSTOPPED(status), f"the process ended: {status:#x}"
            stopped_by = os.WSTOPSIG(status)

    def _write(self, place: int, data: bytes) -> None:
        padded = data + bytes(-len(data) % 8)
        for offset in range(0, len(padded), 8):
            word = int.from_bytes(padded[offset : offset + 8], "little")
            self._ptrace(_POKETEXT, place + offset, word)

    def _peek(self, place: int) -> int:
        ctypes.set_errno(0)
        word: int = self._libc.ptrace(_PEEKTEXT, self.pid, place, 0)
        assert not ctypes.get_errno()
        return word & (1 << 64) - 1

    def _registers(self) -> _Registers:
        registers = _Registers()
        self._ptrace(_GETREGS, 0, ctypes.addressof(registers))
        return registers

    def _set(self, registers: _Registers) -> None:
        self._ptrace(_SETREGS, 0, ctypes.addressof(registers))

    def _ptrace(self, request: int, address: int = 0, data: int = 0) -> None:
        if self._libc.ptrace(request, self.pid, address, data) < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"ptrace {request}: {os.strerror(error)}")
