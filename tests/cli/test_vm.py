"""The `vm` command as a process, against a virtmgr that only plays."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import eventually

Vm = Callable[..., subprocess.CompletedProcess[str]]
MUTE = "the payload's output is not shown: the VM is not debuggable (--debug full makes it so)\n"
ENDED = "started,finished:0,died:3"
FAKE = f"{sys.executable} -m tests.client.fake_virtmgr"
VM = [sys.executable, "-m", "avf.cli"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime_dir: Path) -> None:
    monkeypatch.setenv("AVF_VIRTMGR", FAKE)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("AVF_IMAGE_DIR", str(tmp_path / "image"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "tmp" / name))
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def vm(environment: None) -> Vm:
    def run(*arguments: str | Path, play: str = "") -> subprocess.CompletedProcess[str]:
        command = [*VM, *map(str, arguments)]
        environment = os.environ | {"FAKE_VIRTMGR_PLAY": play}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    return run


@pytest.fixture
def apk(tmp_path: Path) -> Path:
    path = tmp_path / "app.apk"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("assets/vm.json", json.dumps({"task": {"command": "lib.so"}}))
        extra = {"task": {"command": "lib.so"}, "extra_apks": [{"path": "extra.apk"}]}
        archive.writestr("assets/extra.json", json.dumps(extra))
        archive.writestr("assets/broken.json", '{"extra_apks": [{}]}')
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.json"
    path.write_text('{"kernel": "/dev/null", "platform_version": "~1.0"}')
    return path


def test_help_names_every_command_and_loads_none(vm: Vm) -> None:
    result = vm("--help")
    assert result.returncode == 0
    for name in ("run-app", "run-microdroid", "run", "list", "info", "create-idsig"):
        assert f"\n  {name} " in result.stdout
    program = "import sys, avf.cli.command as m; m._run(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "click" in loaded
    assert not {"avf.client", "avf.binder", "asyncio", "rich", "msgspec"} & set(loaded)


@pytest.mark.parametrize(
    "command",
    [
        "run-app",
        "run-microdroid",
        "run",
        "list",
        "info",
        "doctor",
        "create-idsig",
        "create-partition",
        "forget-instance",
        "top",
        "stop",
        "console",
        "logs",
        "shell",
        "push",
        "pull",
        "connect",
        "forward",
        "tombstones",
        "listen",
        "completion",
    ],
)
def test_every_command_has_help(vm: Vm, command: str) -> None:
    result = vm(command, "--help")
    assert result.returncode == 0
    assert f"vm {command}" in result.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["list", "--nonsense"]])
def test_wrong_usage(vm: Vm, arguments: list[str]) -> None:
    result = vm(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: ")


def test_run(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "tell:hello from the guest,started,ready,finished:3,died:3")
    assert result.returncode == 0
    created = [line for line in result.stdout.splitlines() if line.startswith("Created VM")]
    pattern = rf'Created VM from "{raw}" with CID 2048, state is (STARTING|DEAD)\.'
    assert [re.fullmatch(pattern, line) is not None for line in created] == [True]
    assert "hello from the guest\n" in result.stdout
    assert result.stdout.endswith("VM ended: Shutdown\n")
    assert result.stderr == (
        "payload started\npayload is ready\npayload finished with exit code 3\n"
    )


def test_run_tells_of_an_error(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "error:3:no task,died:14")
    assert result.returncode == 1
    assert result.stderr == "VM encountered an error: code=PayloadConfigInvalid, message=no task\n"
    assert result.stdout.endswith("VM ended: MicrodroidInvalidPayloadConfig\n")


REPORT = """\
last step: the payload was ready
the VMM was killed by SIGSEGV
it told: started
the guest said: REASON|\\u{1b}[2Jmore
the VMM said:
    qemu: cannot go on
    at all
"""


def test_a_death_that_calls_for_it_is_explained(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "report,died:6")
    assert result.stdout.endswith("VM ended: Crash\n")
    assert result.stderr == REPORT
    result = vm("run", raw, "--name", "report,died:6", "--console", "console")
    assert result.stderr == f"{REPORT}the console said last:\n    [0.1] oops\n"
    assert vm("run", raw, "--name", "report,died:3").stderr == ""


def test_run_as_json(vm: Vm, raw: Path) -> None:
    result = vm(
        "run", raw, "--json", "--name", "report,tell:hello,started,ready,error:3:no task,died:14"
    )
    assert result.returncode == 1
    assert "hello\n" in result.stderr
    created, *events, died = [json.loads(line) for line in result.stdout.splitlines()]
    assert created.pop("state") in ("STARTING", "DEAD")
    assert created == {"event": "created", "source": f'"{raw}"', "cid": 2048}
    assert events == [
        {"event": "payload_started"},
        {"event": "payload_ready"},
        {"event": "payload_error", "code": "PayloadConfigInvalid", "message": "no task"},
    ]
    assert died["reason"] == died["report"]["reason"] == "MicrodroidInvalidPayloadConfig"
    assert died["report"]["vmm_status"] == -11
    assert died["report"]["console_tail"] == ["[0.1] oops"]


def test_run_microdroid_as_json(vm: Vm) -> None:
    result = vm("run-microdroid", "--work-dir", "work", "--json", "--name", "ready,died:3")
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events == ["created", "payload_ready", "died"]
    assert "found path work/EmptyPayloadApp.apk\n" in result.stderr


def test_the_death_of_virtmgr_ends_the_command(environment: None, raw: Path) -> None:
    command = [*VM, "run", str(raw), "--name", "pid"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = sorted((process.stdout.readline(), process.stdout.readline()))
        assert lines[0].startswith("Created VM")
        os.kill(int(lines[1].removeprefix("pid ")), signal.SIGKILL)
        assert process.stdout.read() == "VM ended: VirtualizationServiceDied\n"
        assert process.wait() == 1


def test_a_vm_that_does_not_start_brings_the_log(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "died:4")
    assert result.stdout.endswith("VM ended: StartFailed\n")
    assert "the fake virtmgr is up" in result.stderr


def test_a_start_that_is_refused_tells_why(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "unstartable")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == ("Error: Failed to start VM\n  because: it cannot be started\n")


def test_standard_output_may_be_a_file(environment: None, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("what was there before")
    command = f"{' '.join(VM)} run {raw} --name tell:one,tell:two,tell:three,died:3 >out"
    subprocess.run(["sh", "-c", command], check=True, timeout=60)
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line for line in lines if not line.startswith("Created VM")] == [
        "one", "two", "three", "VM ended: Shutdown",
    ]  # fmt: skip
    assert len(lines) == 5


def test_without_standard_output(environment: None, raw: Path) -> None:
    command = f"{' '.join(VM)} run {raw} --name tell:hello,started,died:3 >&-"
    result = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "payload started\n")


def test_a_reader_that_goes_away(environment: None) -> None:
    command = f"({' '.join(VM)} --help; echo $? >&2) | true"
    result = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.stderr in ("0\n", "1\n")


def test_console_to_a_file(vm: Vm, raw: Path, tmp_path: Path) -> None:
    result = vm("run", raw, "--name", "tell:hello,died:3", "--console", tmp_path / "console")
    assert "hello" not in result.stdout
    assert (tmp_path / "console").read_text() == "hello\n"


def test_verbose_brings_the_log(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "-v", "--name", "died:3")
    assert "the fake virtmgr is up" in result.stderr


def test_a_refusal_is_an_error_with_its_causes(vm: Vm, raw: Path) -> None:
    result = vm("run", raw, "--name", "refuse:does not have the right")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: Failed to create VM\n  because: does not have the right (SECURITY)\n"
        "  try: `vm doctor` shows which permissions you have, and where they are granted\n"
    )


def test_a_broken_configuration(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"kernel": 3, "platform_version": "~1.0"}')
    result = vm("run", "bad.json")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "Error: bad.json: kernel must be text or null, not a whole number"
    )
    assert vm("run", "none.json").stderr.startswith("Error: Failed to open none.json: No such file")


def test_a_virtmgr_that_does_not_start(vm: Vm, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_VIRTMGR", "sh -c 'echo it hurts >&2; exit 7'")
    result = vm("run", raw)
    assert result.returncode == 1
    assert "Error: virtmgr exited with status 7; it said:\n    it hurts" in result.stderr
    assert "  try: `vm doctor`" in result.stderr


def test_run_app_makes_the_files_it_needs(vm: Vm, apk: Path, tmp_path: Path) -> None:
    result = vm(
        "run-app", apk, "app.idsig", "instance.img", "--payload-binary-name", "lib.so",
        "--name", "finished:0,died:3", "--storage", "storage.img", "--storage-size", "8k",
    )  # fmt: skip
    assert result.stderr == f"{MUTE}payload finished with exit code 0\n"
    assert result.returncode == 0
    assert result.stdout.split(" with CID")[0] == (
        f'Created VM from "{apk}"!PayloadConfig(VirtualMachinePayloadConfig '
        '{ payloadBinaryName: "lib.so" })'
    )
    assert (tmp_path / "app.idsig").read_bytes().startswith(b"idsig of PK")
    assert (tmp_path / "instance.img").stat().st_size == 10 << 20
    assert (tmp_path / "storage.img").read_bytes().startswith(b"ENCRYPTEDSTORE")
    assert (tmp_path / "storage.img").stat().st_size == 8192


def test_run_app_keeps_the_files_that_are_there(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "instance.img").write_text("mine")
    vm("run-app", apk, "app.idsig", "instance.img", "--payload_path", "lib.so", "--name", "died:3")
    assert (tmp_path / "instance.img").read_text() == "mine"


def test_run_app_without_files_leaves_none(vm: Vm, apk: Path, tmp_path: Path) -> None:
    result = vm("run-app", apk, "--config-path", "assets/vm.json", play=ENDED)
    assert result.returncode == 0
    assert f'Created VM from "{apk}"!ConfigPath("assets/vm.json") with CID' in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.apk", "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Either --config-path or --payload-binary-name must be defined"),
        (
            ["--config-path", "assets/vm.json", "--payload-binary-name", "lib.so"],
            "Only one of --config-path or --payload-binary-name can be defined",
        ),
        (
            ["--config-path", "assets/extra.json"],
            "Found 1 extra apks, but there are 0 extra idsigs",
        ),
        (["--config-path", "assets/none.json"], "Couldn't read config from assets/none.json"),
        (["--config-path", "assets/broken.json"], "Couldn't read config from assets/broken.json"),
        (
            ["--payload-binary-name", "a", "--extra-idsig", "x"],
            "Found 0 extra apks, but there are 1",
        ),
        (
            ["--config-path", "assets/vm.json", "--extra-apk", "x"],
            "--extra-apk and --config-path exclude each other",
        ),
        (
            [
                "--payload-binary-name",
                "a",
                "--extra-apk",
                "x",
                "--extra-apk",
                "y",
                "--extra-idsig",
                "z",
            ],
            "Found 2 extra apks, but there are 1",
        ),
    ],
)
def test_run_app_refuses(
    vm: Vm, apk: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = vm("run-app", apk, "app.idsig", "instance.img", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert not (tmp_path / "app.idsig").exists()


def test_run_app_makes_extra_idsigs(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "extra.apk").write_text("extra")
    result = vm(
        "run-app", apk, "--config-path", "assets/extra.json", "--extra-idsig", "extra.idsig",
        play=ENDED,
    )  # fmt: skip
    assert result.returncode == 0
    assert (tmp_path / "extra.idsig").read_text() == "idsig of extra"


def test_extra_apks_get_their_idsigs_on_the_way(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "x.apk").write_text("first")
    (tmp_path / "y.apk").write_text("second")
    start = ["run-app", apk, "--payload-binary-name", "a"]
    start += ["--extra-apk", "x.apk", "--extra-apk", "y.apk"]
    told = "ANDROID_VM_INSTANCE, idsig of first, idsig of second, first, second\n"
    assert told in vm(*start, play="files,died:3").stdout
    assert not list(tmp_path.glob("*idsig*"))
    start += ["--extra-idsig", "x.idsig", "--extra-idsig", "y.idsig"]
    result = vm(*start, play="files,died:3")
    assert told in result.stdout
    assert (tmp_path / "y.idsig").read_text() == "idsig of second"


def test_an_empty_instance_file_is_initialised(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "vm.img").touch()
    start = [
        "run-app",
        apk,
        "app.idsig",
        "vm.img",
        "--payload-binary-name",
        "a",
        "--name",
        ENDED,
    ]
    assert vm(*start).returncode == 0
    assert (tmp_path / "vm.img").read_bytes().startswith(b"ANDROID_VM_INSTANCE")


@pytest.mark.parametrize("kept", [("app.idsig", "vm.img"), ("--storage", "store.img")])
def test_a_vm_that_can_be_forked_keeps_nothing(
    vm: Vm, apk: Path, tmp_path: Path, kept: tuple[str, str]
) -> None:
    done = vm("run-app", apk, *kept, "--payload-binary-name", "a", "--forkable")
    assert done.returncode == 1
    assert "--forkable excludes INSTANCE and --storage" in done.stderr
    assert not (tmp_path / kept[1]).exists()


def test_storage_is_made_grown_and_never_shrunk(vm: Vm, apk: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.img"
    store.touch()
    start = ["run-app", apk, "--payload-binary-name", "a", "--storage", store]
    assert vm(*start, "--storage-size", "8192", play=ENDED).returncode == 0
    first = store.read_bytes()
    assert (first[:14], len(first)) == (b"ENCRYPTEDSTORE", 8192)
    assert vm(*start, play=ENDED).returncode == 0
    assert store.read_bytes() == first
    assert vm(*start, "--storage-size", "20000", play=ENDED).returncode == 0
    assert store.read_bytes() == first.ljust(20480, b"\0")
    result = vm(*start, "--storage-size", "8192")
    assert result.returncode == 1
    assert "store.img has 20480 bytes; storage cannot be made smaller" in result.stderr
    assert store.stat().st_size == 20480


def test_storage_whose_instance_is_not_kept(vm: Vm, apk: Path) -> None:
    payload = ["--payload-binary-name", "a", "--storage", "store.img"]
    told = "store.img can be opened in this run only"
    assert told in vm("run-app", apk, *payload, play=ENDED).stderr
    assert told not in vm("run-app", apk, "a.idsig", "vm.img", *payload, play=ENDED).stderr


def test_a_qcow2_store_is_not_grown(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "s.qcow2").write_bytes(b"QFI\xfb".ljust(4096, b"\0"))
    result = vm(
        "run-app", apk, "--payload-binary-name", "a", "--storage", "s.qcow2",
        "--storage-size", "8192",
    )  # fmt: skip
    assert result.returncode == 1
    assert "s.qcow2 is a QCOW2 image" in result.stderr
    assert (tmp_path / "s.qcow2").stat().st_size == 4096


def test_the_payloads_exit_code(vm: Vm, apk: Path) -> None:
    start = ["run-app", apk, "--payload-binary-name", "a", "--payload-status"]
    assert vm(*start, play="finished:42,died:3").returncode == 42
    assert vm(*start, play="finished:0,died:3").returncode == 0
    assert vm(*start, play="died:6").returncode == 1
    killed = "error:0:Failed to run payload: Payload exited due to signal: 11 (SIGSEGV),died:3"
    result = vm(*start, play=killed)
    assert result.returncode == 139
    assert "SIGSEGV" in result.stderr


def test_a_time_limit(vm: Vm, apk: Path, raw: Path) -> None:
    script = ["--timeout", "0.1"]
    play = "started,report"
    for start in (["run", raw], ["run-app", apk, "--payload-binary-name", "a", "--payload-status"]):
        result = vm(*start, *script, play=play)
        assert result.returncode == 124
        assert result.stdout.endswith("VM ended: TimedOut\n")
        assert "last step: killed because it had run for 0.1 s, its time limit\n" in result.stderr
    told = vm("run", raw, "--json", *script, play=play).stdout.splitlines()
    assert json.loads(told[-1])["reason"] == "TimedOut"
    assert vm("run", raw, "--timeout", "60", "--name", "died:3").returncode == 0
    assert vm("run", raw, "--timeout", "0").returncode == 2


def test_what_is_typed(environment: None, vm: Vm, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "typed").write_text("from a file\n")
    start = ["run", raw, "--name", "hear,died:3", "--console-in"]
    assert "from a file\n" in vm(*start, "typed").stdout
    piped = subprocess.run(
        [*VM, *map(str, start), "-"],
        input="from a pipe\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "from a pipe\n" in piped.stdout
    result = vm(*start, "none")
    assert result.returncode == 1
    assert "console_in: Failed to open none: No such file or directory" in result.stderr


def test_what_is_typed_at_a_terminal(environment: None, raw: Path) -> None:
    ours, theirs = os.openpty()
    with open(ours, "w+b", buffering=0) as terminal, open(theirs, "rb") as stdin:
        command = [*VM, "run", str(raw), "--name", "hear,died:3", "--console-in", "-"]
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True) as process:
            terminal.write(b"by hand\n")
            assert process.stdout is not None
            assert "by hand\n" in process.stdout.read()
            assert process.wait() == 0


def test_a_console_fifo_without_a_reader(vm: Vm, raw: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    result = vm("run", raw, "--console", "fifo")
    assert result.returncode == 1
    assert "nobody reads from this FIFO; start its reader first" in result.stderr


def test_run_microdroid_makes_a_payload_of_its_own(vm: Vm, tmp_path: Path) -> None:
    result = vm("run-microdroid", "--work-dir", "work", "--name", "ready,died:3")
    assert result.returncode == 0
    assert result.stdout.split("\n")[:3] == [
        "found path work/EmptyPayloadApp.apk",
        "apk.idsig path: work/apk.idsig",
        "instance.img path: work/instance.img",
    ]
    assert result.stdout.endswith("VM ended: Shutdown\n")
    made = (tmp_path / "work/EmptyPayloadApp.apk").read_bytes()
    vm("run-microdroid", "--work-dir", "work", "--name", "died:3")
    assert (tmp_path / "work/EmptyPayloadApp.apk").read_bytes() == made


def test_run_microdroid_takes_the_images_payload(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/EmptyPayloadApp.apk").write_text("shipped")
    result = vm("run-microdroid", "--name", "died:3")
    work = re.match("creating work dir (.*)\n", result.stdout)
    assert work is not None
    assert f"found path {tmp_path}/image/EmptyPayloadApp.apk\n" in result.stdout
    assert Path(work[1], "apk.idsig").read_text() == "idsig of shipped"


@pytest.mark.parametrize("further", [(), (signal.SIGTERM, signal.SIGHUP)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_vm_and_cleans_up(
    environment: None,
    apk: Path,
    tmp_path: Path,
    number: signal.Signals,
    further: tuple[signal.Signals, ...],
) -> None:
    """So do several at once, as timeout(1) and a terminal that is closed send them."""
    command = [*VM, "run-app", str(apk), "--payload-binary-name", "a"]
    playing = os.environ | {"FAKE_VIRTMGR_PLAY": "started"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=playing
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == MUTE
        assert process.stderr.readline() == "payload started\n"
        for each in (number, *further):
            os.kill(process.pid, each)
        assert process.stdout.read().endswith("VM ended: Killed\n")
        assert process.stderr.read() == ""
        assert process.wait() in {128 + each for each in (number, *further)}
    assert list((tmp_path / "tmp").iterdir()) == []


CANNOT_LEAVE = """\
import signal, threading
from avf.cli import command
signal.signal(signal.SIGTERM, command._leave)
try:
    signal.raise_signal(signal.SIGTERM)
finally:
    print("leaving", flush=True)
    threading.Event().wait()
"""


def test_a_later_signal_ends_what_cannot_leave() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CANNOT_LEAVE], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "leaving\n"

        def ended() -> int | None:
            process.send_signal(signal.SIGTERM)
            return process.poll()

        eventually(ended, 128 + signal.SIGTERM)


def test_list(environment: None, vm: Vm) -> None:
    assert vm("list").stdout == "Running VMs: []\n"
    assert vm("list", "--json").stdout == "[]\n"


def test_create_partition(vm: Vm, tmp_path: Path) -> None:
    for arguments, kind in (
        (["raw.img", "4096"], b"RAW"),
        (["instance.img", "4096", "-t", "instance"], b"ANDROID_VM_INSTANCE"),
        (["store.img", "4096", "--type", "encryptedstore"], b"ENCRYPTEDSTORE"),
    ):
        assert vm("create-partition", *arguments).returncode == 0
        assert (tmp_path / arguments[0]).read_bytes().startswith(kind)


def test_create_partition_keeps_what_is_there(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "mine.img").write_text("mine")
    result = vm("create-partition", "mine.img", "4096")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: Failed to create mine.img: File exists\n"
        "  try: choose another name, or remove that file if it is not needed\n"
    )
    assert (tmp_path / "mine.img").read_text() == "mine"


def test_an_instance_is_forgotten(vm: Vm, tmp_path: Path) -> None:
    image = tmp_path / "instance.img"
    assert vm("create-partition", "-t", "instance", image, 4096).returncode == 0
    result = vm("forget-instance", image)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    image.write_bytes(b"")
    result = vm("forget-instance", image)
    assert result.returncode == 1
    assert "no instance image" in result.stderr
    assert vm("forget-instance", "absent.img").returncode == 1


def test_a_partition_that_cannot_be_made_leaves_no_file(vm: Vm, tmp_path: Path) -> None:
    result = vm("create-partition", "unlucky.img", "13")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: Failed to make the partition unlucky.img\n"
        "  because: an unlucky size (ILLEGAL_ARGUMENT)\n"
    )
    assert not (tmp_path / "unlucky.img").exists()


def test_create_idsig(vm: Vm, apk: Path, tmp_path: Path) -> None:
    assert vm("create-idsig", apk, "app.idsig").returncode == 0
    assert (tmp_path / "app.idsig").read_bytes().startswith(b"idsig of PK")


def test_an_idsig_that_cannot_be_made_leaves_no_file(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "empty.apk").touch()
    result = vm("create-idsig", "empty.apk", "empty.idsig")
    assert result.returncode == 1
    assert "Error: Failed to make the idsig of empty.apk" in result.stderr
    assert not (tmp_path / "empty.idsig").exists()
    assert vm("create-idsig", "none.apk", "none.idsig").stderr.startswith(
        "Error: Failed to open none.apk: No such file"
    )
    assert not (tmp_path / "none.idsig").exists()


@pytest.mark.parametrize(
    ("play", "status"),
    [
        ("started,finished:7,died:3", 0),
        ("started,ready,died:1", 0),
        ("started,died:6", 1),
        ("error:0:Unable to access /mnt/apk/bin/a,died:15", 1),
        ("error:2:changed,died:12", 1),
        ("died:3", 1),
        ("died:4", 1),
        ("died:0", 1),
    ],
)
def test_a_payload_that_did_not_run_is_a_failure(vm: Vm, apk: Path, play: str, status: int) -> None:
    assert vm("run-app", apk, "--payload-binary-name", "a", play=play).returncode == status


def test_a_script_is_run_from_its_source(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print()")
    play = "started,tell:[    1.000] agent: started.,tell:hello,call,finished:7,died:3"
    start = ["run-app", "hello.py", "--env", "A=1", "--env", "TMPDIR", "--", "--name", "x y"]
    result = vm(*start, play=play)
    assert result.returncode == 7
    assert result.stdout == f"hello\n['--name', 'x y'] ['A=1', 'TMPDIR={tmp_path}/tmp']\n"
    key = tmp_path / "tmp/XDG_CONFIG_HOME/avf/debug-key.pem"
    assert result.stderr == (
        f"made your debug key {key}, which signs what is built on the way\n"
        "running hello.py (Python script) in VM 2048, debuggable\n"
    )
    result = vm(*start, play="started,finished:0,died:3")
    assert result.stderr == "running hello.py (Python script) in VM 2048, debuggable\n"
    result = vm(*start, "--debug", "full", play="died:3")
    assert result.returncode == 1  # what stands behind -- is the payload's
    result = vm("run-app", "--debug", "none", "hello.py", play="started,finished:0,died:3")
    assert result.returncode == 0
    assert MUTE in result.stderr
    killed = "error:0:Failed to run payload: Payload exited due to signal: 11 (SIGSEGV),died:15"
    result = vm("run-app", "hello.py", play=killed)
    assert result.returncode == 139
    assert result.stderr.splitlines()[1:] == [
        "the payload was killed: Failed to run payload: Payload exited due to signal: 11 (SIGSEGV)",
        "  try: `vm tombstones list` shows what a debuggable guest has left",
    ]


def test_no_word_behind_a_source_becomes_a_file(vm: Vm, apk: Path, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print()")
    (tmp_path / "precious.txt").write_text("my thesis")
    result = vm("run-app", "hello.py", "precious.txt", "more")
    assert result.returncode == 1
    assert "hello.py is no APK, so it has no IDSIG precious.txt" in result.stderr
    assert "vm run-app hello.py -- precious.txt more" in result.stderr
    assert (tmp_path / "precious.txt").read_text() == "my thesis"
    result = vm("run-app", apk, "--payload-binary-name", "a", "--", "--x", play=ENDED)
    assert result.returncode == 0
    assert not (tmp_path / "--x").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["words.txt"], "words.txt is no payload: it is text without a #! line"),
        (["hello.py", "--payload-binary-name", "x"], "hello.py is none"),
        (["hello.py", "--config-path", "x"], "hello.py is none"),
        (["hello.py", "--env", "A=1", "--env", "A=2"], "A comes twice"),
        (
            ["hello.py", "--debug", "none", "--env", "LD_PRELOAD=x"],
            "variable LD_PRELOAD can change",
        ),
        (["absent.py"], "absent.py: No such file"),
        (["empty"], "empty: which file is the payload? no file there can be run"),
    ],
)
def test_sources_that_are_refused(vm: Vm, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "hello.py").touch()
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    result = vm("run-app", *arguments)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_payload_given_to_run_is_met_with_the_right_command(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print()")
    result = vm("run", "hello.py")
    assert result.returncode == 1
    assert "type `vm run-app hello.py`" in result.stderr


def test_an_apk_without_a_name_tells_what_is_in_it(vm: Vm, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.apk", "w") as archive:
        archive.writestr("bin/one.py", "")
        archive.writestr("lib/x86_64/two.so", "")
        archive.writestr("lib/arm64-v8a/three.so", "")
        archive.writestr("bin/package/four.py", "")
    result = vm("run-app", "app.apk")
    assert "app.apk has these payloads: two.so, one.py\n" in result.stderr


def test_the_kernels_and_the_agents_lines_on_request(vm: Vm, apk: Path) -> None:
    start = ["run-app", apk, "--payload-binary-name", "a", "--debug", "full"]
    play = "started,tell:[    1.000] agent: started.,tell:hello,finished:0,died:3"
    assert "agent:" not in vm(*start, play=play).stdout
    assert "[    1.000] agent: started.\nhello\n" in vm(*start, "--kernel-log", play=play).stdout
    assert vm(*start, "--log", "log", play=play).returncode == 0
    assert Path("log").read_text() == "[    1.000] agent: started.\nhello\n"
    Path("log").unlink()
    Path("log").write_text("my thesis")
    result = vm(*start, "--log", "log", play=play)
    assert result.returncode == 1
    assert (
        "log: log is not empty and is no console or log of a VM: it looks like text"
        in result.stderr
    )
    assert Path("log").read_text() == "my thesis"


def test_sizes_have_units(vm: Vm, apk: Path) -> None:
    start = ["run-app", apk, "--payload-binary-name", "a"]
    for words in (["-m", "512M"], ["-m", "512"], ["--storage", "s.img", "--storage-size", "1M"]):
        assert vm(*start, *words, play=ENDED).returncode == 0
    assert Path("s.img").stat().st_size == 1 << 20
    for words in (["-m", "512k"], ["-m", "much"], ["--storage-size", "0"]):
        assert vm(*start, *words).returncode == 2
    assert vm("create-partition", "p.img", "10M").returncode == 0
    assert Path("p.img").stat().st_size == 10 << 20
    assert vm("create-partition", "q.img", "0").returncode == 2
    assert not Path("q.img").exists()


def test_a_vm_with_a_name_is_kept(vm: Vm, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("print()")
    start = ["run-app", "hello.py", "--name", "greeter"]
    assert vm(*start, "--storage-size", "1M", play=ENDED).returncode == 0
    folder = tmp_path / "tmp/XDG_DATA_HOME/avf/vm/greeter"
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"app.apk", "apk.idsig", "config.json", "instance.img", "storage.img", "lock"}
    instance = (folder / "instance.img").stat()
    assert vm(*start, "--", "x", play="call,finished:0,died:3").stdout == "['x'] []\n"
    assert (
        vm("start", "greeter", "-e", "A=1", "--", "y", play="call,finished:3,died:3").returncode
        == 3
    )
    assert (folder / "instance.img").stat().st_ino == instance.st_ino
    shown = vm("ls").stdout.splitlines()
    assert shown[0].split() == ["NAME", "CID", "STATE", "UPTIME", "MEM", "PAYLOAD", "UID"]
    assert shown[1].split()[:3] == ["greeter", "-", "STOPPED"]
    (tmp_path / "other.py").write_text("print()")
    result = vm("run-app", "other.py", "--name", "greeter")
    assert (
        "VM greeter is another one: its payload_binary_name is hello.py, not other.py"
        in result.stderr
    )
    assert "`vm rm greeter`" in result.stderr
    assert "looks like a CID" in vm("run-app", "hello.py", "--name", "2048").stderr
    assert "is no name for a VM" in vm("run-app", "hello.py", "--name", "../x").stderr
    assert "--storage does not go" in vm(*start, "--storage", "s.img").stderr
    assert vm("rm", "greeter").returncode == 0
    assert not folder.exists()
    assert "no VM greeter is kept" in vm("rm", "greeter").stderr
