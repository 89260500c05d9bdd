"""Network drives are told from local ones."""

from __future__ import annotations

from pathlib import Path

from napari_histosam.store import drives


def test_linux_mounts() -> None:
    text = (
        "/dev/sda1 / ext4 rw 0 0\n//srv/slides /mnt/lab\\040slides cifs rw 0 0\n"
        "srv:/x /home nfs4 rw 0 0\ntmpfs /home/ada/ram tmpfs rw 0 0\nbroken\n"
    )
    mounts = drives.parse_linux_mounts(text)
    kinds = {
        "/mnt/lab slides/a/b": "cifs",
        "/home/ada": "nfs4",
        "/home/ada/ram/x": "tmpfs",
        "/mnt/lab": "ext4",
    }
    for place, kind in kinds.items():
        assert drives._kind(Path(place), mounts) == kind


def test_mac_mounts() -> None:
    text = (
        "/dev/disk3s1 on / (apfs, sealed, local, read-only)\n"
        "//ada@srv/My Slides on /Volumes/My Slides (smbfs, nodev, nosuid)\nnonsense\n"
    )
    assert drives.parse_mac_mounts(text) == {"/": "apfs", "/Volumes/My Slides": "smbfs"}


def test_this_machine_answers(tmp_path: Path) -> None:
    assert drives.on_network(tmp_path) in (True, False)
