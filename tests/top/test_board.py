"""Which VMs are shown, in which order, and which one is chosen."""

from dataclasses import replace

from avf.client import DeathReason, VirtualMachineState
from avf.top.board import Board, Column, cell
from avf.top.model import Phase, Snapshot, Stage, Vm, stages
from tests.top.world import HOST, a_vm, died, foreign


def board_of(*vms: Vm) -> Board:
    board = Board()
    board.update(Snapshot(vms, HOST, is_first=False))
    return board


def cids(board: Board) -> list[int]:
    return [vm.cid for vm in board.rows]


BUSY = a_vm(2051, "busy", cpu=lambda at: 90.0)
IDLE = a_vm(2049, "Idle", cpu=lambda at: 1.0, guest=lambda at: 300.0)
DEAD = a_vm(2050, "dead", VirtualMachineState.DEAD, report=died(DeathReason.CRASH))


def test_orders() -> None:
    board = board_of(BUSY, IDLE, DEAD)
    assert cids(board) == [2049, 2050, 2051]
    for column, expected in {
        Column.CPU: [2051, 2049, 2050],
        Column.MEMORY: [2049, 2051, 2050],
        Column.NAME: [2051, 2050, 2049],
        Column.CID: [2049, 2050, 2051],
    }.items():
        board.sort_by(column)
        assert cids(board) == expected, column
        board.sort_by(column)
        assert cids(board) == expected[::-1], column


def test_the_chosen_vm_stays_the_chosen_one() -> None:
    board = board_of(BUSY, IDLE, DEAD)
    board.choose(1)
    board.sort_by(Column.CPU)
    assert board.chosen == DEAD and board.index == 2
    board.update(Snapshot((a_vm(2040), DEAD), HOST))
    assert board.chosen == DEAD
    board.update(Snapshot((IDLE,), HOST))
    assert board.chosen == IDLE
    board.update(Snapshot((), HOST))
    assert board.chosen is None and board.index == 0
    board.choose(5)
    assert board.chosen is None


def test_filters() -> None:
    board = board_of(BUSY, IDLE, DEAD, foreign(2060, "bob"))
    for text, expected in {
        "idle": [2049], "READY": [2049, 2051], "205": [2050, 2051], "crash": [2050],
        "bob": [2060], "busy ready": [2051], "nothing": [], "": [2049, 2050, 2051, 2060],
    }.items():  # fmt: skip
        board.filter_by(text)
        assert cids(board) == expected, text
    assert board.total == 4


def test_what_has_gone_is_taken_off_once_and_for_all() -> None:
    gone = replace(DEAD, gone=True)
    board = board_of(BUSY, gone)
    board.clear_ended()
    board.update(Snapshot((BUSY, gone), HOST))
    assert cids(board) == [2051]
    board.update(Snapshot((BUSY,), HOST))
    board.update(Snapshot((BUSY, DEAD), HOST))
    assert cids(board) == [2050, 2051]


def test_states() -> None:
    made = a_vm(state=VirtualMachineState.NOT_STARTED)
    gone = a_vm(gone=True)
    assert [(vm.phase, vm.state) for vm in (made, BUSY, DEAD, gone, foreign(1))] == [
        (Phase.MADE, "NOT_STARTED"),
        (Phase.READY, "READY"),
        (Phase.FAILED, "Crash"),
        (Phase.ENDED, "gone"),
        (Phase.UNKNOWN, "-"),
    ]
    stopped = a_vm(state=VirtualMachineState.DEAD, report=died())
    assert (stopped.phase, stopped.state, stopped.now) == (Phase.ENDED, "Killed", None)


def test_stages() -> None:
    def reached(vm: Vm) -> list[str]:
        return [stage.name for stage in stages(vm) if stage.done]

    assert reached(a_vm(state=VirtualMachineState.NOT_STARTED)) == []
    assert reached(a_vm(state=VirtualMachineState.STARTING)) == ["started"]
    assert reached(BUSY) == ["started", "payload", "ready"]
    assert reached(DEAD) == ["started", "payload", "ready", "ended"]
    assert stages(BUSY)[-1] == Stage("ended", False)
    assert stages(foreign(1)) == ()


def test_cells() -> None:
    assert [cell(BUSY, column) for column in Column] == [
        "2051", "busy", "READY", "90%", "154M", "1m00s", "ada",
    ]  # fmt: skip
    assert [cell(foreign(7), column) for column in Column] == ["7", "-", "-", "-", "-", "-", "bob"]
