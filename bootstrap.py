"""Make a virtual environment for this checkout, then run the demo, the tests or the checks in it.

    python bootstrap.py demo  [--venv DIR] [options of histosam demo]
    python bootstrap.py test  [--venv DIR] [options of pytest]
    python bootstrap.py check [--venv DIR]

Needs nothing but Python 3.11 or newer; works on Linux, macOS and Windows. A second run reuses the
environment while pyproject.toml and constraints.txt stay as they were. Exit status: that of the
demo or of pytest; 1 when a check fails; 2 when the machine lacks something (one line says what).
"""

import ctypes
import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple  # and not a dataclass: Python 3.6 must get as far as the next line

OLDEST = (3, 11)
if sys.version_info < OLDEST:
    sys.exit(
        f"bootstrap: Python {sys.version_info[0]}.{sys.version_info[1]} is too old: "
        "run this file with Python 3.11 or newer."
    )

ROOT = Path(__file__).resolve().parent
LINUX = sys.platform.startswith("linux")
EXTRAS = {"demo": ("gui",), "test": ("gui", "test"), "check": ("dev", "gui", "test")}
SCREEN = "-screen 0 1600x1000x24"
# The half of the tests that opens windows, and options of pytest that leave both halves whole.
WINDOWED = ("tests/cli", "tests/viewer", "tests/widgets")
HARMLESS = re.compile(r"-p|no:\w+|-[qvx]+|--durations=\d+")
STAMP = "histosam-bootstrap.json"
LOG = "histosam-bootstrap.log"
# Installed size plus the wheels that pip holds until it is done; on Linux torch brings CUDA along.
GIGABYTES = 10 if LINUX else 4


class Stop(Exception):
    """The work cannot go on; the text is one sentence for the user."""


class Options(NamedTuple):
    """What the command line asks for; ``rest`` goes on to the demo or to pytest."""

    command: str
    venv: Path
    rest: tuple[str, ...]


class Need(NamedTuple):
    """Something that the system has to bring, and the package that holds it per package manager.

    ``kind`` is ``library`` (loadable under that name), ``program`` (on the path), ``module`` (of
    this Python) or ``file`` (patterns, any of which may match).
    """

    kind: str
    name: str
    apt: str
    dnf: str
    pacman: str


FONTS = (
    "/usr/share/fonts/**/*.[to]tf:/usr/local/share/fonts/**/*.[to]tf"
    ":~/.fonts/**/*.[to]tf:~/.local/share/fonts/**/*.[to]tf"
)
RENDERER = (
    "/usr/lib/*/dri/*_dri.so:/usr/lib64/dri/*_dri.so:/usr/lib/dri/*_dri.so"
    ":/usr/lib/*/libgallium*.so:/usr/lib64/libgallium*.so:/usr/lib/libgallium*.so"
)
# What the wheels of Qt link to beyond the C library (read from their dynamic sections), less what
# these link to themselves: it comes along.
#   loadable name         apt                 dnf               pacman
LIBRARIES = """
    libEGL.so.1           libegl1             mesa-libEGL       libglvnd
    libGL.so.1            libgl1              mesa-libGL        libglvnd
    libX11-xcb.so.1       libx11-xcb1         libX11-xcb        libx11
    libxkbcommon-x11.so.0 libxkbcommon-x11-0  libxkbcommon-x11  libxkbcommon-x11
    libxcb-cursor.so.0    libxcb-cursor0      xcb-util-cursor   xcb-util-cursor
    libxcb-glx.so.0       libxcb-glx0         libxcb            libxcb
    libxcb-icccm.so.4     libxcb-icccm4       xcb-util-wm       xcb-util-wm
    libxcb-keysyms.so.1   libxcb-keysyms1     xcb-util-keysyms  xcb-util-keysyms
    libxcb-randr.so.0     libxcb-randr0       libxcb            libxcb
    libxcb-shape.so.0     libxcb-shape0       libxcb            libxcb
    libxcb-sync.so.1      libxcb-sync1        libxcb            libxcb
    libxcb-xfixes.so.0    libxcb-xfixes0      libxcb            libxcb
    libdbus-1.so.3        libdbus-1-3         dbus-libs         dbus
    libfontconfig.so.1    libfontconfig1      fontconfig        fontconfig
    libgthread-2.0.so.0   libglib2.0-0        glib2             glib2
    libgssapi_krb5.so.2   libgssapi-krb5-2    krb5-libs         krb5
    libbrotlidec.so.1     libbrotli1          libbrotli         brotli
    libzstd.so.1          libzstd1            libzstd           zstd
"""
WINDOW = (
    *(Need("library", *row.split()) for row in LIBRARIES.strip().splitlines()),
    Need("file", FONTS, "fonts-dejavu-core", "dejavu-sans-fonts", "ttf-dejavu"),
)
VIRTUAL_DISPLAY = (
    Need("program", "xvfb-run", "xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb"),
    Need("program", "xauth", "xauth", "xorg-x11-xauth", "xorg-xauth"),
    Need("file", RENDERER, "libgl1-mesa-dri", "mesa-dri-drivers", "mesa"),
)
THIS = f"python{sys.version_info[0]}.{sys.version_info[1]}"
VENV = (Need("module", "ensurepip", f"{THIS}-venv", "python3", "python"),)


