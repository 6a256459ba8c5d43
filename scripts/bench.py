"""What reading a capture costs, in packets per CPU second of the whole process, beside peers that are installed.

    make bench                                5 million packets of each kind, 2 million of whole ones (1 GB)
    python scripts/bench.py -n 1000000 mix
    python scripts/bench.py --nfstream PYTHON   with NFStream, which that Python has

Captures come from ../shared/bench/gen.py where it is there, else a plain one is made here. Our own run is done on one
core and on all of them. Machines are noisy, twice as slow at one time as at another: so ours runs before and behind
every run of a peer, and each ratio is to the mean of these two. Quick tools run five times in turn; medians count.
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
from statistics import mean, median

from rich.console import Console
from rich.table import Table

from backscatter.demo.wire import ether, pcap, tcp

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT.parent / "shared" / "bench"
KINDS = ("mix", "backscatter", "vxlan", "full")

#: Whole packets take more room, so there are fewer of them.
SHARE = {"full": 0.4}

#: Flows for each packet, as the peers' own figures were taken.
FLOWS = {"mix": 0.06, "vxlan": 0.06, "backscatter": 0.44, "full": 0.06}


#: How often a tool runs that takes less than QUICK CPU seconds: machines are noisy.
REPEATS, QUICK = 5, 25

OURS = "backscatter, all cores"

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


@dataclass(frozen=True)
class Measured:
    """A tool's runs, and for each the CPU and wall seconds in those of ours, right before and right behind it."""

    runs: list[Run]
    cpu: list[float]
    wall: list[float]


def in_turn(ours: list[str], others: dict[str, list[str]]) -> tuple[list[Run], dict[str, Measured]]:
    """Our runs on one core, and the others between them: REPEATS times, those that are not quick once."""
    measurements = {tool: Measured([], [], []) for tool in others}
    mine = [measured(ours, one_core=True)]
    for _ in range(REPEATS):
        for tool, line in others.items():
            its = measurements[tool]
            if its.runs and its.runs[0].cpu >= QUICK:
                continue
            run = measured(line)
            mine.append(measured(ours, one_core=True))
            its.runs.append(run)
            its.cpu.append(run.cpu / mean(own.cpu for own in mine[-2:]))
            its.wall.append(run.wall / mean(own.wall for own in mine[-2:]))
    return mine, measurements


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"which captures: {', '.join(KINDS)}")
    parser.add_argument(
        "-n", "--packets", type=int, default=5_000_000, help="packets of each capture (default 5000000)"
    )
    parser.add_argument("--nfstream", metavar="PYTHON", help="a Python that has NFStream, to run that too")
    arguments = parser.parse_args()
    table = Table(
        *(
            "capture",
            "tool",
            "packets/CPU s",
            "its CPU / ours",
            "its wall / ours",
            "CPU s",
            "wall s",
            "peak MB",
            "flows",
        )
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in arguments.kinds:
            packets = round(arguments.packets * SHARE.get(kind, 1))
            path, truth = made(kind, packets, folder)
            os.sync()  # or whoever writes waits while the capture goes to disk
            cli = [str(Path(sys.executable).with_name("backscatter")), "flows", "--summary", "--json", str(path)]
            mine, measurements = in_turn(cli, {OURS: cli} | peers(path, folder, arguments.nfstream))
            flows = {json.loads(run.output)["flows"] for run in (*mine, *measurements[OURS].runs)}
            if len(flows) > 1 or (truth is not None and flows != {truth}):
                raise SystemExit(f"{kind}: {flows} flows, but the generator made {truth}")
            measurements = {"backscatter, one core": Measured(mine, [1], [1])} | measurements
            for tool, its in measurements.items():
                cpu = median(run.cpu for run in its.runs)
                table.add_row(
                    kind,
                    tool,
                    f"{packets / cpu:,.0f}",
                    f"{median(its.cpu):.3g}",
                    f"{median(its.wall):.3g}",
                    f"{cpu:.2f}",
                    f"{median(run.wall for run in its.runs):.2f}",
                    f"{max(run.megabytes for run in its.runs):.0f}",
                    str(max(flows)) if tool.startswith("backscatter") else "",
                )
            path.unlink()
    Console(width=124).print(table)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
