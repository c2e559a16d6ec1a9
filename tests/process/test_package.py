"""The package: installed, run, upgraded, removed and purged, on a copy of this machine that nobody sees (an overlay)."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.paths import build_dir

pytestmark = pytest.mark.slow

# In a mount namespace of its own. What dpkg and the tools for users note for themselves is no part of the package.
INSIDE = r"""
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cp "$2" "$3" "$1/root/"
for part in proc dev; do mount --rbind "/$part" "$1/root/$part"; done
mount -t tmpfs tmpfs "$1/root/run"
cat >"$1/root/steps" <<'STEPS'
set -eu
step() { echo "== $*" >&2; }
tree() {
    find /etc /opt /srv /usr /var -xdev \( -path /var/lib/dpkg -o -path /var/cache \
        -o -path /var/log -o -path /var/tmp \) -prune -o -print | grep -vE '^/etc/(passwd|shadow|group|gshadow|subuid|subgid)-$|\.pwd\.lock$' | sort
    sort /etc/passwd /etc/group
}
tree >/tmp/before

step install
dpkg -i /first.deb >&2
tidemill version
[ "$(stat -c '%a %U' /etc/tidemill/gatherer.env)" = '600 root' ]
getent passwd tidemill >/dev/null
man -w tidemill tidemill-exchange >/dev/null
bash -c '. /usr/share/bash-completion/completions/tidemill && complete -p tidemill' >/dev/null
systemd-analyze verify tidemill-gatherer.service tidemill-deduplicator.service

step run
for role in gatherer deduplicator; do
    mkdir -m 750 "/run/tidemill-$role"
    mkdir -pm 750 /var/lib/tidemill
    chown tidemill:tidemill "/run/tidemill-$role" /var/lib/tidemill
    env TIDEMILL_HEALTH=127.0.0.1:0 TIDEMILL_METRICS=127.0.0.1:0 TIDEMILL_STORE='host=127.0.0.1 port=1 dbname=x' \
        TIDEMILL_PRODUCTION='host=127.0.0.1 port=1 dbname=x' TIDEMILL_DATA=/var/lib/tidemill/gatherer \
        TIDEMILL_SOCKET="/run/tidemill-$role/control.sock" KALSHI_WS_URL=ws://127.0.0.1:1/ KALSHI_REST_URL=http://127.0.0.1:1/ \
        setpriv --reuid tidemill --regid tidemill --clear-groups /usr/bin/tidemill run --probe "/etc/tidemill/$role.lua" >&2
done
[ -n "$(ls /var/lib/tidemill/gatherer)" ]

step upgrade
echo 'TIDEMILL_ID=g7' >>/etc/tidemill/gatherer.env
ls -i /var/lib/tidemill/gatherer >/tmp/journal
dpkg -i /second.deb >&2
dpkg-query -W -f '${Version}\n' tidemill
grep -q '^TIDEMILL_ID=g7$' /etc/tidemill/gatherer.env
ls -i /var/lib/tidemill/gatherer | cmp - /tmp/journal

step remove
dpkg -r tidemill >&2
[ ! -e /usr/bin/tidemill ] && [ ! -e /usr/share/tidemill ] && [ ! -e /usr/lib/systemd/system/tidemill-gatherer.service ]
grep -q '^TIDEMILL_ID=g7$' /etc/tidemill/gatherer.env
ls -i /var/lib/tidemill/gatherer | cmp - /tmp/journal

step purge
dpkg -P tidemill >&2
tree >/tmp/after
diff /tmp/before /tmp/after
echo nothing is left
STEPS
exec chroot "$1/root" sh /steps
"""


def _version(package: Path) -> str:
    return subprocess.run(["dpkg-deb", "-f", package, "Version"], capture_output=True, text=True, check=True).stdout.strip()


def _second(first: Path, directory: Path) -> Path:
    """The same package as a later version."""
    tree, second = directory / "tree", directory / "second.deb"
    subprocess.run(["dpkg-deb", "-R", first, tree], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    version = f"\nVersion: {_version(first)}"
    assert version in text
    control.write_text(text.replace(version, version + "+1"), encoding="utf-8")
    subprocess.run(["dpkg-deb", "-b", tree, second], check=True, stdout=subprocess.DEVNULL)
    return second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount an overlay")
def test_it_comes_and_goes_without_a_trace(directory: Path) -> None:
    subprocess.run(["cmake", "--build", build_dir(), "--target", "package"], check=True, stdout=subprocess.DEVNULL)
    built = list(build_dir().glob("tidemill_*.deb"))
    assert len(built) == 1
    first = directory / "first.deb"
    first.write_bytes(built[0].read_bytes())
    mounts = directory / "mounts"
    mounts.mkdir()
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", INSIDE, "inside", mounts, first,
                           _second(first, directory)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    version = _version(first)
    expected = [f"tidemill {version}", f"{version}+1", "nothing is left"]
    assert done.stdout.splitlines() == expected, done.stdout + done.stderr
