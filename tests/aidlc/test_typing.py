"""User code over generated contracts: type checkers accept what is right and refuse what is wrong; so does Python."""

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidlc.main import main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = HERE / "typed" / "program.py"
HEAD = """\
import asyncio
from avf.binder import Server, Session, aio
from typed import ICustomer, ICustomerAsync, IShop, IShopAsync, Order
def shop() -> IShop: raise NotImplementedError
def async_shop() -> IShopAsync: raise NotImplementedError
"""
MISTAKES = {
    "a misspelt member of a union": "Order.Payment(cahs=1)",
    "a member of the wrong type": "Order.Payment(card=1)",
    "two members of a union": 'Order.Payment(cash=1, card="x")',
    "no member of a union": "Order.Payment()",
    "a misspelt field": 'Order(whatx="x")',
    "a field of the wrong type": "Order(what=1)",
    "a number for an enum": "Order(size=1)",
    "another enum": "Order(size=Order.Payment.Tag.cash)",
    "a name that the package does not have": "from typed import IShopp",
    "a nested type that is not there": "Order.Sizex",
    "a constant that is not there": "IShop.MAX_ORDER",
    "a misspelt method": 'shop().odrer(Order(), [])',
    "an argument of the wrong type": 'shop().order(Order(), "note")',
    "an argument too few": "shop().order(Order())",
    "a misspelt argument": "shop().order(order=Order(), note=[])",
    "a string for a boolean": 'shop().best("false")',
    "an object of another interface": "shop().watch(shop())",
    "a result taken for another": "x: str = shop().order(Order(), [])",
    "the tuple of a result and an out argument": "x: int = shop().list_(1)",
    "null that is not looked at": "shop().best(True).served(1)",
    "a server without a method": "class C(ICustomer): ...\nC()",
    "a server with a misspelt method": "class C(ICustomer):\n    def serve(self, number: int) -> None: ...\nC()",
    "a method with another argument": "class C(ICustomer):\n    def served(self, number: str) -> None: ...",
    "an asyncio server with a misspelt method":
        "class C(ICustomerAsync):\n    async def serve(self, number: int) -> None: ...\nC()",
    "an asyncio method that is no coroutine":
        "class C(ICustomerAsync):\n    def served(self, number: int) -> None: ...",
    "a misspelt method of an asyncio proxy": "async_shop().odrer(Order(), [])",
    "an argument of an asyncio proxy": "async_shop().order(Order(), 5)",
    "a misspelt option of an asyncio server": "def f(c: ICustomerAsync) -> None:\n    aio.Server(c, max_thread=2)",
    "an option of an asyncio server": "def f(c: ICustomerAsync) -> None:\n    aio.Server(c, max_threads=\"2\")",
    "a result that is not awaited": "x: int = async_shop().order(Order(), [])",
    "the wrong face in get_root": "async def f(s: aio.AsyncSession) -> IShop:\n    return await s.get_root(IShopAsync)",
    "an asyncio object as an argument": "def f(c: ICustomerAsync) -> None:\n    shop().watch(c)",
    "another face for a proxy": "def f(s: Session) -> ICustomer:\n    return s.get_root(IShop)",
    "an object of no interface for get_root": 'def f(s: Session) -> None:\n    s.get_root("IShop")',
}  # fmt: skip

ABOUT_MISTAKES = (
    "reportUnusedClass",
    "reportUnusedCoroutine",
    "reportUnusedExpression",
    "reportUnusedImport",
)
"""What pyright would say of these modules beside the mistakes: that nothing is done with what is there."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the generated package, the program, and a module for each mistake."""
    directory = tmp_path_factory.mktemp("typed")
    assert main(["-o", str(directory), str(HERE / "typed" / "idl")]) == 0
    (directory / "program.py").write_text(PROGRAM.read_text())
    for number, text in enumerate(MISTAKES.values()):
        (directory / f"mistake{number}.py").write_text(f"{HEAD}{text}\n")
    return directory


