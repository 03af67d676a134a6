"""`Scripts/bench queue` and `Scripts/bench peers`."""
import glob
import json
import os
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

from bench_servers import PAIRS, ROOT, Bare, machine, row, say


class QueueBench:
    """The queue alone on durable servers, measured by Tests/QueueBench."""

    def __init__(self, bare):
        subprocess.run(["swift", "build", "-c", "release", "--product", "QueueBench"], cwd=ROOT, check=True)
        shown = subprocess.run(["swift", "build", "-c", "release", "--show-bin-path"], cwd=ROOT, check=True,
                               stdout=subprocess.PIPE, text=True)
        self.bare = bare
        self.program = os.path.join(shown.stdout.strip(), "QueueBench")

    def command(self, verb, redis=None):
        return [self.program, verb, f"postgresql://bench@/postgres?host={self.bare.directory}",
                redis or f"unix://{self.bare.directory}/redis.sock"]

    def __call__(self, verb, phases=None, **values):
        """Makes a measurement; `phases` is called at the begin and the end of each of its phases."""
        if phases:
            values["phases"] = 1
        process = subprocess.Popen(
            self.command(verb) + [f"{name}={value}" for name, value in values.items()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            words = line.split()
            if phases and words[0] in ("begin", "end"):
                phases(words[0] == "begin", words[1], int(words[2]))
                process.stdin.write("\n")
                process.stdin.flush()
            else:
                lines.append(line.strip())
        if process.wait():
            sys.exit(f"QueueBench {verb}: {' '.join(lines)}")
        return json.loads(lines[-1])


class Commands:
    """Statements that PostgreSQL and commands that Redis were sent in a phase, by what the servers say.

    pg_stat_statements counts what clients send, BEGIN and COMMIT included, and nothing that runs inside
    functions. Redis counts commands inside functions as others, so MONITOR tells who sent each; it takes
    time, so that is another run than the one whose statements are counted.
    """

    SETTINGS = ["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.max=10000"]

    def __init__(self, bare):
        self.bare, self.monitors = bare, False
        self.redis = ["redis-cli", "-s", f"{bare.directory}/redis.sock"]
        bare.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def __call__(self, begins, _, count):
        if begins and not self.monitors:
            self.bare.sql("SELECT pg_stat_statements_reset()")
            return
        if begins:
            self.sent, self.inside = {}, 0
            self.monitor = subprocess.Popen(self.redis + ["monitor"], stdout=subprocess.PIPE, text=True,
                                            errors="replace")
            self.monitor.stdout.readline()
            self.reader = threading.Thread(target=self.read)
            self.reader.start()
            return
        self.runs = count
        if not self.monitors:
            # psql's own, the reset, is in it: one statement.
            self.statements = json.loads(self.bare.sql(
                "SELECT json_agg(s) FROM (SELECT sum(calls) AS calls, "
                "left(regexp_replace(query, '\\s+', ' ', 'g'), 60) AS query "
                "FROM pg_stat_statements GROUP BY 2 ORDER BY 1 DESC) s"))
            return
        subprocess.run(self.redis + ["echo", "end of the phase"], check=True, stdout=subprocess.DEVNULL)
        self.reader.join(timeout=60)
        self.monitor.terminate()
        self.monitor.wait()

    def read(self):
        for line in self.monitor.stdout:
            match = re.match(r'[0-9.]+ \[\d+ (\S+)\] "([^"]*)"', line)
            if not match:
                continue
            if match[1] == "lua":
                self.inside += 1
            elif match[2] == "echo":
                return
            else:
                self.sent[match[2].upper()] = self.sent.get(match[2].upper(), 0) + 1

    def show(self):
        statements = sum(item["calls"] for item in self.statements) / self.runs
        sent = sum(self.sent.values()) / self.runs
        row("PostgreSQL statements a run", [statements], digits=4)
        for item in self.statements[:6]:
            say(f"    {item['calls'] / self.runs:.4f} {item['query']}")
        row("client commands to Redis a run", [sent], digits=4)
        say("    " + ", ".join(f"{name} {calls / self.runs:.4f}"
                               for name, calls in sorted(self.sent.items(), key=lambda item: -item[1]))
            + f"; inside functions {self.inside / self.runs:.1f}")


class Instructions:
    """Instructions that Redis takes in each phase, counted by valgrind's callgrind."""

    def __init__(self, bare):
        self.bare, self.totals = bare, {}

    WRAPPER = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]

    def control(self, *words):
        subprocess.run(self.bare.user + ["callgrind_control", *words, str(self.bare.redis.pid)], check=True,
                       cwd=self.bare.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def files(self):
        return set(glob.glob(f"{self.bare.directory}/callgrind.out*"))

    def __call__(self, begins, name, count):
        if begins:
            self.control("-i", "on")
            return
        self.control("-i", "off")
        for path in self.files():
            os.remove(path)
        self.control("-d", name)
        counted = 0
        for path in self.files():
            with open(path, encoding="utf-8", errors="replace") as file:
                counted += sum(int(line.split()[1]) for line in file if line.startswith("totals:"))
        before = self.totals.get(name, (0, 0))
        self.totals[name] = (before[0] + counted, before[1] + count)

    def a_run(self):
        """Of each phase that had runs: where all that is queued is in Redis, refill brings none."""
        return {name: counted / count for name, (counted, count) in self.totals.items() if count}


def pairs(name, unit, measure, reference_name, reference):
    """Measures five interleaved pairs; prints both and their ratio."""
    values, references = [], []
    for _ in range(PAIRS):
        references.append(reference())
        values.append(measure())
    row(name, values, unit, 0)
    row(f"  {reference_name}", references, unit, 0)
    row("  ratio", [a / b for a, b in zip(values, references)], "×")


def redis_benchmark(bare, depth):
    shown = subprocess.run(
        ["redis-benchmark", "-s", f"{bare.directory}/redis.sock", "-n", "300000", "-c", "1", "-P", str(depth),
         "--csv", "XADD", "bench", "MAXLEN", "~", "10000", "*", "p", "x" * 100],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return float(shown.stdout.strip().splitlines()[-1].split(",")[-7].strip('"'))


def rows(name, results, members, unit="", digits=1):
    """Prints a member of several results each."""
    for member, title in members.items():
        row(f"{name}{title}", [result[member] for result in results], unit, digits)


def measure_clients(bare, queue):
    say("\nthe clients alone")
    for callers in (1_000, 64):
        pairs(f"XADD, {callers} callers on one connection", "/s",
              lambda callers=callers: queue("append", callers=callers)["entriesPerSecond"],
              f"redis-benchmark -P {callers}", lambda callers=callers: redis_benchmark(bare, callers))
    pairs("durable one-row inserts, 1,000 callers on 4 connections", "/s",
          lambda: queue("insert", callers=1_000)["rowsPerSecond"], "pgbench -c 8", lambda: bare.pgbench(2))
    pairs("durable one-row inserts, one caller", "/s",
          lambda: queue("insert", callers=1, rows=5_000)["rowsPerSecond"], "pgbench -c 1",
          lambda: bare.pgbench(2, clients=1))


def measure_throughput(bare, queue):
    say("\nthe queue, everything durable; statements signed beforehand; runs a second")

    def runs(verb, **values):
        return lambda: queue(verb, **values)["runsPerSecond"]

    eight = ("durable one-row inserts, eight clients", lambda: bare.pgbench(2))
    pairs("50 callers, one run each", "/s", runs("submit"), *eight)
    pairs("bulk of 500 one-device jobs, 4 callers", "/s",
          runs("submit", bulk=500, callers=4, runs=50_000), *eight)
    pairs("one job over 10,000 devices, expanded", "/s", runs("expand"), *eight)
    pairs("claim, mark, inbox, settle", "/s", runs("drain", runs=30_000), *eight)
    pairs("from bulk submit to settlement", "/s", runs("whole", runs=30_000), *eight)


def measure_bypass(_, queue):
    def through(verb):
        return lambda: queue(verb, runs=30_000)["runsPerSecond"]

    say("\none tenant: claim, mark, inbox, settle, beside the same with the ready set bypassed (no tags,"
        "\nvirtual time, service), and beside the same marks, inboxes and settlements of runs that a"
        "\nplain stream brings by XADD, XREADGROUP, XACK and XDEL (no caps, lanes, leases either)")
    pairs("through the queue", "/s", through("drain"), "ready set bypassed", through("direct"))
    pairs("through the queue", "/s", through("drain"), "a plain stream", through("bypass"))


def measure_commands(bare, queue):
    say("\nfrom bulk submit to settlement, 30,000 runs: what the servers were sent, workers' upkeep included")
    bare.restart(settings=Commands.SETTINGS)
    commands = Commands(bare)
    for commands.monitors in (False, True):
        queue("whole", phases=commands, runs=30_000)
    commands.show()
    bare.restart()


def measure_latency(_, queue):
    say("\nsubmission to a gateway's inbox, 100 runs/s for 10 s, each submitted when it is due")
    results = [queue("latency") for _ in range(PAIRS)]
    members = {"p50ms": "p50", "p99ms": "p99", "later_p50ms": "p50 after the first second",
               "later_p99ms": "p99 after the first second", "later_maxms": "most after the first second"}
    rows("", results, members, "ms")
    results = [queue("latency", steps=1) for _ in range(PAIRS)]
    rows("submission to claim after the first second, ", results,
         {"claimed_p50ms": "p50", "claimed_p99ms": "p99"}, "ms")
    say("  where the time went after the first second, by a dispatcher that is timed: mean ms of all, and of"
        "\n  the slowest hundredth")
    for step in ("wake", "commit", "offerToClaim", "mark", "deliver", "arrive", "total"):
        mean, slowest = ([result[f"{kind}_{step}"] for result in results] for kind in ("mean", "slowest"))
        say(f"    {step:<14} {statistics.median(mean):>8.2f} {statistics.median(slowest):>8.2f}")


def measure_fairness(_, queue):
    say("\nA has 1,000,000 runs queued and takes every slot; B submits 10: until its first arrives, from the"
        "\nsubmission, and from when a dispatcher is free for its next batch after that")
    rows("", [queue("neighbour") for _ in range(PAIRS)],
         {"p50ms": "p50", "p99ms": "p99", "beyond_p50ms": "p50 beyond the first free slot",
          "beyond_p99ms": "p99 beyond the first free slot"}, "ms")
    say("\nthree organizations with backlogs and the weights 1, 2 and 5: shares of 8,000 runs")
    rows("", [queue("weights") for _ in range(PAIRS)],
         {"weight1Percent": "weight 1 (entitled to 12.5 %)", "weight2Percent": "weight 2 (entitled to 25 %)",
          "weight5Percent": "weight 5 (entitled to 62.5 %)", "worstPoints": "worst difference, points"})
    say("\nA has a backlog, B keeps few runs ready: B's share of the claims when slots come free one by one")
    for ready in (1, 3, 63):
        # No clock is in it: once is enough.
        rows(f"B keeps {ready} ready: ", [queue("few", ready=ready)],
             {"bPercent": "percent", "p99claims": "p99 of the wait, claims"})
    say("\nthe same through the whole path at saturation: what B submits, and its wait")
    for ready in (3, 500):
        rows(f"B keeps {ready} ready: ", [queue("beside", ready=ready, runs=100_000) for _ in range(PAIRS)],
             {"bPercent": "percent of what arrives", "bPerSecond": "runs/s of B",
              "aPerSecond": "runs/s of A", "p50ms": "p50 of the wait, ms", "p99ms": "p99 of the wait, ms"})


def measure_spread(_, queue):
    say("\nB's wait beside A's backlog, which is spread: ratios to a plain backlog, pooled p50 and p99")
    result = queue("spread")
    for spread in ("sites", "kinds", "keys", "priorities"):
        for name in ("p50ms", "p99ms"):
            say(f"  over {spread + ', ' + name[:3]:<53} {result[f'{spread}_{name}_ratio']:>10.2f} ×       "
                f"({result[f'{spread}_{name}_least']:.2f} … {result[f'{spread}_{name}_most']:.2f}); "
                f"{result[f'{spread}_{name}']:.2f} ms, plain {result[f'plain_{name}']:.2f} ms")


def measure_cost(bare, queue):
    say("\ninstructions of Redis a run, counted by callgrind")
    bare.restart(wrapper=Instructions.WRAPPER)
    cases = {"10 organizations, 100,000 queued": (10, 100_000),
             "128 organizations, 100,000 queued": (128, 100_000),
             "10,000 organizations, 100,000 queued": (10_000, 100_000),
             "100 organizations, 10,000 queued": (100, 10_000),
             "100 organizations, 1,000,000 queued": (100, 1_000_000)}
    found = []
    for name, (organizations, runs) in cases.items():
        instructions = Instructions(bare)
        queue("cost", phases=instructions, organizations=organizations, runs=runs)
        steps = instructions.a_run()
        found.append(steps)
        say(f"  {name:<40} " + ", ".join(f"{step} {count:,.0f}" for step, count in steps.items()))
    for name, few, many in (("10,000 organizations / 10", found[0], found[2]),
                            ("10,000 organizations / 128", found[1], found[2]),
                            ("1,000,000 queued / 10,000", found[3], found[4])):
        row(f"{name}: claim", [many["claim"] / few["claim"]], "×")
        together = [sum(steps[step] for step in ("claim", "acknowledge", "settle")) for steps in (many, few)]
        row(f"{name}: claim, acknowledge, settle", [together[0] / together[1]], "×")
    bare.restart()


def measure_memory(_, queue):
    say("\nRedis with 1,000,000 runs queued")
    for organizations in (1, 100, 10_000):
        result = queue("memory", organizations=organizations)
        row(f"over {organizations} organizations", [result["usedMiB"]], "MiB", 1)


def measure_recovery(_, queue):
    say("\nfrom the end of a worker with 16 claims to their arrival by another, 10 times each")
    for how, name in enumerate(("gone after the claim", "gone after the mark", "stopped in order")):
        rows(f"{name}: ", [queue("recovery", how=how)],
             {"p50ms": "p50", "p99ms": "p99", "maxms": "most"}, "ms", 0)


def measure_cancels(_, queue):
    say("\ncancels of single runs, 300 one after the other")
    rows("", [queue("cancels") for _ in range(PAIRS)],
         {"endedP50ms": "queued: ended, p50", "endedP99ms": "queued: ended, p99",
          "toldP50ms": "sent: in the gateway's inbox, p50", "toldP99ms": "sent: in the gateway's inbox, p99"},
         "ms", 1)


PARTS = {"clients": measure_clients, "throughput": measure_throughput, "bypass": measure_bypass,
         "commands": measure_commands, "latency": measure_latency, "fairness": measure_fairness,
         "spread": measure_spread, "cost": measure_cost, "memory": measure_memory,
         "recovery": measure_recovery, "cancels": measure_cancels}


def bench_queue(parts):
    unknown = set(parts) - set(PARTS)
    if unknown:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not shutil.which("valgrind") and "cost" in (parts or PARTS):
        sys.exit("the part cost needs valgrind; install it, or name the other parts")
    machine()
    work = tempfile.mkdtemp(prefix="crmm-bench-")
    os.chmod(work, 0o755)
    bare = Bare(os.path.join(work, "bare"))
    try:
        bare.start()
        queue = QueueBench(bare)
        for name, measure in PARTS.items():
            if not parts or name in parts:
                measure(bare, queue)
    finally:
        bare.stop()
        shutil.rmtree(work, ignore_errors=True)


# What each test of a harness says: members of its results, and what they are.
PEER_TESTS = {
    "main": (("enqueue", "rate", "enqueued a second"), ("drain", "rate", "done a second")),
    "latency": (("latency", "p50_ms", "enqueue to start, p50, ms"),
                ("latency", "p99_ms", "the same, p99, ms")),
    "crash": (("crash", "recover_first_s", "after kill -9 of the worker: first lost job ends, s"),
              ("crash", "recover_last_s", "the same, last, s"),
              ("crash", "not_done_after_cap", "the same, never done"),
              ("crash", "completed_twice", "the same, done twice")),
    "fair": (("fair", "B_first_s", "B's first starts behind 50,000 jobs of A, s"),
             ("fair", "extrapolated_s", "the same where it never did, extrapolated, s")),
    "flush": (("flush", "lost", "not done 3 s after FLUSHALL, of 5,000"),
              ("flush", "new_jobs_done", "new jobs done after it")),
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def bench_peers(directory, peers):
    harness = os.path.join(os.path.abspath(directory), "bench.py")
    if not os.path.exists(harness):
        sys.exit(f"there is no {harness}")
    tests = os.environ.get("CLOUDRMM_BENCH_TESTS", " ".join(PEER_TESTS)).split()
    if set(tests) - set(PEER_TESTS):
        sys.exit(f"CLOUDRMM_BENCH_TESTS are of {', '.join(PEER_TESTS)}")
    machine()
    work = tempfile.mkdtemp(prefix="crmm-bench-")
    os.chmod(work, 0o755)
    bare = Bare(os.path.join(work, "bare"))
    results = os.path.join(work, "results.jsonl")
    try:
        bare.start()
        # PostgreSQL is ours, durable; Redis is the one that the harness starts for each peer, and kills.
        port = free_port()
        queue, redis = QueueBench(bare), f"redis://127.0.0.1:{port}"
        worker = shlex.join(queue.command("worker", redis)) + ' atOnce=$BENCH_CONC >>"$BENCH_LOG"'
        halves = [worker.replace(" atOnce", f" part={part} of=2 atOnce") for part in (0, 1)]
        own = {"cloudrmm": {
            "ver": "cloudrmm", "conc": 100, "bulk": 500, "n": 20_000, "sync": False, "many": False,
            "producer": queue.command("producer", redis), "setup": queue.command("prepare", redis),
            "worker": ["sh", "-c", f"exec {worker}"],
            "worker2": ["sh", "-c", f"{halves[0]} & exec {halves[1]}"]}}
        extra = os.path.join(work, "peers.json")
        with open(extra, "w", encoding="utf-8") as file:
            json.dump(own, file)
        python = os.environ.get("CLOUDRMM_BENCH_PYTHON", sys.executable)
        for test in tests:
            say(f"\n{test}")
            subprocess.run(
                [python, harness, test, "cloudrmm", *peers], check=True,
                env={**os.environ, "BENCH_REDIS_PORT": str(port), "BENCH_EXTRA_PEERS": extra,
                     "BENCH_RESULTS": results, "BENCH_TMP": os.path.join(work, "harness")},
                stdout=subprocess.DEVNULL)
        show_peers(results, tests, ["cloudrmm", *peers])
    finally:
        bare.stop()
        shutil.rmtree(work, ignore_errors=True)


def show_peers(path, tests, peers):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for line in lines:
        if "error" in line:
            say(f"  {line['peer']}, {line['t']}: {line['error']}")
    for test in tests:
        for kind, member, title in PEER_TESTS[test]:
            variants = {}
            for line in lines:
                if line["t"] == kind and line.get(member) is not None:
                    variant = f", {line['how']}" if "how" in line else ""
                    variant += f", {line['procs']} processes" if "procs" in line else ""
                    variants.setdefault(variant, {}).setdefault(line["peer"], []).append(line[member])
            for variant, found in variants.items():
                say(f"\n{title}{variant}")
                for peer in peers:
                    values = found.get(peer)
                    if not values:
                        say(f"  {peer:<58} {'none':>10}")
                    elif isinstance(values[0], str):
                        say(f"  {peer:<58} {values[0]:>10}")
                    else:
                        row(peer, values)
