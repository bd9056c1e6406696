"""The whole workload through the line, held against the oracle: exact rows through our SQL and as two other Delta
readers see the folder, counts that reconcile, a rebuild that changes no row, and a second fold of the log that gives
the same events whatever the batches and threads.

    exact.py --seed 1 --records 1000000 --keys 100000
"""

import argparse
import pathlib
import shutil
import tempfile
import time

import line
import oracle
import workload
from verdict import Campaign


def tenant_is_exact(campaign, data_dir, tenant, file):
    """Ingests one tenant's file and compares its view in every way there is."""
    started = time.monotonic()
    counts = line.ingest(data_dir, tenant, [file["path"]])
    seconds = time.monotonic() - started
    if counts["in"] != file["records"]:
        campaign.anomaly(f"{tenant}: {file['records']} lines in the file, {counts['in']} records taken")
    if counts["visible"] != file["keys"]:
        # One record of each key counts in the end, be it a row or a delete; the folder was empty before.
        campaign.anomaly(f"{tenant}: {file['keys']} keys, but {counts['visible']} records counted as visible")
    con = oracle.connect()
    oracle.expected(con, [file["path"]])
    oracle.compare_by_sql(con, line.query(data_dir, tenant, oracle.SELECT))
    line.views(data_dir, tenant, "flush")
    for reader in oracle.compare_by_readers(con, line.view_folder(data_dir, tenant)):
        campaign.fired(f"equal by {reader}")
    line.views(data_dir, tenant, "rebuild")
    oracle.compare_by_sql(con, line.query(data_dir, tenant, oracle.SELECT))
    oracle.compare_by_readers(con, line.view_folder(data_dir, tenant))
    campaign.fired("equal after a rebuild")
    print(f"exact: {tenant}: {counts} in {seconds:.2f} s, {oracle.summary(con)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=4)
    arguments = parser.parse_args()
    campaign = Campaign("exact", arguments.seed, records=arguments.records, keys=arguments.keys)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="exact-"))
    data_dir = scratch / "data"
    try:
        files = workload.write(scratch / "w", arguments.records, arguments.keys, arguments.tenants, arguments.seed)
        for number, file in enumerate(files):
            try:
                tenant_is_exact(campaign, data_dir, f"tenant{number}", file)
            except (line.Failed, oracle.Mismatch) as error:
                campaign.anomaly(f"tenant{number}: {error}")
            campaign.cycle(every=1, total=len(files))
        try:
            hashes = [line.refold(data_dir, batch, threads) for batch, threads in ((1, 1), (777, 4), (100_000, 2))]
            if not hashes[0] or any(found != hashes[0] for found in hashes):
                campaign.anomaly(f"folds with other batches and threads differ: {hashes}")
            campaign.fired("equal by another fold")
        except line.Failed as error:
            campaign.anomaly(str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
