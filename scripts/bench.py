"""What reading a capture costs, in packets per CPU second of the whole process, beside peers that are installed.

    make bench                                5 million packets of each kind, 2 million of whole ones (1 GB)
    python scripts/bench.py -n 1000000 mix
    python scripts/bench.py --nfstream PYTHON   with NFStream, which that Python has

Captures come from ../shared/bench/gen.py where it is there, else a plain one is made here. Our own run is done on one
core and on all of them. Quick tools run five times in turn, and the median by CPU counts: machines are noisy, and only
ratios taken in one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from backscatter.demo.wire import ether, pcap, tcp

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT.parent / "shared" / "bench"
KINDS = ("mix", "backscatter", "vxlan", "full")

#: Whole packets take more room, so there are fewer of them.
SHARE = {"full": 0.4}

#: Flows for each packet, as the peers' own figures were taken.
FLOWS = {"mix": 0.06, "vxlan": 0.06, "backscatter": 0.44, "full": 0.06}


#: How often a tool runs that takes less than QUICK CPU seconds: machines are noisy.
REPEATS, QUICK = 5, 25

#: Runs what follows on one core, in its place.
_ON_ONE_CORE = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.execv(sys.argv[1], sys.argv[1:])"
)

#: Counts the flows of NFStream, whose time-outs are set so that none of a capture is cut.
_NFSTREAM = """
import sys
from nfstream import NFStreamer
if __name__ == "__main__":
    print(sum(1 for _ in NFStreamer(sys.argv[1], idle_timeout=300, active_timeout=3600, n_dissections=0, n_meters=1)))
"""


@dataclass(frozen=True)
class Run:
    """One process: CPU and wall seconds, peak memory in MB, what it printed."""

    cpu: float
    wall: float
    megabytes: float
    output: str


def measured(command: list[str], *, one_core: bool = False) -> Run:
    """Run a command to its end and take the operating system's account of it. Raises CalledProcessError if it fails."""
    if one_core:
        command = [sys.executable, "-c", _ON_ONE_CORE, *command]
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / scale, text)


def made(kind: str, packets: int, folder: Path) -> tuple[Path, int | None]:
    """A capture of the kind, and how many flows it truly has where that is known."""
    path = folder / f"{kind}.pcap"
    if (PEERS / "gen.py").is_file():
        flows = str(round(packets * FLOWS[kind]))
        subprocess.run(
            [sys.executable, str(PEERS / "gen.py"), kind, str(path), "-n", str(packets), "-f", flows],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return path, json.loads(Path(f"{path}.truth.json").read_text())["flows"]
    records = []
    for number in range(packets // 2):
        host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        at = 1_700_000_000 * 10**9 + number * 10**6
        records.append((at, ether(tcp("192.0.2.1", 80, host, 1024, "SA", seq=number, ack=number + 1))))
        records.append((at + 1000, ether(tcp(host, 1024, "192.0.2.1", 80, "R", seq=number + 1))))
    path.write_bytes(pcap(records))
    return path, packets // 2


def peers(path: Path, folder: Path, nfstream: str | None) -> dict[str, list[str]]:
    """Commands of the peers that are here."""
    found = {}
    if nfstream:
        script = folder / "nfstream_flows.py"
        script.write_text(_NFSTREAM)
        found["NFStream"] = [nfstream, str(script), str(path)]
    if (PEERS / "dpkt_loop.py").is_file():
        found["dpkt objects, dict, CSV"] = [
            sys.executable,
            str(PEERS / "dpkt_loop.py"),
            str(path),
            str(folder / "out.csv"),
        ]
    if (PEERS / "floor.c").is_file() and shutil.which("gcc"):
        floor = folder / "floor"
        if not floor.exists():
            subprocess.run(["gcc", "-O3", "-march=native", "-w", str(PEERS / "floor.c"), "-o", str(floor)], check=True)
        found["floor.c"] = [str(floor), *(["-v"] if "vxlan" in path.name else []), str(path)]
    if shutil.which("softflowd"):
        found["softflowd"] = ["softflowd", "-r", str(path), "-m", "2000000", "-t", "maxlife=3600"]
    if shutil.which("tshark"):
        found["tshark -z conv"] = ["tshark", "-n", "-q", "-r", str(path), "-z", "conv,tcp", "-z", "conv,udp"]
    return found


def in_turn(lines: dict[str, list[str]]) -> Iterator[tuple[str, Run]]:
    """Each tool with its median run by CPU; those that are quick run REPEATS times, one after the other in turn."""
    runs: dict[str, list[Run]] = {tool: [] for tool in lines}
    for _ in range(REPEATS):
        for tool, line in lines.items():
            if not runs[tool] or runs[tool][0].cpu < QUICK:
                runs[tool].append(measured(line, one_core=tool.endswith("one core")))
    for tool, made_of_it in runs.items():
        yield tool, sorted(made_of_it, key=lambda run: run.cpu)[len(made_of_it) // 2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"which captures: {', '.join(KINDS)}")
    parser.add_argument(
        "-n", "--packets", type=int, default=5_000_000, help="packets of each capture (default 5000000)"
    )
    parser.add_argument("--nfstream", metavar="PYTHON", help="a Python that has NFStream, to run that too")
    arguments = parser.parse_args()
    table = Table("capture", "tool", "packets/CPU s", "its CPU / ours", "CPU s", "wall s", "peak MB", "flows")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in arguments.kinds:
            packets = round(arguments.packets * SHARE.get(kind, 1))
            path, truth = made(kind, packets, folder)
            os.sync()  # or whoever writes waits while the capture goes to disk
            cli = [str(Path(sys.executable).with_name("backscatter")), "flows", "--summary", "--json", str(path)]
            lines = {"backscatter, one core": cli, "backscatter, all cores": cli}
            lines |= peers(path, folder, arguments.nfstream)
            runs = dict(in_turn(lines))
            ours = runs["backscatter, one core"]
            flows = json.loads(ours.output)["flows"]
            if truth is not None and flows != truth:
                raise SystemExit(f"{kind}: {flows} flows, but the generator made {truth}")
            for tool, run in runs.items():
                table.add_row(
                    kind,
                    tool,
                    f"{packets / run.cpu:,.0f}",
                    f"{run.cpu / ours.cpu:.2f}",
                    f"{run.cpu:.2f}",
                    f"{run.wall:.2f}",
                    f"{run.megabytes:.0f}",
                    str(flows) if tool.startswith("backscatter") else "",
                )
            path.unlink()
    Console(width=110).print(table)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
