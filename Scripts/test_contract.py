#!/usr/bin/env python3
"""Has public tools judge the API's description, and the API by it.

    Scripts/test_contract.py SEEDS

SEEDS is a JSON file that says where a server is and what it holds:

    {"url": "http://127.0.0.1:1234", "key": "crmm_…", "seconds": 120,
     "operations": {"PATCH /v1/sites/{id}": {"id": "…", "body": {…}, "key": "…"}}}

The description has to be valid by openapi-spec-validator. Then Schemathesis calls every operation: first
with its example, whose id and body are those of the seeds, then with values that it makes up from the
schemas. Fails unless no answer is a 5xx, none is outside the description, and 95 of 100 operations were
answered with a 2xx at least once.
"""
import collections
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)
PERCENT_MIN = 95
METHODS = {"get", "put", "post", "delete", "patch"}

HOOKS = '''
import json, os, schemathesis

KEYS = json.loads(os.environ["CONTRACT_KEYS"])
LOG = open(os.environ["CONTRACT_LOG"], "a", buffering=1)


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers["Authorization"] = "Bearer " + KEYS.get(case.operation.label, KEYS["*"])


@schemathesis.hook
def after_call(context, case, response):
    LOG.write(json.dumps([case.operation.label, response.status_code]) + "\\n")
'''


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield f"{method.upper()} {path}", operation


def seed(document, seeds):
    """Puts what the server holds into the examples, and its ids beside those that are made up."""
    for label, operation in operations(document):
        row = seeds.get(label, {})
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path" and "id" in row:
                parameter["example"] = row["id"]
                parameter["schema"] = {"anyOf": [parameter["schema"], {"const": row["id"]}]}
            elif parameter["in"] != "path":
                # A list narrowed by ids of nobody is empty, and a cursor of one leads nowhere.
                del parameter["example"]
        if "body" in row:
            operation["requestBody"]["content"]["application/json"]["example"] = row["body"]


def main(arguments):
    if len(arguments) != 1:
        print(__doc__.strip())
        return 2
    seeds = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    with urllib.request.urlopen(seeds["url"] + "/openapi.json", timeout=30) as answer:
        document = json.load(answer)
    from openapi_spec_validator import validate

    validate(document)
    document["paths"] = {path: item for path, item in document["paths"].items() if path.startswith("/v1/")}
    # An event stream ends when its job does, which no tester waits for.
    del document["paths"]["/v1/jobs/{id}/events"]
    seed(document, seeds["operations"])
    all_labels = {label for label, _ in operations(document)}
    keys = {label: row["key"] for label, row in seeds["operations"].items() if "key" in row}
    keys["*"] = seeds["key"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
        (root / "contract_hooks.py").write_text(HOOKS, encoding="utf-8")
        log = root / "log"
        log.touch()
        environment = {
            **os.environ, "PYTHONPATH": folder, "SCHEMATHESIS_HOOKS": "contract_hooks",
            "CONTRACT_LOG": str(log), "CONTRACT_KEYS": json.dumps(keys),
        }
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", str(root / "openapi.json"),
            "--url", seeds["url"],
            "--checks", CHECKS, "--phases", "examples,coverage,fuzzing",
            "--max-examples", "10", "--max-time", str(seeds["seconds"]),
            "--continue-on-failure", "--seed", "1", "--no-color", "--generation-database", "none",
            "--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "30",
        ]
        ended = subprocess.run(command, cwd=folder, env=environment, check=False)
        answers = collections.defaultdict(collections.Counter)
        for line in log.read_text(encoding="utf-8").splitlines():
            label, status = json.loads(line)
            answers[label][status] += 1
    reached = {label for label in all_labels if any(200 <= status < 300 for status in answers[label])}
    statuses = sum(answers.values(), collections.Counter())
    failures = sum(count for status, count in statuses.items() if status >= 500)
    print("answers by status:", ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    for label in sorted(all_labels - reached):
        print(f"without a 2xx: {label}: {dict(answers[label])}")
    percent = 100 * len(reached) / len(all_labels)
    print(
        f"{len(all_labels)} operations, {sum(statuses.values())} answers, {failures} of them 5xx, "
        f"{len(reached)} operations with a 2xx ({percent:.1f} %)"
    )
    return 0 if ended.returncode == 0 and failures == 0 and percent >= PERCENT_MIN else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
