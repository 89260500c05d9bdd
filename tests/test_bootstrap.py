"""What bootstrap.py decides, without installing anything or touching the system."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A system with some packages, a package manager, and a record of what was run."""

    def __init__(self, manager: str | None, *, sudo: bool = False, works: bool = True) -> None:
        self.programs = {manager, "sudo"}
        self.sudo, self.works = sudo, works
        self.runs: list[list[str]] = []
        self.installed = False

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.programs else None

    def has(self, need: Any) -> bool:
        return self.installed or need.name == "libGL.so.1"

    def run(self, words: list[str], **_: Any) -> SimpleNamespace:
        self.runs.append(list(words))
        if words == ["sudo", "-n", "true"]:
            return SimpleNamespace(returncode=0 if self.sudo else 1, stdout="", stderr="")
        if "install" in words:
            self.installed = self.works
        return SimpleNamespace(returncode=0 if self.works else 100, stdout="", stderr="E: no way\n")


def provide(bootstrap: ModuleType, machine: Machine, *, root: bool) -> None:
    bootstrap.provide(
        bootstrap.WINDOW, has=machine.has, which=machine.which, run=machine.run, root=root
    )


# --- the command line


@pytest.mark.parametrize(
    ("words", "command", "venv", "rest"),
    [
        (["demo"], "demo", ROOT / ".venv", ()),
        (["test", "-k", "slide", "-x"], "test", ROOT / ".venv", ("-k", "slide", "-x")),
        (["--venv", "there", "test"], "test", Path.cwd() / "there", ()),
        (["test", "--venv=there", "-q"], "test", Path.cwd() / "there", ("-q",)),
        (["test", "--", "--venv", "x"], "test", ROOT / ".venv", ("--venv", "x")),
        (["demo", "--help"], "demo", ROOT / ".venv", ("--help",)),
        (["-h"], "help", ROOT / ".venv", ()),
    ],
)
def test_command_line(
    bootstrap: ModuleType, words: list[str], command: str, venv: Path, rest: tuple[str, ...]
) -> None:
    assert bootstrap.parse(words) == (command, venv, rest)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to do"),
        (["tset"], "'tset' is not a command"),
        (["test", "--venv"], "--venv needs a folder"),
        (["test", "--venv="], "--venv needs a folder"),
        (["check", "-q"], "check takes no further words"),
    ],
)
def test_command_line_at_fault(
    bootstrap: ModuleType, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


# --- system packages


def test_what_each_command_needs(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LINUX", True)
    window, display = set(bootstrap.WINDOW), set(bootstrap.VIRTUAL_DISPLAY)
    venv, shown = set(bootstrap.VENV), {"DISPLAY": ":0"}
    assert set(bootstrap.needs("test", {})) == venv | window | display
    assert set(bootstrap.needs("test", shown)) == venv | window
    assert set(bootstrap.needs("demo", shown)) == venv | window
    assert set(bootstrap.needs("demo", {"WAYLAND_DISPLAY": "wayland-0"})) == venv | window
    assert set(bootstrap.needs("demo", {"DISPLAY": ""})) == venv
    assert set(bootstrap.needs("check", shown)) == venv
    assert bootstrap.needs("demo", {}, made=True) == ()
    assert set(bootstrap.wishes("demo", {})) == window
    assert bootstrap.wishes("demo", shown) == bootstrap.wishes("test", {}) == ()
    monkeypatch.setattr(bootstrap, "LINUX", False)
    assert bootstrap.needs("test", {}) == ()


def test_every_need_names_a_package_for_each_manager(bootstrap: ModuleType) -> None:
    needs = (*bootstrap.WINDOW, *bootstrap.VIRTUAL_DISPLAY, *bootstrap.VENV)
    assert len({need.name for need in needs}) == len(needs)
    for need in needs:
        assert need.kind in ("library", "program", "module", "file")
        assert all(re.fullmatch(r"[\w.+-]+", package) for package in need[2:])


@pytest.mark.parametrize(
    ("kind", "name", "there"),
    [
        ("module", "json", True),
        ("module", "no_such_module_here", False),
        ("library", "libno-such-library-here.so.9", False),
        ("program", "no-such-program-here", False),
    ],
)
def test_presence_is_tried(bootstrap: ModuleType, kind: str, name: str, there: bool) -> None:
    assert bootstrap.present(bootstrap.Need(kind, name, "a", "b", "c")) is there


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is looked at so")
def test_presence_of_libraries_and_files_on_linux(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.ttf").touch()

    def present(kind: str, name: str) -> bool:
        return bool(bootstrap.present(bootstrap.Need(kind, name, "a", "b", "c")))

    assert present("library", "libc.so.6")
    assert present("file", f"{tmp_path}/b.ttf:{tmp_path}/*.[to]tf")
    assert not present("file", f"{tmp_path}/**/*.otf")


def test_nothing_is_run_when_nothing_is_missing(bootstrap: ModuleType) -> None:
    machine = Machine("apt-get")
    machine.installed = True
    provide(bootstrap, machine, root=True)
    assert machine.runs == []


@pytest.mark.parametrize("root", [True, False])
def test_apt_installs_what_is_missing_and_no_more(bootstrap: ModuleType, root: bool) -> None:
    machine = Machine("apt-get", sudo=not root)
    provide(bootstrap, machine, root=root)
    assert any("update" in words for words in machine.runs)
    install = machine.runs[-1]
    assert {"install", "-y", "libegl1", "libxcb-cursor0", "fonts-dejavu-core"} <= set(install)
    assert "libgl1" not in install
    assert (install[:2] == ["sudo", "-n"]) is (not root)


@pytest.mark.parametrize(
    ("manager", "root", "command"),
    [
        ("apt-get", False, "sudo apt-get install -y --no-install-recommends fonts-dejavu-core "),
        ("dnf", True, "dnf install -y dbus-libs "),
        ("dnf", False, "sudo dnf install -y dbus-libs "),
        ("pacman", False, "sudo pacman -S --needed brotli "),
        (None, True, "this system lacks libEGL.so.1, "),
    ],
)
def test_otherwise_one_line_says_what_to_run(
    bootstrap: ModuleType, manager: str | None, root: bool, command: str
) -> None:
    machine = Machine(manager)
    with pytest.raises(bootstrap.Stop) as stopped:
        provide(bootstrap, machine, root=root)
    assert command in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not any("install" in words for words in machine.runs)


def test_an_apt_that_fails_is_quoted(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.Stop, match=r"\(E: no way\).*apt-get install"):
        provide(bootstrap, Machine("apt-get", works=False), root=True)


# --- the environment


def test_stamp_holds_for_the_same_files_and_for_fewer_extras(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes(b"one\ntwo\n")
    first = bootstrap.fingerprint(tmp_path)
    stamp = {"fingerprint": first, "extras": ["gui", "test"]}
    assert bootstrap.fresh(stamp, bootstrap.fingerprint(tmp_path), ("gui",))
    assert bootstrap.fresh(stamp, first, ("gui", "test"))
    assert not bootstrap.fresh(stamp, first, ("dev", "gui", "test"))
    assert not bootstrap.fresh({}, first, ("gui",))
    assert not bootstrap.fresh({"fingerprint": first, "extras": "gui"}, first, ("gui",))
    (tmp_path / "constraints.txt").write_bytes(b"one\r\ntwo\r\n")
    assert bootstrap.fingerprint(tmp_path) == first
    (tmp_path / "constraints.txt").write_bytes(b"one\nthree\n")
    assert not bootstrap.fresh(stamp, bootstrap.fingerprint(tmp_path), ("gui",))


@pytest.mark.parametrize("text", ["", "{", "[1]", None])
def test_a_spoilt_stamp_counts_as_none(
    bootstrap: ModuleType, tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / bootstrap.STAMP).write_text(text)
    assert bootstrap.read_stamp(tmp_path) == {}


def test_an_unchanged_environment_is_used_as_it_is(
    bootstrap: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = bootstrap.python_in(tmp_path)
    python.parent.mkdir()
    python.touch()
    (tmp_path / "pyvenv.cfg").touch()
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "pip", lambda venv, *words: calls.append(words))
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "arm64")
    bootstrap.prepare(tmp_path, ("gui", "test"))
    assert [words[-1] for words in calls] == ["pip", ".[gui,test]"]
    bootstrap.prepare(tmp_path, ("gui",))
    assert len(calls) == 2
    bootstrap.prepare(tmp_path, ("dev", "gui", "test"))
    assert len(calls) == 4
    stamp = json.loads((tmp_path / bootstrap.STAMP).read_text())
    assert stamp["extras"] == ["dev", "gui", "test"]
    bootstrap.prepare(tmp_path, ("gui", "test"))
    assert len(calls) == 4
    assert "using" in capsys.readouterr().out


def test_a_folder_of_the_user_is_never_cleared(bootstrap: ModuleType, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(bootstrap.Stop, match="is not a virtual environment"):
        bootstrap.make(tmp_path)
    (tmp_path / "pyvenv.cfg").touch()
    with pytest.raises(bootstrap.Stop, match="broken virtual environment"):
        bootstrap.make(tmp_path)
    assert kept.read_text() == "mine"


def test_too_little_room_is_said_before_anything_is_made(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(free=10**9)
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda _: little)
    with pytest.raises(bootstrap.Stop, match=r"1\.0 GB free"):
        bootstrap.make(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_children_see_no_other_python(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PYTHONHOME", "elsewhere")
    environ = bootstrap.child_environment(tmp_path)
    assert "PYTHONPATH" not in environ
    assert "PYTHONHOME" not in environ
    assert environ["PATH"].startswith(str(bootstrap.python_in(tmp_path).parent))


def test_tests_get_a_virtual_display_only_where_there_is_none(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "LINUX", True)
    bare = bootstrap.test_environment({})
    assert bare["QT_QPA_PLATFORM"] == "xcb"
    assert bootstrap.wrap(["pytest"], bare)[:2] == ["xvfb-run", "-a"]
    assert bootstrap.wrap(["pytest"], {"DISPLAY": ":1"}) == ["pytest"]
    monkeypatch.setattr(bootstrap, "LINUX", False)
    assert "QT_QPA_PLATFORM" not in bootstrap.test_environment({})
    assert bootstrap.wrap(["pytest"], {}) == ["pytest"]


@pytest.mark.parametrize(("rest", "windowed", "told"), [(0, 0, 0), (1, 0, 1), (0, 5, 5), (1, 2, 1)])
def test_two_halves_are_run_and_both_count(
    bootstrap: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    rest: int,
    windowed: int,
    told: int,
) -> None:
    monkeypatch.setattr(bootstrap, "LINUX", False)
    code = (
        "import sys; mine = 'tests/widgets' in sys.argv; "
        "print('windows' if mine else ' '.join(sys.argv[1:])); "
        f"sys.exit({windowed} if mine else {rest})"
    )
    status = bootstrap.in_two_halves([sys.executable, "-c", code], dict(os.environ))
    assert status == told
    out = capfd.readouterr().out.splitlines()
    assert "--ignore=tests/widgets" in out[1]
    assert out[2] == "windows"


def test_halves_are_for_whole_runs_only(bootstrap: ModuleType) -> None:
    for folder in bootstrap.WINDOWED:
        assert (ROOT / folder).is_dir()
    for one in ("-p", "no:cacheprovider", "-q", "-vv", "--durations=9"):
        assert bootstrap.HARMLESS.fullmatch(one)
    for one in ("tests/models", "-k", "slide", "--junitxml=x", "--lf", "-m"):
        assert not bootstrap.HARMLESS.fullmatch(one)


# --- what pip says


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for hatchling>=1.27",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==9.9", "torch==9.9 is not offered"),
        ("HINT: This error might have occurred since ... Long Path support", "too long"),
        ("The virtual environment was not created because ensurepip is not", "ensurepip"),
        ("ERROR: Cannot install a and b.", "Cannot install a and b."),
        ("Error: [Errno 30] Read-only file system: '/x'", "cannot be written to"),
        ("", "making the environment failed."),
    ],
)
def test_failures_become_one_sentence(bootstrap: ModuleType, log: str, said: str) -> None:
    sentence = bootstrap.explain(log)
    assert said in sentence
    assert "\n" not in sentence


def test_only_big_steps_of_pip_are_shown(bootstrap: ModuleType) -> None:
    big = "Downloading torch-2.12.1-cp311-cp311-manylinux_2_28_x86_64.whl (532.2 MB)\n"
    small = "Downloading toolz-1.2.0-py3-none-any.whl (58 kB)\n"
    assert bootstrap.interesting(big) == "  torch 2.12.1 (532.2 MB)"
    assert bootstrap.interesting(small) is None
    last = "Installing collected packages: " + ", ".join("abcdefghijkl")
    assert "12 packages" in bootstrap.interesting(last)


def test_a_failing_pip_leaves_its_log(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "python_in", lambda _: Path(sys.executable))
    with pytest.raises(bootstrap.Stop, match="is not offered") as stopped:
        bootstrap.pip(tmp_path, "--no-index", "no-such-thing-here")
    log = tmp_path / bootstrap.LOG
    assert str(log) in str(stopped.value)
    assert "no-such-thing-here" in log.read_text()
    assert not (tmp_path / "tmp").exists()


# --- the pins


def test_pins_are_plain_and_cover_what_we_depend_on() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*(; .+)?", pin) for pin in pins)
    pinned = {re.split("==", pin)[0].lower() for pin in pins}
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [line for group in groups for line in group]
    names = {re.split(r"[\[<>=;~! ]", line)[0].lower() for line in wanted}
    assert names - {"napari-histosam"} <= pinned
    # PySide6 is the Qt that is installed; PyQt, under the GPL, is not.
    assert not any(re.fullmatch(r"pyqt[56].*", name) for name in pinned)


def test_an_old_python_is_told_so() -> None:
    """The check comes before anything that an older Python could trip over."""
    source = (ROOT / "bootstrap.py").read_text(encoding="utf-8")
    older = source.replace("OLDEST = (3, 11)", "OLDEST = (99, 0)")
    done = subprocess.run(
        [sys.executable, "-c", older, "demo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "is too old" in done.stderr
    assert len(done.stderr.splitlines()) == 1