@pytest.fixture(scope="module")
def mypy(typed: Path) -> dict[str, list[str]]:
    """What mypy says, by module."""
    tool = str(Path(sys.executable).with_name("mypy"))
    command = [tool, "--strict", "--explicit-package-bases", "--no-pretty", "--cache-dir", "cache"]
    modules = sorted(path.name for path in typed.glob("*.py"))
    environment = {**os.environ, "MYPYPATH": f"{ROOT / 'src'}:{typed}"}
    done = subprocess.run(
        [*command, *modules, "typed"], cwd=typed, env=environment, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, list[str]] = {}
    for path, line, text in re.findall(r"(?m)^(\S+?)\.py:(\d+): error: (.*)$", done.stdout):
        found.setdefault(path, []).append(f"{line}: {text}")
    return found


@pytest.fixture(scope="module")
def pyright(typed: Path) -> dict[str, list[str]]:
    """What pyright says when it is strict, by module."""
    tool = Path(sys.executable).with_name("basedpyright")
    config: dict[str, object] = dict.fromkeys(ABOUT_MISTAKES, False)
    config |= {"typeCheckingMode": "strict", "extraPaths": [str(ROOT / "src")]}
    (typed / "pyrightconfig.json").write_text(json.dumps(config))
    command = [tool, "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=typed, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[str]] = {}
    for told in json.loads(done.stdout)["generalDiagnostics"]:
        if told["severity"] == "error":
            path = str(Path(told["file"]).relative_to(typed)).removesuffix(".py")
            text = told["message"].splitlines()[0]
            found.setdefault(path, []).append(f"{told['range']['start']['line'] + 1}: {text}")
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_is_right(request: pytest.FixtureRequest, checker: str) -> None:
    """The program, and the generated modules."""
    found = request.getfixturevalue(checker)
    assert {path: told for path, told in found.items() if not path.startswith("mistake")} == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=list(MISTAKES))
def test_mistakes(request: pytest.FixtureRequest, checker: str, number: int) -> None:
    """Each is told in its own lines, not in those that all have."""
    told = request.getfixturevalue(checker).get(f"mistake{number}", [])
    assert told
    assert all(int(line.partition(":")[0]) > HEAD.count("\n") for line in told)


@pytest.fixture
def imported(typed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(typed)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("typed", "program")]:
        del sys.modules[name]


@pytest.mark.usefixtures("imported")
def test_the_program_runs(tmp_path: Path) -> None:
    importlib.import_module("program").run(tmp_path)


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Order.Payment(cahs=1)", "has no member cahs"),
        ("Order(whatx=1)", "has no field whatx"),
        ("C = type('C', (ICustomer,), {'serve': print}); C()", "abstract.* served"),
        ("C = type('C', (ICustomerAsync,), {'serve': print}); C()", "abstract.* served"),
        ("IShop.MAX_ORDER", "MAX_ORDER"),
        ("from typed import IShopp", "IShopp"),
        ("aio.proxy(IShopAsync, type('C', (ICustomer,), {'served': print})())", "IShop wanted, not C"),
        ("aio.serving(ICustomer, object())", "object cannot serve ICustomer: it has no served"),
        ("Server(type('C', (ICustomer,), {'served': print}))", "not the class C: C.. makes one"),
        ("Server(5)", "an object of an Interface class wanted, not int"),
        ("Server(type('C', (ICustomer,), {'served': print})()).start('/run/x')", "a listening socket wanted, not str"),
    ],
)  # fmt: skip
def test_mistakes_at_run_time(code: str, message: str) -> None:
    scope: dict[str, object] = {}
    exec(HEAD, scope)
    with pytest.raises((TypeError, AttributeError, ImportError), match=message):
        asyncio.run(_run(code, scope))


async def _run(code: str, scope: dict[str, object]) -> None:
    exec(code, scope)
