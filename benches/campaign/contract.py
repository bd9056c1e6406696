"""Calls every operation of the server's own OpenAPI file with generated data, as two tenants, each with people of three
roles and a program, and as nobody, and holds each answer against that file: no 500, no answer outside its schema, no
success without a credential that is needed, nothing of the other tenant.

    contract.py --calls 5000

Each operation must succeed at least once: one that is new has to be told in `members.py` how, or the campaign fails.
"""

import argparse
import collections
import json
import pathlib
import random
import tempfile
import time
import warnings

import hypothesis
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core import failures
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

import line
from members import ADDRESSES, AGAIN, CALLERS, CONFIG as SERVER_CONFIG, ROLES, Tenant, good_calls
from verdict import Campaign

CHECKS = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
          checks.response_headers_conformance, checks.response_schema_conformance, checks.ignored_auth,
          checks.negative_data_rejection]
# What a parameter in a path names, by the last word before it that is here.
NAMED = {"sessions": "session", "users": "user", "keys": "key", "connections": "connection", "views": "view",
         "quarantine": "quarantined", "cases": "case", "runs": "run", "mappings": "opened", "drift": "opened",
         "webhooks": "webhook"}
# What a wrong request may be refused with, besides what the check knows.
REFUSED = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "414", "415", "422", "428", "429", "431", "5xx"]
CONFIG = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSED}}})
# They end what others need: called with tokens of their own alone.
ENDING = {"logout", "change_password", "delete_tenant", "remove_user", "change_user", "end_session", "revoke_key",
          "delete_connection", "end_run", "remove_webhook"}
# They change what they are called for, for good: each round of them has one of its own.
DECIDING = {"approve_case", "edit_case", "reject_case", "accept_case_as_removed", "revert_case", "snooze_case"}
# Left out: generated data opens no socket, which takes a handshake (`live.py`, `wire.py`); the metrics are Prometheus text
# that no schema describes, and who may read them is decided by the address alone.
LEFT_OUT = {"watch_events_by_socket", "metrics"}
# Rationed by address: called from many.
SIGN_INS = {"register", "login", "accept"}


def name_of(operation):
    """An operation's name."""
    return operation.definition.raw.get("operationId", operation.label)


class FromAnew(requests.adapters.HTTPAdapter):
    """Calls from an address that no other call came from."""

    def init_poolmanager(self, *arguments, **more):
        super().init_poolmanager(*arguments, source_address=(next(ADDRESSES), 0), **more)


def session_of(name):
    """The session to make a call with."""
    session = requests.Session()
    session.trust_env = False
    if name in SIGN_INS:
        session.mount("http://", FromAnew())
    return session


