"""Two tenants with the same keys and the same table names: no statement of one reads a row of the other.

Every value of a tenant's rows carries that tenant's canary. Statements are generated from a seed: joins, CTEs,
unions, information_schema, other catalogs and schemas, file paths, table functions and scalar functions. A dumb scanner
looks for the other tenant's canary, name and id in the bytes that come back, errors included: as they are, in capitals,
backwards, in hex and in base64, whole or in part. That it is not blind is shown first, on one's own canary.

    isolation.py --seed 1 --count 10000
"""

import argparse
import base64
import csv
import pathlib
import random
import shutil
import subprocess
import tempfile

import line
from verdict import Campaign

TENANTS = ("acme", "globex")
FIELDS = ["Id", "Name", "AccountId", "StageName", "Amount", "CloseDate", "OwnerId", "Probability", "Type",
          "CreatedDate", "LastModifiedDate"]


def write_rows(path, canary, rows):
    """A file whose every text bears the canary; the keys are the same for all tenants."""
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(FIELDS)
        for n in range(rows):
            writer.writerow([f"0065g{n:010}AAQ", f"{canary} deal {n}", f"{canary}-account", f"{canary}-stage", n * 10,
                             "2025-06-30", f"{canary}-owner", 50, f"{canary}-type", "2025-01-01T00:00:00Z",
                             "2025-01-02T00:00:00Z"])


# So many letters of a secret in a row are no chance.
PART = 12
# Scalar functions over a text; %s is a column. Those that the engine does not have are refused, which is as good.
SCALARS = [
    "upper(%s)", "lower(%s)", "initcap(%s)", "reverse(%s)", "reverse(upper(%s))", "concat(%s, '-', %s)",
    "concat_ws('|', %s, %s)", "%s || %s", "substr(%s, 3, 18)", "substring(%s from 5 for 16)", "left(%s, 20)", "right(%s, 24)",
    "encode(%s, 'hex')", "encode(%s, 'base64')", "cast(%s as bytea)", "cast(reverse(%s) as bytea)", "decode(%s, 'hex')",
    "to_hex(ascii(%s))", "ascii(%s)", "md5(%s)", "sha256(%s)", "digest(%s, 'md5')", "translate(%s, 'abc', 'xyz')",
    "replace(%s, 'canary', '')", "regexp_replace(%s, 'c(.*)', '\\1')", "regexp_match(%s, 'canary.*')", "split_part(%s, ' ', 1)",
    "lpad(%s, 60, '*')", "rpad(%s, 60, '*')", "repeat(%s, 2)", "btrim(%s)", "trim(both 'c' from %s)", "overlay(%s placing 'X' from 1)",
    "strpos(%s, 'canary')", "char_length(%s)", "coalesce(%s, 'none')", "nullif(%s, '')", "case when %s like 'c%%' then %s end",
    "cast(%s as varchar)", "arrow_typeof(%s)", "string_to_array(%s, ' ')", "make_array(%s, %s)", "struct(%s)",
    "array_to_string(make_array(%s), ',')", "quote_literal(%s)", "hex(%s)", "unhex(%s)", "to_char(now(), %s)", "chr(ascii(%s))",
]


def parts(text, length=PART):
    """Every run of so many characters of a text."""
    return {text[at:at + length].encode() for at in range(len(text) - length + 1)}


class Scanner:
    """Finds a secret of random letters in bytes, in the forms that scalar functions give it, whole or in part."""

    FORMS = ("plain", "capitals", "backwards", "hex", "base64")

    def __init__(self, secret):
        self.secret = secret
        backwards, hexed = secret[::-1], secret.encode().hex()
        # Three offsets, because base64 takes three bytes at a time; the edges depend on what stands beside.
        shifted = [base64.b64encode(b" " * shift + secret.encode()).decode()[4:-4] for shift in range(3)]
        self.parts = dict(zip(self.FORMS, (
            parts(secret), parts(secret.upper()), parts(backwards) | parts(backwards.upper()),
            parts(hexed, 2 * PART) | parts(hexed.upper(), 2 * PART), set().union(*map(parts, shifted)))))

    # What brings a secret out in a form; the engine has nothing that gives base64.
    SHOWN_BY = {"plain": "substr(name, 3, 18)", "capitals": "upper(name)", "backwards": "reverse(name)",
                "hex": "cast(name as bytea)"}

    def found(self, said):
        """The forms that occur."""
        return [form for form, wanted in self.parts.items() if any(part in said for part in wanted)]


