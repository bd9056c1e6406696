"""Generates a TypeScript client from the OpenAPI file of a server that it starts, compiles it with a program that uses it, and
runs that: it signs in, pushes records, asks, and looks at views and cases. What the file says wrongly does not compile.

    client.py --tools FOLDER     # with the node_modules of api/client
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile
import urllib.request

import line
from verdict import Campaign

CLIENT = line.ROOT / "api" / "client"
NAME, EMAIL, PASSWORD = "acme", "ada@acme.example", "correct horse battery staple"
# What the program must print.
PRINTED = [
    "ada@acme.example of acme pushed 150 records",
    "views: opportunities (100 rows)",
    'answer: [{"deals":100,"total":"183150.0000"}]',
    "cases: open, Amount lost, 50 held",
]
# What must not compile: types that let it pass would be good for nothing.
WRONG = {
    "a member that is needed is missing": 'await api.POST("/api/v1/auth/login", { body: { email: "" } });',
    "a member that is not there": "const { data } = await api.GET(\"/api/v1/dcl/views\"); data?.views[0]?.colour;",
    "a path that is not there": 'await api.GET("/api/v1/dcl/view");',
    "a parameter that is needed is missing":
        'await api.POST("/api/v1/records", { params: { query: { connection: "crm" } }, body: [] });',
    "records that are no objects":
        'await api.POST("/api/v1/records", { params: { query: { connection: "a", stream: "b" } }, body: [7] });',
    "a word that a list has not":
        'const { data } = await api.GET("/api/v1/aam/cases"); data?.cases.filter((c) => c.status === "opne");',
    "a figure that may be absent":
        "const { data } = await api.GET(\"/api/v1/dcl/views\"); const rows: number | undefined = data?.views[0]!.rows.valueOf();",
    "a member of rows, whose columns nobody knows":
        'const { data } = await api.POST("/api/v1/query", { body: { sql: "" } }); data?.rows[0]?.["a"].length;',
    "a problem's member that is not there":
        'const { error } = await api.GET("/api/v1/auth/me"); error?.reason;',
}
RIGHT = 'import createClient from "openapi-fetch";\nimport type { paths } from "./api.js";\n' \
        "const api = createClient<paths, `application/${string}json`>({ baseUrl: \"\" });\n"


class Tools:
    """The generator and the compiler, and the folder in which they work."""

    def __init__(self, folder):
        self.binaries = folder / "node_modules" / ".bin"
        # Below the modules, so that they are found.
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="work-", dir=folder))

    def run(self, *words):
        """Runs a tool and gives what it printed; nothing when it failed, and then what it said."""
        done = subprocess.run([*map(str, words)], cwd=self.work, capture_output=True, text=True, timeout=1200)
        return (done.stdout if done.returncode == 0 else None), done.stdout + done.stderr

    def compile(self, programs):
        """Compiles programs, by their names, and gives what the compiler says of each."""
        for name, text in programs.items():
            (self.work / name).write_text(text)
        config = json.loads((CLIENT / "tsconfig.json").read_text())
        (self.work / "tsconfig.json").write_text(json.dumps(config | {"files": list(programs)}))
        _, said = self.run(self.binaries / "tsc", "-p", "tsconfig.json", "--pretty", "false")
        rows = said.splitlines()
        whole = [row for row in rows if not row.startswith((" ", *programs))]
        return {name: [row for row in rows if row.startswith(name)] + whole for name in programs}


def post(base, path, body):
    """Sends JSON."""
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with line.DIRECT.open(request, timeout=180) as answer:
        return json.load(answer)


def check(campaign, tools, base):
    """Generates, compiles, runs."""
    with line.DIRECT.open(f"{base}/openapi.json") as answer:
        (tools.work / "openapi.json").write_bytes(answer.read())
    made, said = tools.run(tools.binaries / "openapi-typescript", "openapi.json", "-o", "api.d.ts")
    campaign.fired("generated")
    if made is None:
        return campaign.anomaly(f"no client can be generated: {said}")
    said = tools.compile({"demo.ts": (CLIENT / "demo.ts").read_text()})["demo.ts"]
    campaign.fired("compiled")
    if said:
        return campaign.anomaly(f"the program does not compile: {said}")
    wrong = {f"wrong{number}.ts": (what, text) for number, (what, text) in enumerate(WRONG.items())}
    told = tools.compile({name: f"{RIGHT}{text}\n" for name, (_, text) in wrong.items()})
    for name, (what, text) in wrong.items():
        campaign.fired("found wrong")
        # TS2307 is a module that is not there: everything is wrong then.
        if not told[name] or any("TS2307" in row for row in told[name]):
            campaign.anomaly(f"{what}, and the compiler says {told[name]} to: {text}")
    post(base, "/api/v1/auth/register", {"name": NAME, "email": EMAIL, "password": PASSWORD})
    printed, said = tools.run("node", "demo.js", base, EMAIL, PASSWORD)
    campaign.fired("ran")
    if printed is None or printed.splitlines() != PRINTED:
        campaign.anomaly(f"the program printed {said!r}, not {PRINTED}")
    refused, said = tools.run("node", "demo.js", base, EMAIL, "not the password")
    if refused is not None or "wrong_password: the address or the password is wrong" not in said:
        campaign.anomaly(f"a wrong password is told as {said!r}")


def main():
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help="a folder with the node_modules of api/client")
    arguments = parser.parse_args()
    campaign = Campaign("client", 0)
    tools = Tools(arguments.tools)
    try:
        with tempfile.TemporaryDirectory() as scratch, line.Server(pathlib.Path(scratch) / "data") as server:
            check(campaign, tools, f"http://{server.listen}")
    finally:
        shutil.rmtree(tools.work, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