class Caller:
    """Makes calls and keeps what came of them."""

    def __init__(self, campaign, base, tenants):
        self.campaign, self.base, self.tenants = campaign, base, tenants
        self.seen = collections.defaultdict(collections.Counter)
        self.calls, self.session = 0, session_of("")

    def call(self, case, who, token):
        """One call, again as long as its rate turns it away; its answer is held against the file."""
        name = name_of(case.operation)
        if name == "watch_events":
            # A stream ends by itself when it is asked to.
            case.query = {**(case.query or {}), "seconds": 0}
        headers = {"authorization": f"Bearer {token}"} if token else {}
        more = {"timeout": 180, "session": session_of(name) if name in SIGN_INS else self.session}
        for _ in range(AGAIN):
            answer = case.call(base_url=self.base, headers=headers, **more)
            if answer.status_code != 429:
                break
            self.seen[name][429] += 1
            time.sleep(min(float(answer.headers.get("retry-after", ["1"])[0]), 3))
        self.calls += 1
        self.seen[name][answer.status_code] += 1
        # An end that we gave a stream may have made a wrong call a right one.
        left_out = [checks.negative_data_rejection] if name == "watch_events" else []
        try:
            case.validate_response(answer, checks=CHECKS, excluded_checks=left_out, headers=headers,
                                   transport_kwargs=more)
        except (failures.Failure, failures.FailureGroup) as failure:
            reasons = getattr(failure, "exceptions", [failure])
            said = "; ".join(f"{type(reason).__name__}: {reason}"[:400] for reason in reasons)
            self.campaign.anomaly(f"{name} as {who} answers {answer.status_code}: {said}; {case.as_curl_command()[:600]}")
        self.hold_apart(name, who, case, answer)
        return answer

    def hold_apart(self, name, who, case, answer):
        """Nothing of another tenant stands in an answer, unless the caller said it himself."""
        sent = repr((case.path_parameters, case.query, case.body, case.headers))
        for tenant in self.tenants:
            if not who.startswith(tenant.name) and tenant.word.encode() in answer.content and tenant.word not in sent:
                self.campaign.anomaly(f"{name} as {who} shows what is {tenant.name}'s")

    def is_refused(self, case, answer, name):
        """What needs a credential must refuse a caller without one."""
        # Where a ticket may stand in for a credential, one of the wrong form is told to be that.
        allowed = (400, 401, 429) if "ticket" in (case.query or {}) else (401, 429)
        if answer.status_code not in allowed:
            self.campaign.anomaly(f"{name} answers {answer.status_code} to nobody; {case.as_curl_command()[:400]}")


def place(case, tenant, foreign, rng):
    """Puts ids that exist into a path: mostly the tenant's own, sometimes the other's, sometimes what was generated."""
    if case.meta and case.meta.is_negative_at(ParameterLocation.PATH):
        # What was generated to be wrong stays wrong.
        return
    for parameter in list(case.path_parameters or {}):
        named = "stream" if parameter == "stream" else next((NAMED[word] for word in reversed(case.path.split("/")) if word in NAMED), None)
        whose = rng.choices([tenant, foreign, None], [6, 3, 1])[0]
        if named and whose:
            case.path_parameters[parameter] = whose.known[named]