class Statements:
    """Statements that a curious or hostile user might try."""

    def __init__(self, rng, other_id, other_name, data_dir):
        self.rng = rng
        folder = f"{data_dir}/views/{other_id}"
        self.tables = ["opportunities", "opportunities", "opportunities", "opportunities__deleted"]
        self.foreign = [
            f'{other_name}.opportunities', f'{other_name}.public.opportunities', f'"{other_id}".opportunities',
            f'"{other_id}".public.opportunities', f'"{folder}/opportunities"', f"'{folder}/opportunities'",
            f'"{folder}/opportunities/*.parquet"', f'"file://{folder}/opportunities"', '"../opportunities"',
            f'"../{other_id}/opportunities"', f'datafusion.public."{other_id}"', f'"views/{other_id}/opportunities"',
            f"read_parquet('{folder}/opportunities/*.parquet')", f"parquet_metadata('{folder}/opportunities')",
            f"delta_scan('{folder}/opportunities')", f"read_csv('{data_dir}/*')", f"read_json('{data_dir}/*')",
            f"'{data_dir}'", "information_schema.tables", "information_schema.columns", "information_schema.views",
            "information_schema.schemata", "information_schema.df_settings", "information_schema.routines",
            "pg_catalog.pg_tables", "system.tables", "range(0, 10)", "generate_series(1, 10)",
        ]
        self.columns = ["opportunity_id", "name", "account_id", "stage", "amount", "owner_id", "type", "extras", "*"]
        self.whole = [
            "show tables", "show all", "show columns from opportunities", "describe opportunities",
            "explain select * from opportunities", "explain verbose select * from opportunities",
            "explain analyze select * from opportunities",
            f"create external table stolen stored as parquet location '{folder}/opportunities'",
            f"copy opportunities to '{data_dir}/out.csv'", "drop table opportunities", "set datafusion.catalog.default_schema = 'x'",
            f"create table stolen as select * from '{folder}/opportunities'", "select version()", "select current_user",
            f"set datafusion.catalog.location = '{folder}'", "prepare p as select * from opportunities", "execute p",
            "create view v as select * from opportunities", "delete from opportunities", "truncate opportunities",
            f"insert into opportunities select * from {other_name}.opportunities", "select now()", "select 1; select 2",
        ]

    def scalar(self):
        """A scalar function of a text, sometimes of another function."""
        column = self.rng.choice(["name", "account_id", "stage", "owner_id", "type"])
        text = self.rng.choice(SCALARS).replace("%%", "%").replace("%s", column)
        if self.rng.random() < 0.2:
            text = self.rng.choice(["upper(%s)", "reverse(%s)", "concat(%s, '')", "substr(%s, 1, 40)"]).replace("%s", text)
        return text

    def relation(self, depth):
        """A table, another's table, a subquery or a join."""
        draw = self.rng.random()
        if depth > 2 or draw < 0.5:
            return self.rng.choice(self.tables)
        if draw < 0.7:
            return self.rng.choice(self.foreign)
        if draw < 0.82:
            return f"({self.select(depth + 1)}) as s{self.rng.randrange(1000)}"
        kind = self.rng.choice(["join", "left join", "full join", "cross join", "left semi join"])
        on = "" if kind == "cross join" else " on a.opportunity_id = b.opportunity_id"
        return f"{self.relation(depth + 1)} as a {kind} {self.relation(depth + 1)} as b{on}"

    def select(self, depth=0):
        """A query."""
        columns = ", ".join(self.rng.sample(self.columns, self.rng.randint(1, 2)))
        draw = self.rng.random()
        if draw < 0.35:
            columns = ", ".join(self.scalar() for _ in range(self.rng.randint(1, 2)))
        elif draw < 0.6:
            columns = self.rng.choice(["count(*)", "sum(amount)", "min(name), max(name)", "string_agg(name, ',')",
                                       "array_agg(owner_id)", "row_number() over (order by amount)"])
        text = f"select {columns} from {self.relation(depth)}"
        if self.rng.random() < 0.3:
            text += self.rng.choice([
                " where amount >= 0", " where name like '%canary%'", " where 1 = 1 or name is null",
                " where opportunity_id in (select opportunity_id from opportunities)",
                f" where exists (select 1 from {self.rng.choice(self.foreign)})"])
        if self.rng.random() < 0.2:
            text += f" union all {self.select(depth + 1)}" if depth < 2 else ""
        return text

    def one(self):
        """A statement."""
        draw = self.rng.random()
        if draw < 0.12:
            return self.rng.choice(self.whole)
        if draw < 0.25:
            inner = self.select(1)
            return f"with opportunities as ({inner}) select * from opportunities"
        return self.select()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=50)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    campaign = Campaign("isolation", arguments.seed, count=arguments.count)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="isolation-"))
    data_dir = scratch / "data"
    try:
        canaries = {tenant: f"canary{rng.getrandbits(64):016x}" for tenant in TENANTS}
        ids = {}
        for tenant in TENANTS:
            path = scratch / f"{tenant}.csv"
            write_rows(path, canaries[tenant], arguments.rows)
            arrived = line.run(["ingest", "--data-dir", str(data_dir), "--tenant", tenant, "--connection", "crm",
                                "--system", "salesforce", "--stream", "opportunity", "--key", "Id", "--version",
                                "LastModifiedDate", "--json", str(path)])
            line.reconcile(line.last_json(arrived))
            ids[tenant] = line.view_folder(data_dir, tenant).parent.name
        # The random parts alone: what all canaries and all ids of a moment begin with tells nobody's from another's.
        own = {tenant: Scanner(canaries[tenant].removeprefix("canary")) for tenant in TENANTS}
        scanners = {tenant: (own[tenant], Scanner(ids[tenant][-17:])) for tenant in TENANTS}
        for tenant in TENANTS:
            seen = line.query(data_dir, tenant, "select count(*), min(name) from opportunities")
            if canaries[tenant] not in seen or str(arguments.rows) not in seen:
                campaign.anomaly(f"{tenant} does not see its own rows: {seen!r}")
            for form, shown_by in Scanner.SHOWN_BY.items():
                said = line.query(data_dir, tenant, f"select {shown_by} from opportunities")
                if own[tenant].found(said.encode()) != [form]:
                    campaign.anomaly(f"the scanner does not see that {shown_by} gives a canary: {said[:200]}")
        answered = 0
        for n in range(arguments.count):
            mine, other = TENANTS if n % 2 == 0 else TENANTS[::-1]
            statement = Statements(rng, ids[other], other, data_dir).one()
            try:
                done = subprocess.run(
                    [line.program(), "query", "--data-dir", str(data_dir), "--tenant", mine, "--format",
                     rng.choice(["csv", "json", "table"]), statement], capture_output=True, timeout=300)
            except subprocess.TimeoutExpired:
                campaign.anomaly(f"no answer within 300 s: {statement}")
                continue
            said = done.stdout + done.stderr
            for scanner in scanners[other]:
                # An id stands in paths that statements name, and errors repeat those: then it is not looked for.
                if scanner.secret not in statement and (leaked := scanner.found(said)):
                    campaign.anomaly(f"{mine} read a secret of {other} ({', '.join(leaked)}) by: {statement}")
            if other not in statement and other.encode() in said.lower():
                campaign.anomaly(f"{mine} read the name of {other} by: {statement}")
            for form in own[mine].found(said):
                campaign.fired(f"own canary seen: {form}")
            if done.returncode < 0 or done.returncode > 100 or b"panicked" in said:
                campaign.anomaly(f"ended with {done.returncode} on: {statement}")
            campaign.fired("answered" if done.returncode == 0 else "refused")
            answered += done.returncode == 0 and canaries[mine].encode() in said
            campaign.cycle(every=500, total=arguments.count)
        if answered < arguments.count / 20:
            campaign.anomaly(f"only {answered} statements returned rows of one's own: the campaign proves little")
        for tenant in TENANTS:
            if f"\n{arguments.rows}\n" not in "\n" + line.query(data_dir, tenant, "select count(*) from opportunities"):
                campaign.anomaly(f"{tenant} lost rows")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
