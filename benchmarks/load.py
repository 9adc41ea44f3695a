"""A service under load: errors, seconds, memory, and its rate against scoring the same files without it.

    python benchmarks/load.py FOLDER [--requests 2000] [--at-once 64] [--workers 2] [--out FILE.json]

Starts ``dgiqa serve`` in a process of its own. Local scoring and the service take turns: a third of the requests each
time. Every answer's score is compared with the local one's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

import dgiqa

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=100, help="different files (default 100)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    paths = [item.path for item in dgiqa.find([args.folder]) if item.error is None][: args.pictures]
    contents = [Path(path).read_bytes() for path in paths]
    count = args.requests // ROUNDS
    scorer = dgiqa.load()
    scorer.score(paths[0])
    command = [sys.executable, "-m", "dgiqa", "serve", "--port", "0", "--workers", str(args.workers)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[1] for line in process.stderr if (found := re.search(r"on (http://[0-9.:]+)", line)))
        drained = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        asyncio.run(ask(address, contents, 32, args.at_once))
        local, served, seconds, statuses, memory, expected = [], [], [], [], [resident(process.pid)], {}
        for number in range(ROUNDS):
            asked = [contents[(number * count + i) % len(contents)] for i in range(count)]
            start = time.perf_counter()
            rows = list(scorer.score_all(asked, workers=args.workers))
            local.append(count / (time.perf_counter() - start))
            expected = {id(content): round(row.raw, 6) for content, row in zip(asked, rows, strict=True)}
            start = time.perf_counter()
            answers = asyncio.run(ask(address, asked, count, args.at_once))
            served.append(count / (time.perf_counter() - start))
            seconds += [took for took, _, _ in answers]
            statuses += [status for _, status, _ in answers]
            wrong = sum(raw != expected[id(c)] for (_, s, raw), c in zip(answers, asked, strict=True) if s == 200)
            assert wrong == 0, f"{wrong} scores differ"
            memory.append(resident(process.pid))
        drained.kill()
    finally:
        process.terminate()
        code = process.wait(60)
    seconds.sort()
    result = {
        "requests": len(seconds), "at_once": args.at_once, "workers": args.workers, "pictures": len(paths),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "p50_s": seconds[len(seconds) // 2], "p95_s": seconds[int(0.95 * len(seconds))], "max_s": seconds[-1],
        "served_per_s": statistics.median(served), "local_per_s": statistics.median(local),
        "ratio": statistics.median(s / a for s, a in zip(served, local, strict=True)),
        "memory_mb": [round(m / 1e6) for m in memory], "exit_code": code,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


async def ask(address: str, contents: list[bytes], count: int, at_once: int) -> list[tuple[float, int, float | None]]:
    """Seconds, status and raw score of each request, ``at_once`` of them at a time."""
    room = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:

        async def one(content: bytes) -> tuple[float, int, float | None]:
            async with room:
                start = time.perf_counter()
                answer = await client.post(f"{address}/v1/score", content=content)
                took = time.perf_counter() - start
            raw = answer.json()["rows"][0]["raw"] if answer.status_code == 200 else None
            return took, answer.status_code, raw

        return await asyncio.gather(*(one(contents[i % len(contents)]) for i in range(count)))


def resident(pid: int) -> int:
    """Bytes in memory."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


if __name__ == "__main__":
    main()
