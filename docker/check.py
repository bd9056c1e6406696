"""Checks what stands in docker/ without running any of it: images are pinned, services have health checks and wait for each
other, nothing of ours runs as root or may write, no secret stands in clear, and every option, setting and variable that is
named is one of the program's own.

    check.py        prints what is wrong, one line each, and ends with 1 if anything is
"""

import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PINNED = re.compile(r"^[a-z0-9./_-]+:(v?\d+\.\d+[\w.-]*|[a-z]+-\d{8}[\w.-]*|RELEASE\.[\w.-]+)(@sha256:[0-9a-f]{64})?$")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|_KEY$", re.IGNORECASE)
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)[^}]*\}")
OURS = "autonomos:"
# Variables that others define, by the image that reads them; ours are AUTONOMOS_*, and what the client of object stores reads.
OF_IMAGES = {"apache/kafka": "KAFKA_", "minio/minio": "MINIO_", "postgres": "POSTGRES_", "mongo": "MONGO_INITDB_"}
OF_CLIENTS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
# Where the settings of each part of autonomos.yaml are defined.
SETTINGS = {
    (): ("api/src/serve/config.rs", "Config"),
    ("log", "kafka"): ("pipeline/src/log/kafka/settings.rs", "Settings"),
    ("log", "kafka", "partitions"): ("pipeline/src/engine/mod.rs", "Partitions"),
    ("store", "scylla"): ("pipeline/src/store/scylla/settings.rs", "Settings"),
    ("views",): ("projections/src/view/place/settings.rs", "Settings"),
}
# Between two of those: what a part may consist of.
CHOICES = {("log",): {"kafka"}, ("store",): {"scylla"}}

wrong = []


def expect(condition, message):
    if not condition:
        wrong.append(message)


