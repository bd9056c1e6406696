"""Calls every operation of the server's own OpenAPI file with generated data, as two tenants and three roles each, and as
nobody, and holds each answer against that file: no 500, no answer outside its schema, nothing of the other tenant.

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
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

import line
from members import AGAIN, ROLES, Tenant, good_calls
from verdict import Campaign

CHECKS = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
          checks.response_headers_conformance, checks.response_schema_conformance]
# What a path's parameter of an operation names, by the first word of the path behind /api/v1.
NAMED = {"sessions": "session", "users": "user", "keys": "key", "connections": "connection", "views": "view",
         "quarantine": "quarantined"}
# They end what others need: called with tokens of their own alone.
ENDING = {"logout", "change_password", "delete_tenant", "remove_user", "change_user", "end_session", "revoke_key",
          "delete_connection"}
# Rationed by address, a few in a minute.
SIGN_INS, SIGN_INS_MAX = {"register", "login", "accept"}, 20


class Caller:
    """Makes calls and keeps what came of them."""

    def __init__(self, campaign, base, tenants):
        self.campaign, self.base, self.tenants = campaign, base, tenants
        self.seen = collections.defaultdict(collections.Counter)
        self.calls = 0

    def call(self, case, who, token):
        """One call, again as long as its rate turns it away; its answer is held against the file."""
        name = case.operation.definition.raw.get("operationId", case.operation.label)
        if name == "watch_events":
            # A stream ends by itself when it is asked to.
            case.query = {**(case.query or {}), "seconds": 1}
        headers = {"authorization": f"Bearer {token}"} if token else {}
        for _ in range(AGAIN):
            answer = case.call(base_url=self.base, headers=headers, timeout=60)
            if answer.status_code != 429:
                break
            self.seen[name][429] += 1
            time.sleep(min(float(answer.headers.get("retry-after", ["1"])[0]), 3))
        self.calls += 1
        self.seen[name][answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
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
        if answer.status_code not in (401, 429):
            self.campaign.anomaly(f"{name} answers {answer.status_code} to nobody; {case.as_curl_command()[:400]}")


def place(case, tenant, foreign, rng):
    """Puts ids that exist into a path: mostly the tenant's own, sometimes the other's, sometimes what was generated."""
    for parameter in list(case.path_parameters or {}):
        named = next((NAMED[word] for word in reversed(case.path.split("/")) if word in NAMED), None)
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
    name = operation.definition.raw["operationId"]
    good = good_calls(tenant).get(name)
    if good is None:
        if "security" in operation.definition.raw:
            caller.campaign.anomaly(f"members.py does not say how {name} succeeds")
        return
    path, body, headers, token = pad(good())
    try:
        tenant.call(operation.method.upper(), path, body, token=token, headers=headers)
        caller.seen[name][200] += 1
    except line.Failed as error:
        caller.campaign.anomaly(f"{name} does not succeed as {tenant.name}: {error}")


def pad(call):
    """A call's path, body, headers and token; what it does not name is nothing."""
    path, body, headers, token = (*call, *[None] * (4 - len(call)))
    return path, body, headers, token


def exercise(caller, operation, count, seed):
    """Calls one operation with generated data as everybody."""
    name = operation.definition.raw.get("operationId", operation.label)
    rng = random.Random(f"{seed} {name}")
    needs_token = bool(operation.definition.raw.get("security"))
    for tenant in caller.tenants:
        succeed(caller, operation, tenant)
    whos = [(tenant, role) for tenant in caller.tenants for role in ROLES]
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

    generated(operation, min(count, SIGN_INS_MAX) if name in SIGN_INS else count, seed, use)
    if name in ENDING:
        for tenant in caller.tenants:
            tenant.renew()


def table(caller, operations):
    """Prints what each operation answered, and notes those that never succeeded."""
    for operation in operations:
        name = operation.definition.raw.get("operationId", operation.label)
        counts = caller.seen[name]
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
        with line.Server(scratch / "data", more=roots) as server:
            base = f"http://{server.listen}"
            tenants = [Tenant(base, scratch / "data", name, scratch) for name in names]
            with line.DIRECT.open(f"{base}/openapi.json") as answer:
                schema = schemathesis.openapi.from_dict(json.load(answer))
            operations = [result.ok() for result in schema.get_all_operations()]
            caller = Caller(campaign, base, tenants)
            for operation in operations:
                exercise(caller, operation, arguments.calls // len(operations) + 1, arguments.seed)
                campaign.cycle(every=10, total=len(operations))
            table(caller, operations)
            campaign.fired("calls")
            print(f"contract: {caller.calls} generated calls of {len(operations)} operations")
            if not server.is_running():
                campaign.anomaly(f"the server has ended: {server.said()}")
    campaign.end()


if __name__ == "__main__":
    main()