def generated(operation, count, seed, use):
    """Generates calls of an operation, the same for the same seed."""
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except hypothesis.errors.Unsatisfiable:
            continue

        @hypothesis.seed(seed)
        @hypothesis.settings(max_examples=max(count // 2, 2), database=None, deadline=None, derandomize=False,
                             phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=strategy)
        def test(case):
            use(case)

        try:
            test()
        except (hypothesis.errors.Unsatisfiable, schemathesis.errors.SchemathesisError):
            # An operation without parameters has no wrong ones.
            pass


def succeed(caller, operation, tenant):
    """Makes the call of an operation that must succeed."""
    name = name_of(operation)
    good = good_calls(tenant).get(name)
    if good is None:
        if "security" in operation.definition.raw:
            caller.campaign.anomaly(f"members.py does not say how {name} succeeds")
        return
    path, body, headers, token = pad(good())
    try:
        tenant.call(operation.method.upper(), path, body, token=token, headers=headers)
        caller.seen[name][tenant.status] += 1
    except line.Failed as error:
        caller.campaign.anomaly(f"{name} does not succeed as {tenant.name}: {error}")


def pad(call):
    """A call's path, body, headers and token; what it does not name is nothing."""
    path, body, headers, token = (*call, *[None] * (4 - len(call)))
    return path, body, headers, token


def exercise(caller, operation, count, seed):
    """Calls one operation with generated data as everybody."""
    name = name_of(operation)
    rng = random.Random(f"{seed} {name}")
    needs_token = bool(operation.definition.raw.get("security"))
    whos = [(tenant, role) for tenant in caller.tenants for role in (ROLES if name in ENDING else CALLERS)]
    ending = {}

    def use(case):
        tenant, role = rng.choice(whos)
        foreign = next(other for other in caller.tenants if other is not tenant)
        if name in ENDING:
            # Whoever may end what: a user of its own for each role, who ends what is his or nobody's.
            if (tenant, role) not in ending:
                ending[tenant, role] = tenant.user(role)
            token = ending[tenant, role]
            place(case, foreign, foreign, rng)
        else:
            token = tenant.tokens[role]
            place(case, tenant, foreign, rng)
        if needs_token and rng.random() < 0.1:
            answer = caller.call(case, "nobody", None)
            caller.is_refused(case, answer, name)
        else:
            caller.call(case, f"{tenant.name}'s {role}", token)

    generated(operation, count, seed, use)
    for tenant in caller.tenants:
        if name in ENDING:
            tenant.renew()
        elif name in DECIDING:
            tenant.known["case"] = tenant.doubtful()


def check_file(campaign, file, names):
    """The file itself: every object that lists its members is closed, every operation has a name, and `members.py` speaks
    of none that is not there."""
    def objects(value, at):
        if isinstance(value, dict):
            if "properties" in value and value.get("additionalProperties") is not False:
                yield at
            for key, inner in value.items():
                yield from objects(inner, f"{at}/{key}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                yield from objects(inner, f"{at}/{number}")
    for at in objects(file, "#"):
        campaign.anomaly(f"the schema at {at} is open")
    operations = [operation for path in file["paths"].values() for operation in path.values()]
    ids = [operation.get("operationId") for operation in operations]
    if None in ids or len(set(ids)) != len(ids):
        campaign.anomaly(f"operations without a name of their own: {ids}")
    for stale in names - set(ids):
        campaign.anomaly(f"members.py tells of {stale}, which is no operation")


def rounds(caller, operations, calls, seed):
    """Rounds over all operations, until there were so many calls: those with few parameters have few calls to make."""
    while caller.calls < calls:
        before, each = caller.calls, (calls - caller.calls) // len(operations) + 1
        for operation in operations:
            exercise(caller, operation, each, seed + caller.campaign.cycles)
            caller.campaign.cycle(every=20)
        if caller.calls == before:
            raise line.Failed("no calls can be generated")


def table(caller, operations):
    """Prints what each operation answered, and notes those that never succeeded."""
    for operation in operations:
        counts = caller.seen[name := name_of(operation)]
        print(f"{operation.method.upper():7}{operation.path:52}" + "  ".join(f"{s}:{n}" for s, n in sorted(counts.items())))
        if not any(200 <= status < 300 for status in counts):
            caller.campaign.anomaly(f"{name} never succeeded")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    campaign = Campaign("contract", arguments.seed, calls=arguments.calls)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        names = ["alpha", "beta"]
        roots = [option for name in names for option in ("--files-root", f"{name}={scratch / name}")]
        for name in names:
            (scratch / name).mkdir()
        (scratch / "autonomos.yaml").write_text(SERVER_CONFIG)
        more = [*roots, "--config", str(scratch / "autonomos.yaml")]
        with line.Server(scratch / "data", more=more) as server:
            base = f"http://{server.listen}"
            tenants = [Tenant(base, scratch / "data", name, scratch) for name in names]
            with line.DIRECT.open(f"{base}/openapi.json") as answer:
                file = json.load(answer)
            check_file(campaign, file, set(good_calls(tenants[0])))
            operations = [result.ok() for result in schemathesis.openapi.from_dict(file, config=CONFIG).get_all_operations()]
            operations = [operation for operation in operations if name_of(operation) not in LEFT_OUT]
            caller = Caller(campaign, base, tenants)
            for operation in operations:
                for tenant in tenants:
                    succeed(caller, operation, tenant)
            rounds(caller, operations, arguments.calls, arguments.seed)
            table(caller, operations)
            campaign.fired("calls")
            print(f"contract: {caller.calls} generated calls of {len(operations)} operations")
            if not server.is_running():
                campaign.anomaly(f"the server has ended: {server.said()}")
    campaign.end()


if __name__ == "__main__":
    main()
