"""Flows the slow way, one packet after the other: what the vectorised builder is held to.

`Zeek` is a plain state machine, written after src/packet_analysis/protocol/tcp/TCPSessionAdapter.cc, TCP_Endpoint.cc and
TCP_Reassembler.cc, without what our contract leaves out: checksums (C) and flipping (^).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backscatter.decode.columns import ACK, FIN, HAS_PORTS, NO_FLAGS, OK, ONE_WAY, RST, SYN, Packets

SECOND = 10**9
NAMES = "time place scope version proto src_hi src_lo dst_hi dst_lo src_port dst_port ip_bytes payload ttl traits flags seq ack window speech status tunnels icmp_type icmp_code"


def near(number: int, to: int) -> int:
    """The distance of two sequence numbers as a signed 32-bit number."""
    return (number - to + 2**31) % 2**32 - 2**31


@dataclass
class Side:
    upper: bool
    state: str = "INACTIVE"
    prev: str = "INACTIVE"
    start: int = 0
    last: int = 0  # end of the highest segment, unwrapped
    anchor: int | None = None
    at: int = 0  # unwrapped seq of the last packet
    seen: set = field(default_factory=set)
    last_syn: int | None = None
    last_fin: int | None = None
    last_rst: int | None = None
    counts: dict = field(default_factory=dict)

    def enter(self, state):
        if state != self.state:
            self.prev, self.state = self.state, state


class Zeek:
    def __init__(self):
        self.orig, self.resp = Side(True), Side(False)
        self.history = ""
        self.first_flags = None
        self.payload = 0

    def write(self, side, letter):
        self.history += letter if side.upper else letter.lower()

    def once(self, side, kind, letter):
        if kind in side.seen:
            return True
        side.seen.add(kind)
        self.write(side, letter)
        return False

    def scaled(self, side, letter):
        side.counts[letter] = count = side.counts.get(letter, 0) + 1
        if count in {10**n for n in range(12)}:
            self.write(side, letter)

    def packet(self, is_orig, flags, seq, ack, length, window):
        side, peer = (self.orig, self.resp) if is_orig else (self.resp, self.orig)
        syn, fin, rst = bool(flags & SYN), bool(flags & FIN), bool(flags & RST)
        opening = side.anchor is None
        if opening:
            side.anchor, side.at = seq, 0
            side.opener = flags & (SYN | FIN | RST)
        else:
            side.at += near(seq, side.anchor + side.at)
        end = side.at + syn + fin + (0 if rst else length)
        closed = side.state in ("CLOSED", "RESET")
        anew = opening or (syn and not closed)
        if anew:
            side.last = end if syn else side.at
        self.flag_letters(side, flags, seq, length, closed)
        if window == 0 and not rst and peer.state != "CLOSED" and side.state != "RESET":
            self.scaled(side, "W")
        if side.state != "RESET":
            if length and end <= side.last and (not (syn or rst) or end >= side.last - (1 << 20)):
                self.scaled(side, "T")
            if not (syn or rst):
                side.last = max(side.last, end)
        if not rst:
            self.payload += length
        self.move(side, peer, is_orig, flags, seq, ack, length)
        if self.first_flags is None:
            self.first_flags, self.first_ack = flags, ack

    def flag_letters(self, side, flags, seq, length, closed):
        syn, fin, rst = bool(flags & SYN), bool(flags & FIN), bool(flags & RST)
        if syn + fin + rst > 1:
            self.once(side, "I" if fin and rst else "Q", "I" if fin and rst else "Q")
        elif syn:
            letter = "H" if flags & ACK else "S"
            anew = closed and side.opener != RST
            if self.once(side, "SYN", letter) and anew and seq != side.last_syn:
                self.write(side, letter)
            side.last_syn = seq
        elif fin:
            at = (seq + length) % 2**32
            if self.once(side, "FIN", "F") and at != side.last_fin:
                self.write(side, "F")
            side.last_fin = at
        elif rst:
            if self.once(side, "RST", "R") and seq != side.last_rst:
                self.write(side, "R")
            side.last_rst = seq
        elif length:
            self.once(side, "D", "D")
        elif flags & ACK:
            self.once(side, "A", "A")

    def move(self, side, peer, is_orig, flags, seq, ack, length):
        syn, fin, rst = bool(flags & SYN), bool(flags & FIN), bool(flags & RST)
        if side.state == "INACTIVE":
            if syn:
                if is_orig:
                    side.enter("SYN_ACK_SENT" if flags & ACK else "SYN_SENT")
                else:
                    reversal = peer.state == "SYN_ACK_SENT" and not flags & ACK and (seq + 1) % 2**32 == self.first_ack
                    if peer.state == "SYN_SENT" or reversal:
                        peer.enter("ESTABLISHED")
                    side.enter("ESTABLISHED")
            if fin:
                side.enter("CLOSED")
            if rst:
                side.enter("RESET")
            if side.state == "INACTIVE":
                if not is_orig and not length and peer.state == "SYN_SENT":
                    pass
                elif flags & ACK and peer.state == "ESTABLISHED":
                    side.enter("ESTABLISHED")
                else:
                    side.enter("PARTIAL")
        elif side.state in ("SYN_SENT", "SYN_ACK_SENT"):
            if fin:
                side.enter("CLOSED")
            if rst:
                side.enter("RESET")
        elif side.state in ("ESTABLISHED", "PARTIAL"):
            if syn and side.state == "PARTIAL" and peer.state == "INACTIVE" and not flags & ACK:
                side.enter("SYN_SENT")
            if fin and not rst:
                side.enter("CLOSED")
                if peer.state == "RESET" and peer.prev == "CLOSED":
                    peer.enter("CLOSED")
            if rst:
                side.enter("RESET")
        elif side.state == "CLOSED" and rst and peer.state != "CLOSED":
            side.enter("RESET")

    @property
    def conn_state(self):
        import re

        orig, resp = self.orig.state, self.resp.state
        idle = ("INACTIVE", "PARTIAL")
        if resp == "RESET":
            if orig in ("SYN_SENT", "SYN_ACK_SENT") or (orig == "RESET" and not self.payload):
                return "REJ"
            return "RSTRH" if orig in idle else "RSTR"
        if orig == "RESET":
            if resp in idle:
                return "RSTOS0" if re.fullmatch(r"S[^HAFGIQ]*R.*", self.history) else "OTH"
            return "RSTO"
        if orig == resp == "CLOSED":
            return "SF"
        if orig == "CLOSED":
            return "SH" if resp in idle else "S2"
        if resp == "CLOSED":
            return "SHR" if orig in idle else "S3"
        if orig == "SYN_SENT" and resp == "INACTIVE":
            return "S0"
        return "S1" if orig == resp == "ESTABLISHED" else "OTH"


@dataclass
class Open:
    """A tuple in use."""

    packets: list
    last: int
    syns: dict
    since: list  # (who, flags) since the flow's begin or the last SYN with a new number


def slow_flows(packets: Packets) -> list[list[dict]]:
    """The packets of every flow, each a dictionary of columns with `side` added; flows in the order of the table."""
    rows = [
        dict(zip(NAMES.split(), values, strict=True))
        for values in zip(*(packets[n].tolist() for n in NAMES.split()), strict=True)
    ]
    for index, row in enumerate(rows):
        row["index"] = index
    flows, using = [], {}
    for row in sorted((row for row in rows if row["status"] == OK), key=lambda row: (row["time"], row["place"])):
        src = (row["src_hi"], row["src_lo"], row["src_port"])
        dst = (row["dst_hi"], row["dst_lo"], row["dst_port"])
        ends = (src, dst) if row["traits"] & ONE_WAY else tuple(sorted((src, dst)))
        key = (row["scope"], row["version"], row["proto"], row["traits"] & (HAS_PORTS | ONE_WAY), ends)
        tcp = row["proto"] == 6
        flags = row["flags"] if tcp else 0
        now = using.get(key)
        fresh = flags & (SYN | ACK | RST | FIN) == SYN and now is not None and now.syns.get(src) != row["seq"]
        if now is None:
            now = using[key] = Open([], row["time"], {}, [])
            flows.append(now.packets)
        elif row["time"] - now.last > (300 if tcp else 60) * SECOND:
            now.packets, now.since, now.syns = [], [], {}
            flows.append(now.packets)
        elif fresh:
            finned = {who for who, bits in now.since if bits & FIN}
            if any(bits & RST for _, bits in now.since) or len(finned) == 2:
                now.packets = []
                flows.append(now.packets)
        if flags & (SYN | ACK | RST | FIN) == SYN and now.syns.get(src) != row["seq"]:
            now.since = []
            now.syns[src] = row["seq"]
        now.last = row["time"]
        now.since.append((src, flags))
        row["side"] = 0 if not now.packets or src == now.packets[0]["end"] else 1
        row["end"] = src
        now.packets.append(row)
    return flows


def slow_side(flow: list[dict], side: int) -> dict:
    """The columns of SIDE that one side of a flow has, but for loss."""
    mine = [row for row in flow if row["side"] == side]
    other = [row for row in flow if row["side"] != side]
    tcp = flow[0]["proto"] == 6
    for row in flow:
        row["bits"] = row["flags"] if tcp else 0

    def those(rows, on, off=0):
        return [row for row in rows if row["bits"] & on == on and not row["bits"] & off]

    syns, synacks = those(mine, SYN, ACK), those(mine, SYN | ACK)
    rsts, told = those(mine, RST), those(mine, ACK, RST)
    asked = those(other, SYN | ACK, RST | FIN)
    pure_synacks = those(mine, SYN | ACK, RST | FIN)
    acks, reach = [], 0
    for row in told:
        reach = reach + near(row["ack"], acks[-1][0]) if acks else 0
        acks.append((row["ack"], reach))

    def first(rows, name):
        return rows[0][name] if rows else 0

    return {
        "packets": len(mine),
        "bytes": sum(row["ip_bytes"] for row in mine),
        "payload": sum(row["payload"] for row in mine),
        "flags": _or(row["bits"] for row in mine),
        "ttl_low": min((row["ttl"] for row in mine), default=0),
        "ttl_high": max((row["ttl"] for row in mine), default=0),
        "first": first(mine, "time"),
        "last": mine[-1]["time"] if mine else 0,
        "has": bool(syns) | bool(synacks) << 1 | bool(rsts) << 2,
        "syn_seq": first(syns, "seq"),
        "synack_seq": first(synacks, "seq"),
        "synack_ack": first(synacks, "ack"),
        "rst_seq": first(rsts, "seq"),
        "rst_ack": first(rsts, "ack"),
        "syn_time": first(syns, "time"),
        "synack_time": first(synacks, "time"),
        "syns": len(those(mine, SYN, ACK | RST | FIN)),
        "synacks": len(pure_synacks),
        "synack_repeats": sum(
            (row["seq"], row["ack"]) == (pure_synacks[0]["seq"], pure_synacks[0]["ack"]) for row in pure_synacks[1:]
        ),
        "rsts": len(rsts),
        "bare_rsts": len(those(mine, RST, ACK | SYN | FIN)),
        "exact_rsts": sum(
            any(row["seq"] == one["ack"] and one["time"] <= row["time"] + 3 * SECOND for one in asked)
            for row in those(mine, RST, ACK | SYN | FIN)
        ),
        "reset_syns": sum(row["seq"] == 0 for row in those(mine, RST | ACK, SYN | FIN)),
        "fins": len(those(mine, FIN)),
        "data": sum(row["payload"] > 0 and tcp for row in those(mine, 0, RST)),
        "acks": sum(row["payload"] == 0 for row in those(mine, ACK, SYN | FIN | RST)),
        "ack_first": first(told, "ack"),
        "ack_beyond": max((reach for _, reach in acks), default=0),
        "opaque": sum(tcp and bool(row["traits"] & NO_FLAGS) for row in mine),
        "speech": _or(row["speech"] for row in mine),
        "places": [*(row["place"] for row in mine[:4]), *[-1] * (4 - len(mine[:4]))],
    }


def _or(values):
    whole = 0
    for value in values:
        whole |= value
    return whole
