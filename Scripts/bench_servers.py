"""What the benchmarks stand on: PostgreSQL and Redis of their own, and how results are printed."""
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAIRS = 5


def say(text=""):
    print(text, flush=True)


class Bare:
    """PostgreSQL and Redis alone, with the same settings, for reference."""

    def __init__(self, directory):
        self.directory = directory
        shown = subprocess.run(["pg_config", "--bindir"], stdout=subprocess.PIPE, text=True, check=True)
        self.bin = shown.stdout.strip()
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.user = as_postgres if os.geteuid() == 0 else []
        # Settings of PostgreSQL, and what Redis is run by, that a measurement asks for.
        self.settings, self.wrapper = [], []
        os.makedirs(directory)
        if self.user:
            shutil.chown(directory, "postgres", "postgres")
        subprocess.run(
            self.user + [f"{self.bin}/initdb", "-N", "-A", "trust", "-U", "bench", "--locale=C",
                         "--data-checksums", "-D", f"{directory}/pg"],
            check=True, stdout=subprocess.DEVNULL)

    def start(self):
        begun = time.monotonic()
        self.redis = subprocess.Popen(
            self.user + self.wrapper
            + ["redis-server", "--port", "0", "--unixsocket", f"{self.directory}/redis.sock", "--dir",
               self.directory, "--appendonly", "yes", "--stream-node-max-bytes", "1024"],
            cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.postgres = subprocess.Popen(
            self.user + [f"{self.bin}/postgres", "-D", f"{self.directory}/pg", "-c", "listen_addresses=",
                         "-c", f"unix_socket_directories={self.directory}", "-c", "shared_buffers=128MB",
                         "-c", "max_wal_size=1GB", "-c", "min_wal_size=80MB", "-c", "max_connections=200",
                         *(word for setting in self.settings for word in ("-c", setting))],
            stderr=subprocess.DEVNULL)
        while subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", self.directory], check=False).returncode:
            time.sleep(0.005)
        # It answers before it has read its file, but not with PONG.
        ping = ["redis-cli", "-s", f"{self.directory}/redis.sock", "ping"]
        while subprocess.run(ping, check=False, capture_output=True, text=True).stdout.strip() != "PONG":
            if self.redis.poll() is not None:
                sys.exit("redis-server did not start")
            time.sleep(0.005)
        return time.monotonic() - begun

    def stop(self):
        self.redis.terminate()
        self.postgres.send_signal(signal.SIGINT)
        self.redis.wait()
        self.postgres.wait()

    def sql(self, statement):
        """Runs a statement; returns what it shows."""
        shown = subprocess.run(
            [f"{self.bin}/psql", "-h", self.directory, "-U", "bench", "-qAtc", statement, "postgres"],
            check=True, stdout=subprocess.PIPE, text=True)
        return shown.stdout.strip()

    def restart(self, settings=(), wrapper=()):
        """Starts both anew, with these settings of PostgreSQL and Redis run by this command."""
        self.stop()
        self.settings, self.wrapper = list(settings), list(wrapper)
        self.start()

    def pgbench(self, seconds, clients=8):
        """Durable one-row inserts a second by some clients: what bounds a queue without batches."""
        self.sql("SET client_min_messages = error; "
                 "CREATE TABLE IF NOT EXISTS one (id bigserial PRIMARY KEY, body text)")
        script = os.path.join(self.directory, "insert.sql")
        if not os.path.exists(script):
            with open(script, "w", encoding="utf-8") as file:
                file.write("INSERT INTO one (body) VALUES (repeat('x', 100));\n")
        shown = subprocess.run(
            [f"{self.bin}/pgbench", "-h", self.directory, "-U", "bench", "-n", "-M", "prepared",
             "-c", str(clients), "-T", str(seconds), "-f", script, "postgres"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        return float(re.search(r"tps = ([0-9.]+)", shown.stdout)[1])


def row(name, values, unit="", digits=2):
    say(f"  {name:<58} {statistics.median(values):>10.{digits}f} {unit:<7} "
        f"({min(values):.{digits}f} … {max(values):.{digits}f})")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    say(f"machine: {os.cpu_count()} × {model[1] if model else 'unknown'}, load {os.getloadavg()[0]:.1f}")