def source(*folders):
    """All Rust text of some folders."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.rs")]
    return "\n".join(file.read_text() for file in files)


def fields(path, struct):
    """The names of a struct's fields, as a configuration says them."""
    file = ROOT / path
    text = file.read_text() if file.exists() else ""
    found = re.search(rf"struct {struct} \{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE)
    expect(found, f"{path} has no struct {struct}: say in check.py where these settings are defined")
    return set(re.findall(r"^ +(?:pub(?:\([a-z]+\))? )?(\w+): ", found[1], re.MULTILINE)) if found else set()


def check_settings(config, at=()):
    known = fields(*SETTINGS[at]) if at in SETTINGS else CHOICES.get(at)
    if known is None or not isinstance(config, dict):
        return
    for key, value in config.items():
        place = ".".join([*at, key])
        expect(key in known, f"autonomos.yaml: {place} is no setting")
        is_secret = SECRET.search(key) and not key.endswith("_file")
        expect(not is_secret, f"autonomos.yaml: {place} is a secret and stands in clear")
        check_settings(value, (*at, key))


def check_dockerfile(text):
    lines = re.sub(r"\\\n", " ", text).splitlines()
    stages, user = set(), None
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            image, *name = rest.split(" AS ")
            expect(image in stages or PINNED.match(image), f"Dockerfile: {image} is not pinned to a version")
            stages.update(name)
            user = None
        elif word == "USER":
            user = rest
        elif word == "RUN" and "apt-get install" in rest:
            expect("--no-install-recommends" in rest, "Dockerfile: apt-get installs what it recommends")
            expect("rm -rf /var/lib/apt/lists" in rest, "Dockerfile: the lists of apt-get stay in the image")
        expect(word != "ADD", "Dockerfile: ADD fetches and unpacks, use COPY")
    expect(len(stages) > 0, "Dockerfile: it is built in one stage")
    expect(user and re.match(r"^[1-9]\d*:[1-9]\d*$", user), f"Dockerfile: it ends as user {user}, which must be a number")
    words = {line.split(" ")[0] for line in lines}
    expect("HEALTHCHECK" in words and "ENTRYPOINT" in words, "Dockerfile: HEALTHCHECK or ENTRYPOINT is missing")


def check_service(name, service, services):
    is_ours = service["image"].startswith(OURS)
    waited_for = [other.get("depends_on", {}).get(name, {}) for other in services.values()]
    is_once = any(how.get("condition") == "service_completed_successfully" for how in waited_for)
    expect(PINNED.match(service["image"]), f"{name}: {service['image']} is not pinned to a version")
    if is_once:
        expect(service.get("restart") == "no", f"{name}: is waited for to end, and restarted")
    else:
        check = service.get("healthcheck", {})
        expect("test" in check and "start_period" in check, f"{name}: has no health check with a start_period")
        expect(service.get("restart") == "unless-stopped", f"{name}: is not restarted when it ends")
    needed = service.get("depends_on", {})
    expect(isinstance(needed, dict), f"{name}: depends_on has no conditions")
    for other, how in needed.items() if isinstance(needed, dict) else ():
        expect(other in services, f"{name}: waits for {other}, which is not there")
        allowed = {"service_healthy", "service_completed_successfully"}
        expect(how.get("condition") in allowed, f"{name}: waits for {other} to start, not to be of use")
    for port in service.get("ports", []):
        expect(str(port).startswith("127.0.0.1:"), f"{name}: port {port} is open to others than this machine")
    check_environment(name, service, is_ours)
    if is_ours:
        check_ours(name, service)


def check_environment(name, service, is_ours):
    image = service["image"].rsplit(":", 1)[0]
    for variable, value in service.get("environment", {}).items():
        if is_ours:
            expect(variable in program_variables, f"{name}: nobody reads {variable}")
        else:
            expect(variable.startswith(OF_IMAGES.get(image, "?")), f"{name}: {image} does not read {variable}")
        if SECRET.search(variable) and not variable.endswith("_FILE"):
            expect(VARIABLE.match(str(value)), f"{name}: {variable} stands in clear")


def check_ours(name, service):
    user = str(service.get("user", "0"))
    expect(re.match(r"^[1-9]\d*:[1-9]\d*$", user), f"{name}: runs as {user}")
    expect(service.get("read_only") is True, f"{name}: may write to its image")
    expect(service.get("cap_drop") == ["ALL"], f"{name}: keeps capabilities")
    expect("no-new-privileges:true" in service.get("security_opt", []), f"{name}: may gain privileges")
    words = service.get("command", [])
    for word, following in zip(words, [*words[1:], ""]):
        if word.startswith("--"):
            expect(word[2:].replace("-", "_") in options, f"{name}: there is no option {word}")
        if word == "--roles":
            expect(set(following.split(",")) <= roles, f"{name}: {following} is no role")


def check_variables(text, example):
    named = set(VARIABLE.findall(text)) | set(re.findall(r"\{environment: (\w+)\}", text))
    said = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    for variable in sorted(named ^ set(said)):
        expect(False, f"{variable} is not both in compose.yaml and in .env.example")
    for variable, value in said.items():
        expect(not (SECRET.search(variable) and value), f".env.example: {variable} has a value, which many would keep")


program = source("api/src", "connectors/src", "pipeline/src")
options = set(re.findall(r"#\[arg\(long.*?\)\]\s*(?:#\[.*?\]\s*)*pub (\w+):", program, re.DOTALL))
options |= {name.replace("-", "_") for name in re.findall(r'#\[arg\(long = "([\w-]+)"', program)}
roles = set(re.findall(r'Self::\w+ => "(\w+)"', (ROOT / "api/src/roles/roster.rs").read_text()))
scripts = (HERE / "entrypoint.sh").read_text()
program_variables = set(re.findall(r'"(AUTONOMOS_\w+)"', program)) | set(re.findall(r"\$\{(\w+)", scripts)) | OF_CLIENTS

compose_text = (HERE / "compose.yaml").read_text()
compose = yaml.safe_load(compose_text)
check_dockerfile((HERE / "Dockerfile").read_text())
check_settings(yaml.safe_load((HERE / "autonomos.yaml").read_text()))
check_variables(compose_text, (HERE / ".env.example").read_text())
for name, service in compose["services"].items():
    check_service(name, service, compose["services"])
used = {str(volume).split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])}
expect({volume for volume in used if not volume.startswith(".")} == set(compose["volumes"]), "volumes are not those used")

for message in wrong:
    print(message, file=sys.stderr)
print(f"docker/: {len(compose['services'])} services, {len(wrong)} faults")
sys.exit(1 if wrong else 0)
