"""requirements/install.sh: what it installs, what it says, and what it leaves behind when it fails."""

import hashlib
import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import PROJECT

#: Stands in for uv: makes an environment of this Python, and installs nothing, as noisily and slowly as it is told.
UV = f"""#!/bin/sh
case $1 in
    venv) mkdir -p .venv/bin && ln -s '{sys.executable}' .venv/bin/python ;;
    pip) echo 'WARNING: Location is ignored'; echo 'the last word'; sleep "${{DELAY:-0}}"; exit "${{STATUS:-0}}" ;;
esac
"""
Install = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with install.sh, locks of one package, and a uv."""
    (tmp_path / "requirements").mkdir()
    shutil.copy(PROJECT / "requirements" / "install.sh", tmp_path / "requirements")
    wheel = tmp_path / "parcel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("parcel.py", "")
        archive.writestr("parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
        archive.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("parcel-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for name in ("run", "production", "worker", "test", "fast", "clients"):
        (tmp_path / "requirements" / f"{name}.txt").write_text(f"parcel==1.0 \\\n    --hash=sha256:{digest}\n")
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o700)
    return tmp_path


@pytest.fixture
def install(checkout: Path) -> Install:
    """Runs install.sh for a set."""

    def install(name: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "requirements/install.sh", name],
            cwd=checkout,
            env={**os.environ, "UV": "./uv", "PYTHON": sys.executable, **environ},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return install


@pytest.fixture
def pip(checkout: Path) -> dict[str, str]:
    """The settings of an install by pip, into a folder of its own: to make an environment takes many seconds."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    links = f"{checkout} /there/is/no/such/folder"
    return {"UV": "", "PIP_TARGET": str(checkout / "target"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links}


class TestInstall:
    def test_says_one_line(self, install: Install) -> None:
        done = install("run")

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "Installing requirements/run.txt into .venv with uv ...\n"

    def test_does_nothing_twice(self, install: Install) -> None:
        install("run")

        assert install("run").stdout == ""

    @pytest.mark.parametrize(
        ("larger", "smaller"), [("test", "worker"), ("worker", "production"), ("production", "run")]
    )
    def test_takes_a_larger_set_for_a_smaller(self, install: Install, larger: str, smaller: str) -> None:
        install(larger)

        assert install(smaller).stdout == ""
        assert install(larger).stdout == ""

    @pytest.mark.parametrize("addition", ["fast", "clients"])
    def test_an_addition_leaves_the_set_that_it_adds_to(self, install: Install, addition: str) -> None:
        install("test")
        install(addition)

        assert install("test").stdout == ""
        assert install(addition).stdout == ""

    def test_a_new_set_is_without_additions(self, install: Install) -> None:
        install("clients")
        install("test")

        assert install("clients").stdout.startswith("Installing")

    def test_installs_a_lock_that_has_changed(self, install: Install, checkout: Path) -> None:
        install("run")
        (checkout / "requirements" / "run.txt").write_text("parcel==1.1\n")

        assert install("run").stdout.startswith("Installing")

    def test_does_without_uv(self, install: Install, checkout: Path, pip: dict[str, str]) -> None:
        done = install("run", **pip)

        # On a busy machine there may be a line on how far it is.
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"Installing requirements/run.txt into .venv ...\n(  [0-9]+ s, .*\n)*", done.stdout)
        assert (checkout / "target" / "parcel.py").exists()
        assert "no/such/folder" in (checkout / ".venv" / "install.log").read_text()

    def test_shows_on_a_terminal_that_it_is_working(self, checkout: Path) -> None:
        ours, theirs = pty.openpty()
        subprocess.run(
            ["sh", "requirements/install.sh", "run"],
            cwd=checkout,
            env={**os.environ, "UV": "./uv", "PYTHON": sys.executable, "DELAY": "3"},
            stdout=theirs,
            timeout=100,
            check=True,
        )
        os.close(theirs)
        shown = os.read(ours, 10_000).decode()
        os.close(ours)

        assert "\r  1 s, working" in shown


class TestFailure:
    def test_says_what_failed_and_how_the_log_ends(self, install: Install) -> None:
        failed = install("run", STATUS="2")

        assert failed.returncode == 1
        assert failed.stderr == "Installing requirements/run.txt failed. .venv/install.log ends with:\nthe last word\n"

    def test_leaves_no_stamp(self, install: Install) -> None:
        install("run")
        install("test", STATUS="2")

        assert install("run").stdout.startswith("Installing")

    def test_shows_what_pip_says_of_a_wrong_hash(self, install: Install, checkout: Path, pip: dict[str, str]) -> None:
        (checkout / "requirements" / "run.txt").write_text(f"parcel==1.0 --hash=sha256:{'0' * 64}\n")

        failed = install("run", **pip)

        assert failed.returncode == 1
        assert "THESE PACKAGES DO NOT MATCH THE HASHES" in failed.stderr
        assert not list(checkout.glob(".venv/installed-*"))

    def test_refuses_a_python_that_is_too_old(self, install: Install, checkout: Path) -> None:
        old = checkout / "python"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o700)

        failed = install("run", PYTHON=str(old))

        assert failed.returncode == 1
        assert failed.stderr == f"Python 3.11 or newer is needed, and {old} is none that runs.\n"