def parse(argv: Sequence[str]) -> Options:
    """Read the command line: our own options anywhere before ``--``, all others passed on."""
    command, venv = "", ROOT / ".venv"
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest.extend(words)
        elif word == "--venv" or word.startswith("--venv="):
            value = word[7:] if "=" in word else next(words, "")
            if not value:
                raise Stop("--venv needs a folder: bootstrap.py test --venv DIR")
            venv = Path(value).expanduser()
        elif not command and word in ("-h", "--help"):
            command = "help"
        elif not command:
            command = word
        else:
            rest.append(word)
    if command not in (*EXTRAS, "help"):
        said = f"'{command}' is not a command" if command else "say what to do"
        raise Stop(f"{said}: bootstrap.py demo, bootstrap.py test or bootstrap.py check")
    if command == "check" and rest:
        raise Stop(f"check takes no further words, found '{rest[0]}'")
    # Not resolved: a link that the user made for the environment stays a link.
    return Options(command, Path(os.path.abspath(venv)), tuple(rest))


# --- what the system has to bring -----------------------------------------------------------------


def present(need: Need) -> bool:
    """Say whether this machine has what is needed, by using it rather than by asking for a name."""
    if need.kind == "library":
        try:
            ctypes.CDLL(need.name)
        except OSError:
            return False
        return True
    if need.kind == "program":
        return shutil.which(need.name) is not None
    if need.kind == "module":
        return importlib.util.find_spec(need.name) is not None
    for pattern in need.name.split(":"):
        path = Path(pattern).expanduser()
        if any(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
            return True
    return False


def needs(command: str, environ: Mapping[str, str], *, made: bool = False) -> tuple[Need, ...]:
    """List what a command needs from a Linux system; elsewhere the wheels bring everything.

    A demo without a display draws its picture without a window, so it needs no window libraries;
    an environment that is ``made`` needs no means to make it.
    """
    if not LINUX:
        return ()
    wanted = () if made else VENV
    display = bool(environ.get("DISPLAY"))
    if command == "test":
        return wanted + WINDOW + (() if display else VIRTUAL_DISPLAY)
    if command == "demo" and (display or environ.get("WAYLAND_DISPLAY")):
        return wanted + WINDOW
    return wanted


def wishes(command: str, environ: Mapping[str, str]) -> tuple[Need, ...]:
    """List what a command installs if it may, yet does without if it may not.

    Without a display the demo itself needs no window; the next thing its user does, will.
    """
    if not LINUX or command != "demo":
        return ()
    display = environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    return () if display else WINDOW


def install_line(missing: Iterable[Need], manager: str) -> list[str]:
    """Return the words of the command that installs what is missing, without sudo."""
    column = {"apt-get": "apt", "dnf": "dnf", "pacman": "pacman"}[manager]
    packages = sorted({getattr(need, column) for need in missing})
    if manager == "apt-get":
        return ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if manager == "dnf":
        return ["dnf", "install", "-y", *packages]
    return ["pacman", "-S", "--needed", *packages]


def advice(missing: Sequence[Need], manager: str | None, root: bool, why: str = "") -> str:
    """Write the one line for a user whose system lacks something that we may not install."""
    if manager is None:
        names = ", ".join(
            {FONTS: "a TrueType font", RENDERER: "Mesa's OpenGL drivers"}.get(n.name, n.name)
            for n in missing
        )
        return f"this system lacks {names}: install them with your package manager, then run again."
    line = " ".join(([] if root else ["sudo"]) + install_line(missing, manager))
    return f"system packages are missing{why}; run this, then try again: {line}"


def provide(
    wanted: Sequence[Need],
    *,
    has: Callable[[Need], bool] = present,
    which: Callable[[str], str | None] = shutil.which,
    run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run,
    root: bool | None = None,
) -> None:
    """Install what is missing where apt is there and may be used without a question; else stop."""
    missing = [need for need in wanted if not has(need)]
    if not missing:
        return
    root = (hasattr(os, "geteuid") and os.geteuid() == 0) if root is None else root
    manager = next((name for name in ("apt-get", "dnf", "pacman") if which(name)), None)
    may = root
    if manager == "apt-get" and not root and which("sudo"):
        may = run(["sudo", "-n", "true"], capture_output=True, text=True).returncode == 0
    if manager != "apt-get" or not may:
        raise Stop(advice(missing, manager, root))
    words = install_line(missing, manager)
    say(f"installing system packages: {' '.join(words[4:])}")
    before = [] if root else ["sudo", "-n"]
    before += ["env", "DEBIAN_FRONTEND=noninteractive"]
    # A stale or half-reachable package list need not stop the installation, so its outcome is left.
    run([*before, "apt-get", "update", "-qq"], capture_output=True, text=True)
    words[1:1] = ["-o", "DPkg::Lock::Timeout=120"]  # a new machine may be updating itself
    done = run([*before, *words], capture_output=True, text=True)
    importlib.invalidate_caches()
    missing = [need for need in missing if not has(need)]
    if missing:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise Stop(advice(missing, manager, root, f" and apt could not bring them ({last})"))


# --- the environment ------------------------------------------------------------------------------


def python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def script_in(venv: Path, name: str) -> str:
    return str(venv / (f"Scripts/{name}.exe" if os.name == "nt" else f"bin/{name}"))


def fingerprint(root: Path = ROOT) -> str:
    """Hash what decides the content of an environment, other than the extras."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        # Line ends differ between checkouts of one commit; the environment does not.
        digest.update((root / name).read_bytes().replace(b"\r\n", b"\n") + b"\0")
    digest.update(f"{root}\0{this_python()}".encode())
    return digest.hexdigest()


def this_python() -> str:
    return f"{platform.python_version()} {platform.machine()} {sys.platform}"


def read_stamp(venv: Path) -> dict[str, object]:
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def fresh(stamp: dict[str, object], print_now: str, extras: Iterable[str]) -> bool:
    """Say whether an environment with this stamp already holds these extras, unchanged."""
    held = stamp.get("extras")
    same = stamp.get("fingerprint") == print_now
    return same and isinstance(held, list) and set(extras) <= set(held)


def child_environment(venv: Path) -> dict[str, str]:
    """Copy our environment for a child, without what would mix another Python into it."""
    environ = dict(os.environ)
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX"):
        environ.pop(name, None)
    environ["PATH"] = os.pathsep.join([str(python_in(venv).parent), environ.get("PATH", "")])
    environ.update(VIRTUAL_ENV=str(venv), PYTHONNOUSERSITE="1", PIP_USER="0")
    return environ


def test_environment(environ: dict[str, str]) -> dict[str, str]:
    """Add what the window tests rely on; without a display they get a virtual one (see `wrap`)."""
    environ = dict(environ, NAPARI_ENSURE_PLUGIN_MAIN_THREAD="1")
    if LINUX:
        environ["QT_QPA_PLATFORM"] = "xcb"
        if not environ.get("DISPLAY"):
            environ["LIBGL_ALWAYS_SOFTWARE"] = "1"
    return environ


def wrap(words: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Put a command under a virtual X display on a Linux machine that shows none."""
    if LINUX and not environ.get("DISPLAY"):
        return ["xvfb-run", "-a", "-s", SCREEN, *words]
    return list(words)


def explain(log: str) -> str:
    """Turn what pip or venv said on failing into one sentence."""
    if re.search(
        r"No space left|Errno (28|122)\b|not enough space|WinError 112|quota exceeded", log, re.I
    ):
        return f"the disk is full: free about {GIGABYTES} GB, then run this again."
    if re.search(
        r"NewConnectionError|name resolution|getaddrinfo|ConnectTimeout|ReadTimeout|timed out"
        r"|Max retries|ProxyError|SSLError|Network is unreachable|Connection (refused|reset)",
        log,
        re.I,
    ):
        return "the package index cannot be reached: check network and proxy, then run this again."
    if re.search(r"Read-only file system|Permission denied|Access is denied", log):
        return "the environment's folder cannot be written to: name another one with --venv DIR."
    if re.search(r"long path", log, re.I):
        return "a path is too long for Windows: move this folder nearer to the drive's root."
    if re.search(r"ensurepip", log):
        return "this Python cannot make virtual environments: install its venv and ensurepip parts."
    found = re.findall(r"No matching distribution found for (\S+)", log)
    if found:
        return (
            f"{found[-1]} is not offered for Python {this_python()}: "
            "use Python 3.11 to 3.13, 64 bit, on a system that CONTRIBUTING.md lists."
        )
    errors = re.findall(r"error: *(.+)", log, re.I)
    return (errors[-1] if errors else "making the environment failed").rstrip(".") + "."


def interesting(line: str) -> str | None:
    """Return what to show of a line that pip writes: big downloads and the last step."""
    found = re.match(r"\s*Downloading (\S+?)-(\d[^-]*)-\S+ \(([\d.]+) (MB|GB)\)", line)
    if found and (found[4] == "GB" or float(found[3]) >= 20):
        return f"  {found[1]} {found[2]} ({found[3]} {found[4]})"
    if line.startswith("Installing collected packages:") and line.count(",") > 9:
        return f"  unpacking {line.count(',') + 1} packages (takes a few minutes)"
    return None


def pip(venv: Path, *words: str) -> None:
    """Run pip in the environment, keep all that it says in a log, and show the big steps."""
    environ = child_environment(venv)
    scratch = venv / "tmp"
    if os.name != "nt":  # there the added folders could make paths too long
        # A small /tmp in memory cannot hold the wheels; the environment's disk has to, anyway.
        scratch.mkdir(exist_ok=True)
        environ["TMPDIR"] = str(scratch)
    command = [str(python_in(venv)), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", *words]
    said: list[str] = []
    try:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                said.append(line)
                shown = interesting(line)
                if shown:
                    say(shown)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode:
        reason = explain("".join(said))
        try:
            (venv / LOG).write_text("".join(said), encoding="utf-8")
        except OSError:
            raise Stop(reason) from None
        raise Stop(f"{reason} (Details: {venv / LOG})")


def make(venv: Path) -> None:
    """Make the environment, or keep a working one; never touch a folder that is something else."""
    stamp = read_stamp(venv)
    if venv.exists() and not (venv / "pyvenv.cfg").is_file() and any(venv.iterdir()):
        raise Stop(f"{venv} is not a virtual environment: name another folder with --venv.")
    if python_in(venv).exists() and stamp.get("python", this_python()) == this_python():
        return
    if (venv / "pyvenv.cfg").is_file() and not stamp:
        raise Stop(f"{venv} is a broken virtual environment: delete it, then run this again.")
    room = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free = shutil.disk_usage(room).free / 1e9
    if free < GIGABYTES:
        raise Stop(f"{room} has {free:.1f} GB free and about {GIGABYTES} are needed: free some.")
    say(f"making {venv}")
    words = [sys.executable, "-m", "venv", "--clear", str(venv)]
    reason = ""
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        reason = explain(done.stdout + done.stderr) if done.returncode else ""
    except BaseException:
        reason = "stopped"
        raise
    finally:
        if reason:  # half an environment would be taken for a working one
            shutil.rmtree(venv, ignore_errors=True)
    if reason:
        raise Stop(reason)
    # An unfinished stamp marks the folder as ours, so that a broken start can be cleared.
    write_stamp(venv, {})


def write_stamp(venv: Path, more: dict[str, object]) -> None:
    (venv / STAMP).write_text(json.dumps({"python": this_python(), **more}), encoding="utf-8")


def prepare(venv: Path, extras: Sequence[str]) -> None:
    """Bring the environment to the pinned packages of these extras, unless it is there already."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise Stop("PyTorch is no longer made for Intel Macs: use an Apple-silicon Mac or Linux.")
    make(venv)
    now = fingerprint()
    stamp = read_stamp(venv)
    if fresh(stamp, now, extras):
        say(f"using {venv}")
        return
    say("installing packages (once; several minutes and some gigabytes)")
    pip(venv, "--upgrade", "pip")
    pip(venv, "-c", "constraints.txt", "-e", f".[{','.join(extras)}]")
    held = stamp.get("extras") if stamp.get("fingerprint") == now else None
    together = sorted({*extras, *(held if isinstance(held, list) else [])})
    write_stamp(venv, {"fingerprint": now, "extras": together})


# --- the commands ---------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text if text.startswith(" ") else f"bootstrap: {text}", flush=True)


def demo(options: Options) -> int:
    # Ours first: where the user names a folder too, the last one counts.
    words = [script_in(options.venv, "histosam"), "demo", "--out", "demo_out", *options.rest]
    say("running the demo")
    return subprocess.run(words, env=child_environment(options.venv)).returncode


def test(options: Options) -> int:
    environ = test_environment(child_environment(options.venv))
    words = [str(python_in(options.venv)), "-m", "pytest", "-m", "not slow", *options.rest]
    cores = os.cpu_count() or 1
    if cores > 1 and all(HARMLESS.fullmatch(one) for one in options.rest):
        status = in_two_halves(words, dict(environ, OMP_NUM_THREADS=str(cores // 2)))
    else:
        status = subprocess.run(wrap(words, environ), cwd=ROOT, env=environ).returncode
    if status == 5:
        say("pytest found no test to run, which counts as a failure")
    return status


def in_two_halves(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the tests that open windows beside all others; their output comes when both are done."""
    say("tests run in two halves; what the one with the windows says comes at the end")
    rest = [*words, *(f"--ignore={folder}" for folder in WINDOWED)]
    with tempfile.TemporaryFile() as kept:
        beside = subprocess.Popen(
            wrap([*words, *WINDOWED], environ),
            cwd=ROOT,
            env=environ,
            stdout=kept,
            stderr=subprocess.STDOUT,
        )
        try:
            status = subprocess.run(rest, cwd=ROOT, env=environ).returncode
            windowed = beside.wait()
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
        sys.stdout.flush()
        kept.seek(0)
        print(kept.read().decode("utf-8", "replace"), flush=True)
    return status or windowed


def check(options: Options) -> int:
    python = str(python_in(options.venv))
    code = [
        n for n in ("src", "tests", "docs", "benchmarks", "bootstrap.py") if (ROOT / n).exists()
    ]
    environ = child_environment(options.venv)
    failed = []
    for name, words in (
        ("ruff check", [python, "-m", "ruff", "check", *code]),
        ("ruff format", [python, "-m", "ruff", "format", "--check", *code]),
        ("mypy", [python, "-m", "mypy"]),
        ("lint-imports", [script_in(options.venv, "lint-imports")]),
        ("npe2 validate", [python, "-m", "npe2", "validate", "napari_histosam"]),
    ):
        say(name)
        if subprocess.run(words, cwd=ROOT, env=environ).returncode:
            failed.append(name)
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def main(argv: Sequence[str]) -> int:
    try:
        options = parse(argv)
        if options.command == "help":
            print(__doc__)
            return 0
        made = python_in(options.venv).exists()
        windowless = options.command == "demo" and "--no-window" in options.rest
        provide(needs(options.command, {} if windowless else os.environ, made=made))
        try:
            provide(() if windowless else wishes(options.command, os.environ))
        except Stop as stop:
            say(f"going on without a window; to open one later: {stop}")
        prepare(options.venv, EXTRAS[options.command])
        return {"demo": demo, "test": test, "check": check}[options.command](options)
    except Stop as stop:
        print(f"bootstrap: {stop}", file=sys.stderr)
        return 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        reason = explain("No space left") if full else f"{error.strerror}: {error.filename}"
        print(f"bootstrap: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bootstrap: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
