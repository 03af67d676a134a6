"""Measures the HTTP API: submit, reads, lists, what row-level security and authentication cost."""
import http.client
import json
import os
import re
import ssl
import statistics
import subprocess
import tempfile
import time
import urllib.parse

from bench_servers import PAIRS, Bare, row, say

SCRIPT = '{"kind":"script","target":{"deviceIds":["%s"]},"script":{"interpreter":"sh","body":"echo hello"}}'
LUA = """
local devices = {%s}
local n = 0
request = function()
  n = n + 1
  return wrk.format("POST", "/v1/jobs", headers, string.format([[%s]], devices[n %% #devices + 1]))
end
headers = {["Authorization"] = "Bearer %s", ["Content-Type"] = "application/json"}
done = function(summary)
  io.write(string.format("errors %%d\\n", summary.errors.status + summary.errors.timeout))
end
"""
# Where the statement of a list of devices stands under the API's login, as the product sends it.
LIST = """
SELECT d.id, d.hostname, d.display_name FROM devices d
WHERE d.organization_id = '{organization}' AND d.id > '{after}' AND (d.hostname ILIKE '%ws-01%' OR
      d.display_name ILIKE '%ws-01%')
ORDER BY d.organization_id, d.id LIMIT 100
"""


class Load:
    """wrk and h2load against an API."""

    def __init__(self, up, directory):
        self.up, self.directory = up, directory
        self.url, self.key = up.ready["apiURL"], up.ready["apiKey"]

    def wrk(self, path, seconds, connections=32, lua=None):
        """Requests a second; ends the bench if any was refused."""
        words = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
        words += ["-s", lua] if lua else ["-H", f"Authorization: Bearer {self.key}"]
        ended = subprocess.run(words + [self.url + path], check=True, stdout=subprocess.PIPE, text=True)
        shown = ended.stdout
        refused = re.search(r"errors ([1-9]\d*)|Non-2xx or 3xx responses: (\d+)", shown)
        if refused:
            raise SystemExit(f"requests were refused: {shown}")
        return float(re.search(r"Requests/sec:\s+([0-9.]+)", shown)[1])

    def latencies(self, path, rate, seconds, connections=16, body=None):
        """Milliseconds of each request that comes at a fixed rate, however slow the others are."""
        log = os.path.join(self.directory, "latency.log")
        if os.path.exists(log):
            os.remove(log)
        words = ["h2load", "--h1", "-t", "1", "-c", str(connections), "-n", str(int(rate * seconds)),
                 "--rps", str(rate / connections), f"--log-file={log}",
                 "-H", f"Authorization: Bearer {self.key}"]
        if body:
            file = os.path.join(self.directory, "body.json")
            with open(file, "w", encoding="utf-8") as out:
                out.write(body)
            words += ["-d", file, "-H", "Content-Type: application/json"]
        subprocess.run(words + [self.url + path], check=True, stdout=subprocess.DEVNULL)
        with open(log, encoding="utf-8") as lines:
            rows = [line.split() for line in lines]
        wrong = [status for _, status, _ in rows if not status.startswith("2")]
        if wrong:
            raise SystemExit(f"{len(wrong)} requests were refused, the first with {wrong[0]}")
        return sorted(int(took) / 1_000 for _, _, took in rows)


def part(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


def enrol(up, directory, site, count):
    """Devices that are enrolled and away: their work waits."""
    token = up.call("POST", "/v1/enrollment-tokens", {"siteId": site, "maxUses": count})["token"]
    devices = []
    for number in range(count):
        request = subprocess.run(
            ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", os.path.join(directory, "device.key"), "-subj", "/CN=any"],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        devices.append(up.call("POST", "/v1/enrollments", {
            "token": token, "request": request, "hostname": f"ws-{number}", "platform": "linux",
            "agentVersion": "1"})["deviceId"])
    return devices


def fill(up, organization, site, count):
    """Rows of devices, which only lists see: nobody judges where they belong."""
    statement = f"""
        SET crmm.scope = 'platform';
        INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version, key_hash,
                             assignment, assignment_version, mac_key, mac)
        SELECT '{organization}', gen_random_uuid(), '{site}', 'vie-ws-' || lpad(n::text, 6, '0'),
               CASE n % 3 WHEN 0 THEN 'windows' ELSE 'linux' END, '1', decode(repeat('00', 32), 'hex'), '', 1,
               'none', '' FROM generate_series(1, {count}) n"""
    subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", statement, up.ready["databaseURL"]],
                   check=True, stdout=subprocess.DEVNULL)


def lists(up, organization):
    """Milliseconds of lists with filters, over one connection."""
    address = urllib.parse.urlsplit(up.ready["apiURL"])
    connection = http.client.HTTPSConnection(
        address.hostname, address.port, context=ssl.create_default_context(cafile=up.ready["caCertificate"]))
    took = []
    for number in range(300):
        filters = [f"search=ws-0{number % 90:02d}", "platform=windows", "sort=-createdAt", "limit=200"]
        begun = time.monotonic()
        connection.request(
            "GET", f"/v1/devices?organizationId={organization}&{filters[number % 4]}",
            headers={"Authorization": f"Bearer {up.ready['apiKey']}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"a list was refused: {answer.status} {body}")
        took.append((time.monotonic() - begun) * 1_000)
    connection.close()
    return sorted(took)


def policies(bin_directory, directory):
    """The ratio of a statement's execution in the server with row-level security and without it."""
    bare = Bare(os.path.join(directory, "bare"))
    bare.start()
    try:
        subprocess.run(
            [os.path.join(bin_directory, "cloudrmm"), "migrate", "--owner-url",
             f"postgresql://bench@/postgres?host={bare.directory}"], check=True, stdout=subprocess.DEVNULL)
        partner, one = "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"
        bare.sql(f"""
            INSERT INTO partners (id, name, mac_key, mac) VALUES ('{partner}', 'p', '', '');
            INSERT INTO organizations (id, partner_id, name, mac_key, mac)
                VALUES ('{one}', '{partner}', 'o', '', '');
            INSERT INTO sites (organization_id, id, name, mac_key, mac)
                VALUES ('{one}', '{one}', 's', '', '');
            INSERT INTO devices (organization_id, id, site_id, hostname, platform, agent_version, key_hash,
                                 assignment, assignment_version, mac_key, mac)
            SELECT '{one}', gen_random_uuid(), '{one}', 'vie-ws-' || lpad(n::text, 6, '0'), 'linux', '1',
                   decode(repeat('00', 32), 'hex'), '', 1, '', '' FROM generate_series(1, 10000) n""")
        bare.sql("VACUUM ANALYZE devices")
        statement = LIST.format(organization=one, after="00000000-0000-0000-0000-000000000000")
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY) {statement}"
        begin = {
            "with": f"SET ROLE crmm_api; SET crmm.scope = 'organization {one}';",
            "without": "RESET ROLE;"}
        same = "".join(f"SET {name} = off;" for name in (
            "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"))

        def execution(how):
            shown = bare.sql(same + begin[how] + (explain + ";") * 40)
            times = [float(found) for found in re.findall(r"Execution Time: ([0-9.]+) ms", shown)]
            return statistics.median(times)

        pairs = [(execution("with"), execution("without")) for _ in range(PAIRS)]
        row("a filtered list of 10,000, execution in the server", [a for a, _ in pairs], "ms", 3)
        row("  ratio to the same without row-level security", [a / b for a, b in pairs], "×")
    finally:
        bare.stop()


def bench_api(bin_directory, start):
    """All of it; `start` starts `cloudrmm up` with a data directory."""
    say("the API over HTTPS, wrk, PostgreSQL and Redis on this machine; 32 connections unless said otherwise")
    with tempfile.TemporaryDirectory(prefix="crmm-", dir="/tmp") as directory:
        os.chmod(directory, 0o711)
        up = start(os.path.join(directory, "data"))
        try:
            partner = up.call("POST", "/v1/partners", {"name": "bench"})["id"]
            small, large, target = (
                up.call("POST", "/v1/organizations", {"name": name, "partnerId": partner})["id"]
                for name in ("small", "large", "target"))
            sites = [up.call("POST", "/v1/sites", {"name": "s", "organizationId": each})["id"]
                     for each in (small, large, target)]
            devices = enrol(up, directory, sites[2], 50)
            load = Load(up, directory)
            lua = os.path.join(directory, "submit.lua")
            with open(lua, "w", encoding="utf-8") as file:
                listed = ",".join(f'"{device}"' for device in devices)
                file.write(LUA % (listed, SCRIPT, load.key))
            rates, inserts, reads, empty, many, crowded = [], [], [], [], [], []
            # Before the submissions, which PostgreSQL tidies up after for a while.
            job = up.call("POST", "/v1/jobs", json.loads(SCRIPT % devices[0]))["id"]
            load.wrk(f"/v1/jobs/{job}", 3)
            for _ in range(PAIRS):
                reads.append(load.wrk(f"/v1/jobs/{job}", 3))
                empty.append(load.wrk("/healthz", 3))
                crowded.append(load.wrk(f"/v1/jobs/{job}", 3, connections=128))
            bare = Bare(os.path.join(directory, "reference"))
            bare.start()
            load.wrk("/v1/jobs", 3, lua=lua)
            for _ in range(PAIRS):
                inserts.append(bare.pgbench(3, clients=32))
                rates.append(load.wrk("/v1/jobs", 5, lua=lua))
                many.append(load.wrk("/v1/jobs", 5, connections=128, lua=lua))
            bare.stop()
            row("jobs submitted a second, each committed", rates, "/s", 0)
            row("  ratio to durable one-row inserts", [a / b for a, b in zip(rates, inserts)], "×")
            row("  over 128 connections", many, "/s", 0)
            row("reads of one job a second", reads, "/s", 0)
            row("  over 128 connections", crowded, "/s", 0)
            row("  ratio to /healthz, which nobody has to be for", [a / b for a, b in zip(reads, empty)], "×")
            took = [load.latencies("/v1/jobs", 1_500, 8, body=SCRIPT % devices[0]) for _ in range(PAIRS)]
            row("submission at 1,500/s, p50", [part(each, 0.50) for each in took], "ms")
            row("  p99", [part(each, 0.99) for each in took], "ms")
            alone = [(statistics.median(load.latencies("/v1/whoami", 200, 3, connections=1)),
                      statistics.median(load.latencies("/healthz", 200, 3, connections=1)))
                     for _ in range(PAIRS)]
            row("who am I, one after the other", [a for a, _ in alone], "ms", 3)
            row("  more than /healthz, so what authentication adds", [a - b for a, b in alone], "ms", 3)
            for name, organization, site, count in (
                    ("10,000", small, sites[0], 10_000), ("100,000", large, sites[1], 100_000)):
                fill(up, organization, site, count)
                took = [lists(up, organization) for _ in range(PAIRS)]
                row(f"lists of {name} devices with a filter, p50", [part(each, 0.50) for each in took], "ms")
                row("  p95", [part(each, 0.95) for each in took], "ms")
        finally:
            up.stop()
        policies(bin_directory, directory)

